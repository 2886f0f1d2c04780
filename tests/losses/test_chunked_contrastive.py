"""The chunked contrastive loss against the plain one and against float64."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_pe.losses import chunked_softmax_contrastive_loss, softmax_contrastive_loss
from tests.losses import float64
from tests.losses.embeddings import exact, unit
from tests.losses.gradients import largest_difference, value_and_gradients
from tests.losses.test_contrastive import IDS, SAME_CAPTION

pytestmark = pytest.mark.quick

# 1, 2, 4 and 8 chunks of 24 rows, two sizes that leave a rest, and one above the batch.
CHUNK_SIZES = [24, 12, 6, 3, 7, 23, 100]


def both(x, y, scale, chunk_size, **options):
    """Returns values and gradients of the chunked and of the plain loss."""
    return [
        value_and_gradients(
            lambda *inputs, loss=loss, extra=extra: loss(*inputs, **extra, **options),
            x,
            y,
            np.float32(scale),
        )
        for loss, extra in (
            (chunked_softmax_contrastive_loss, {"chunk_size": chunk_size}),
            (softmax_contrastive_loss, {}),
        )
    ]


@pytest.mark.parametrize("chunk_size", CHUNK_SIZES)
@pytest.mark.parametrize(("make", "scale"), [(unit, 14.3), (exact, 100.0)])
def test_value_and_gradients_equal_the_plain_ones(make, scale, chunk_size):
    x, y = make(0), make(1)
    chunked, plain = both(x, y, scale, chunk_size)
    assert largest_difference(chunked, plain) < 1e-6
    expected = float64.softmax_contrastive(x, y, float(np.float32(scale)))
    assert largest_difference(chunked, expected) < 1e-6


@pytest.mark.parametrize("chunk_size", [24, 6, 7])
@pytest.mark.parametrize(("make", "scale"), [(unit, 14.3), (exact, 100.0)])
def test_equal_captions_are_left_out(make, scale, chunk_size):
    x, y = make(0), make(1)
    chunked, plain = both(x, y, scale, chunk_size, caption_ids=IDS, duplicates="ignore")
    assert largest_difference(chunked, plain) < 1e-6
    expected = float64.softmax_contrastive(x, y, float(np.float32(scale)), SAME_CAPTION)
    assert largest_difference(chunked, expected) < 1e-6


def test_a_batch_of_one_caption_has_no_negatives():
    ids = np.zeros(24, "int32")
    (value, gradients), _ = both(
        unit(0), unit(1), 100, 7, caption_ids=ids, duplicates="ignore"
    )
    assert value == 0
    assert all(np.allclose(g, 0, atol=1e-7) for g in gradients)


@pytest.mark.parametrize("sign", [1, -1], ids=["identical", "opposite"])
def test_is_finite_at_the_largest_scale(sign):
    # All pictures alike and all texts alike, and pairs alike among different ones.
    for x in (np.repeat(unit(0)[:1], 24, axis=0), unit(0)):
        chunked, plain = both(x, sign * x, 100, 7)
        for value, gradients in (chunked, plain):
            assert np.isfinite(value)
            assert all(np.all(np.isfinite(g)) for g in gradients)
        assert chunked[0] == pytest.approx(plain[0], rel=1e-5, abs=1e-5)


def test_low_precision_input_is_computed_in_float32():
    x = ops.cast(unit(0), "bfloat16")
    loss = chunked_softmax_contrastive_loss(x, x, 100.0, chunk_size=7)
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"
    plain = softmax_contrastive_loss(x, x, 100.0)
    assert float(loss) == pytest.approx(float(plain), rel=1e-4)


def test_float_settings_of_keras_change_nothing():
    x, y = unit(0), unit(1)
    before = both(x, y, 10, 7)[0]
    keras.config.set_floatx("float16")
    try:
        after = both(x, y, 10, 7)[0]
    finally:
        keras.config.set_floatx("float32")
    assert before[0] == after[0]
    assert largest_difference(after, before) == 0


@pytest.mark.parametrize("chunk_size", [0, -1, 2.5, None, True])
def test_chunk_sizes_that_make_no_sense(chunk_size):
    with pytest.raises(ValueError, match="chunk_size must be"):
        chunked_softmax_contrastive_loss(unit(0), unit(1), 9.0, chunk_size=chunk_size)
