"""Losses on many devices: the mean of the shares is the loss of the whole batch."""

import numpy as np
import pytest
from keras import ops

from keras_pe import losses
from tests.losses.devices import mean_over_devices
from tests.losses.embeddings import unit
from tests.losses.gradients import largest_difference, value_and_gradients

pytestmark = pytest.mark.quick

BATCH = 16
IDS = np.array([0, 1, 2, 0, 3, 2, 0, 4] * 2, dtype="int32")
X, Y = unit(0, BATCH), unit(1, BATCH)
TEACHER_X, TEACHER_Y = unit(2, BATCH, channels=8), unit(3, BATCH, channels=8)
SCALE, BIAS = np.float32(14.3), np.float32(-5.0)

# Name: (loss of pictures, texts and its learned scalars; those scalars; other batches)
LOSSES = {
    "softmax": (losses.softmax_contrastive_loss, [SCALE], {}),
    "softmax, ignore": (
        losses.softmax_contrastive_loss,
        [SCALE],
        {"caption_ids": IDS},
    ),
    "sigmoid": (losses.sigmoid_contrastive_loss, [SCALE, BIAS], {}),
    "sigmoid, ignore": (
        losses.sigmoid_contrastive_loss,
        [SCALE, BIAS],
        {"caption_ids": IDS},
    ),
    "distillation": (
        losses.kl_distillation_loss,
        [SCALE],
        {"teacher_image_embeddings": TEACHER_X, "teacher_text_embeddings": TEACHER_Y},
    ),
}
CHUNKED = {
    losses.softmax_contrastive_loss: losses.chunked_softmax_contrastive_loss,
    losses.sigmoid_contrastive_loss: losses.chunked_sigmoid_contrastive_loss,
    losses.kl_distillation_loss: losses.chunked_kl_distillation_loss,
}


def whole(name):
    """Returns value and gradients of the plain loss on one device."""
    loss, scalars, others = LOSSES[name]
    options = dict(others)
    if "caption_ids" in others:
        options["duplicates"] = "ignore"
    return value_and_gradients(lambda *inputs: loss(*inputs, **options), X, Y, *scalars)


def spread(name, num_devices, chunk_size=None, exchange=None):
    """Returns value and gradients of the same over devices."""
    loss, scalars, others = LOSSES[name]
    options = {"duplicates": "ignore"} if "caption_ids" in others else {}
    if chunk_size is not None:
        loss, options["chunk_size"] = CHUNKED[loss], chunk_size

    def mean(x, y, *scalars):
        def share(x, y, *rest):
            *rest, gather = rest
            named = dict(zip(others, rest, strict=True))
            return loss(x, y, *scalars, **named, **options, gather=gather)

        batches = (x, y, *(ops.convert_to_tensor(other) for other in others.values()))
        return mean_over_devices(share, num_devices, *batches, exchange=exchange)

    return value_and_gradients(mean, X, Y, *scalars)


@pytest.mark.parametrize("chunk_size", [None, 3], ids=["plain", "chunked"])
@pytest.mark.parametrize("num_devices", [1, 2, 4, 8])
@pytest.mark.parametrize("name", LOSSES)
def test_equals_one_device(name, num_devices, chunk_size):
    found = spread(name, num_devices, chunk_size)
    assert largest_difference(found, whole(name)) < 1e-6


def without_gradient(given, device):
    """What a plain all-gather gives: the rows of the others are constants."""
    rows = [x if i == device else ops.stop_gradient(x) for i, x in enumerate(given)]
    return ops.concatenate(rows, axis=0)


def own_rows_only(given, device):
    return ops.concatenate([given[device]] * len(given), axis=0)


@pytest.mark.parametrize("chunk_size", [None, 3], ids=["plain", "chunked"])
@pytest.mark.parametrize("exchange", [without_gradient, own_rows_only])
@pytest.mark.parametrize("name", LOSSES)
def test_a_wrong_gather_is_seen(name, exchange, chunk_size):
    found = spread(name, 4, chunk_size, exchange)
    assert largest_difference(found, whole(name)) > 1e-2


def own_order(given, device):
    """Every device has its own rows first."""
    return ops.concatenate([*given[device:], *given[:device]], axis=0)


def test_the_order_must_be_the_same_on_all_devices():
    # Where devices exchange sums over their own rows for everyone's.
    for name in ("softmax", "distillation"):
        found = spread(name, 4, 3, own_order)
        assert largest_difference(found, whole(name)) > 1e-2


def test_which_order_it_is_does_not_matter():
    def reversed_order(given, device):
        return ops.concatenate(given[::-1], axis=0)

    for name in LOSSES:
        found = spread(name, 4, 3, reversed_order)
        assert largest_difference(found, whole(name)) < 1e-6
