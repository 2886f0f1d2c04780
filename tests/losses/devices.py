"""Many devices played by one process, with gradients through what they exchange."""

from collections.abc import Callable
from typing import Any

from keras import ops

Exchange = Callable[[list[Any], int], Any]


class _OthersNotReady(Exception):
    pass


def mean_over_devices(
    loss: Callable[..., Any],
    num_devices: int,
    *batches: Any,  # each (batch, ...)
    exchange: Exchange | None = None,
) -> Any:
    """Returns the mean of what `loss(*shards, gather)` returns on each device.

    Device after device runs until it gathers something new; once all have got there,
    all start again and find it ready. Differentiated as a whole, a gathered row gets
    the gradients of all its copies.

    Args:
        loss: takes a shard of every batch, and the gather of its device.
        num_devices: how many there are; they divide the batch.
        batches: arrays whose rows are shared out.
        exchange: `(what every device gave, device) -> what this one gets`; left out,
            the concatenation. For gathers that are wrong.
    """
    exchange = exchange or (lambda given, device: ops.concatenate(given, axis=0))
    shards = list(zip(*(ops.split(x, num_devices) for x in batches), strict=True))
    exchanged: list[list[Any]] = []
    while True:
        given, losses = [], []
        for device, shard in enumerate(shards):
            calls = iter(list(exchanged))

            def gather(x: Any, calls: Any = calls, device: int = device) -> Any:
                ready = next(calls, None)
                if ready is None:
                    given.append(x)
                    raise _OthersNotReady
                return exchange(ready, device)

            try:
                losses.append(loss(*shard, gather))
            except _OthersNotReady:
                continue
        if not given:
            return sum(losses) / num_devices
        assert len(given) == num_devices, "some devices gather what others do not"
        exchanged.append(given)
