"""Losses on many devices: the mean of the shares is the loss of the whole batch."""

import functools

import pytest
from keras import ops

from tests.losses.cases import case
from tests.losses.devices import mean_over_devices
from tests.losses.gradients import largest_difference, value_and_gradients

LOSSES = ["softmax", "sigmoid", "distillation"]
SCALE = 16.0


@functools.cache
def on_one_device(name):
    """Returns value and gradients of the plain loss."""
    it = case(name, SCALE)
    return value_and_gradients(
        lambda *inputs: it.plain(*inputs, **it.rows, **it.options), *it.inputs
    )


def error_on_devices(name, num_devices, chunk_size=None, exchange=None):
    """Returns by how much value and gradients differ from those of one device."""
    it = case(name, SCALE)
    options = dict(it.options)
    if chunk_size is not None:
        options["chunk_size"] = chunk_size

    def mean(x, y, *scalars):
        def share(x, y, *rest):
            *rest, gather = rest
            named = dict(zip(it.rows, rest, strict=True))
            loss = it.plain if chunk_size is None else it.chunked
            return loss(x, y, *scalars, **named, **options, gather=gather)

        batches = (x, y, *(ops.convert_to_tensor(other) for other in it.rows.values()))
        return mean_over_devices(share, num_devices, *batches, exchange=exchange)

    found = value_and_gradients(mean, *it.inputs)
    return max(
        largest_difference(found, other, it.expected)
        for other in (on_one_device(name), it.expected)
    )


@pytest.mark.parametrize(
    ("name", "num_devices", "chunk_size"),
    [
        *(("softmax", number, 2) for number in (1, 2, 4, 8)),
        *((name, number, 2) for name in LOSSES[1:] for number in (2, 8)),
        *((name, 4, None) for name in LOSSES),
        ("softmax, ignore", 4, 2),
        ("sigmoid, ignore", 4, None),
    ],
)
def test_equals_one_device(name, num_devices, chunk_size):
    assert error_on_devices(name, num_devices, chunk_size) < 1e-6


# === Gathers that are wrong ===
# Each takes what the devices gave, (devices, rows, ...), and the number of one.
def without_gradient(given, device):
    """What a plain all-gather gives: the rows of the others are constants."""
    own = ops.equal(ops.arange(given.shape[0]), device)
    own = ops.reshape(own, (-1, *[1] * (len(given.shape) - 1)))
    return ops.where(own, given, ops.stop_gradient(given))


def own_rows_only(given, device):
    return ops.repeat(given[device][None], given.shape[0], axis=0)


def own_rows_first(given, device):
    """Every device has another order."""
    return ops.roll(given, -device, axis=0)


@pytest.mark.parametrize(
    ("name", "exchange", "chunk_size"),
    [
        *((name, without_gradient, size) for name in LOSSES for size in (None, 2)),
        ("softmax", own_rows_only, 2),
    ],
)
def test_a_wrong_gather_is_seen(name, exchange, chunk_size):
    assert error_on_devices(name, 4, chunk_size, exchange) > 1e-2


@pytest.mark.parametrize("name", ["softmax", "distillation"])
def test_an_order_that_differs_between_devices_is_seen(name):
    # Where devices exchange sums over their own rows for everyone's: in chunks.
    assert error_on_devices(name, 4, 2, own_rows_first) > 1e-2


@pytest.mark.parametrize("name", ["softmax", "distillation"])
def test_which_order_it_is_does_not_matter(name):
    assert error_on_devices(name, 4, 2, lambda given, _: ops.flip(given, axis=0)) < 1e-6
