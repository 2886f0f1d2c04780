"""Many devices played by one process, with gradients through what they exchange."""

import contextlib
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

# `(what the devices gave, device) -> what this one gets`, both (devices, rows, ...).
Exchange = Callable[[Any, Any], Any]


class _OthersNotReady(Exception):
    pass


def mean_over_devices(
    loss: Callable[..., Any],
    num_devices: int,
    *batches: Any,  # each (batch, ...)
    exchange: Exchange | None = None,
) -> Any:
    """Returns the mean of what `loss(*shards, gather)` returns on each device.

    Differentiated as a whole, a gathered row gets the gradients of all its copies.

    Args:
        loss: takes a shard of every batch, and the gather of its device.
        num_devices: how many there are; they divide the batch.
        batches: arrays whose rows are shared out.
        exchange: for gathers that are wrong.
    """
    exchange = exchange or (lambda given, device: given)
    shards = [ops.reshape(x, (num_devices, -1, *x.shape[1:])) for x in batches]

    def gathered(given: Any, device: Any) -> Any:
        found = exchange(given, device)
        return ops.reshape(found, (-1, *found.shape[2:]))

    if keras.backend.backend() == "jax":
        import jax

        def share(*shard: Any) -> Any:
            def gather(x: Any) -> Any:
                given = jax.lax.all_gather(x, "devices")
                return gathered(given, jax.lax.axis_index("devices"))

            return loss(*shard, gather)

        return ops.mean(jax.vmap(share, axis_name="devices")(*shards))
    return _in_rounds(loss, num_devices, shards, gathered)


def _in_rounds(
    loss: Callable[..., Any], num_devices: int, shards: list[Any], gathered: Any
) -> Any:
    """Device after device runs until it gathers something new.

    Once all have got there, all start again and find it ready.
    """
    exchanged: list[Any] = []
    given: list[Any] = []

    def run(device: int) -> Any:
        calls = iter(list(exchanged))

        def gather(x: Any) -> Any:
            ready = next(calls, None)
            if ready is None:
                given.append(x)
                raise _OthersNotReady
            return gathered(ready, device)

        return loss(*(shard[device] for shard in shards), gather)

    while True:
        losses = []
        for device in range(num_devices):
            with contextlib.suppress(_OthersNotReady):
                losses.append(run(device))
        if not given:
            return sum(losses) / num_devices
        assert len(given) == num_devices, "some devices gather what others do not"
        exchanged.append(ops.stack(given))
        given.clear()
