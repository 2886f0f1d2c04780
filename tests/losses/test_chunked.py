"""The chunked losses against the plain ones and against float64."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

from keras_pe import losses
from tests.losses import float64
from tests.losses.cases import case
from tests.losses.embeddings import unit
from tests.losses.gradients import largest_difference, value_and_gradients, value_of

# 1, 2, 4 and 8 chunks of 24 rows, and one size that leaves a rest.
CHUNK_SIZES = [24, 12, 6, 3, 7]
LOSSES = ["softmax", "sigmoid", "distillation"]
IGNORING = ["softmax, ignore", "sigmoid, ignore"]
SCALE = 100.0  # the limit; a teacher's is 200


@functools.cache
def plain(name):
    it = case(name, SCALE)
    return value_and_gradients(
        lambda *inputs: it.plain(*inputs, **it.rows, **it.options), *it.inputs
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", [*LOSSES, *IGNORING])
def test_plain_loss_equals_float64(name):
    expected = case(name, SCALE).expected
    assert largest_difference(plain(name), expected, expected) < 1e-6


@pytest.mark.parametrize(
    ("name", "chunk_size"),
    [
        *((name, size) for name in LOSSES for size in CHUNK_SIZES),
        ("softmax", 100),  # above the batch
        *((name, size) for name in IGNORING for size in (6, 7)),
    ],
)
def test_value_and_gradients_equal_the_plain_ones(name, chunk_size):
    it = case(name, SCALE)
    options = {**it.rows, **it.options, "chunk_size": chunk_size}
    found = value_and_gradients(
        lambda *inputs: it.chunked(*inputs, **options), *it.inputs
    )
    assert largest_difference(found, plain(name), it.expected) < 1e-6
    assert largest_difference(found, it.expected, it.expected) < 1e-6


def test_embeddings_whose_products_are_rounded():
    x, y, scale = unit(0), unit(1), np.float32(14.3)
    expected = float64.softmax_contrastive(x, y, float(scale))
    for loss, options in (
        (losses.softmax_contrastive_loss, {}),
        (losses.chunked_softmax_contrastive_loss, {"chunk_size": 7}),
    ):
        found = value_and_gradients(
            lambda *inputs, loss=loss, options=options: loss(*inputs, **options),
            x,
            y,
            scale,
        )
        assert largest_difference(found, expected, expected) < 1e-6


# === Softmax ===
def in_sevens(*inputs):
    return losses.chunked_softmax_contrastive_loss(*inputs, chunk_size=7)


def test_a_batch_of_one_caption_has_no_negatives():
    options = {"caption_ids": np.zeros(24, "int32"), "duplicates": "ignore"}
    value, gradients = value_and_gradients(
        lambda *inputs: losses.chunked_softmax_contrastive_loss(
            *inputs, chunk_size=7, **options
        ),
        unit(0),
        unit(1),
        np.float32(100),
    )
    assert value == 0
    assert all(np.allclose(g, 0, atol=1e-7) for g in gradients)


@pytest.mark.parametrize("sign", [1, -1], ids=["identical", "opposite"])
def test_is_finite_at_the_largest_scale(sign):
    # All images alike and all texts alike, and pairs alike among different ones.
    for x in (np.repeat(unit(0)[:1], 24, axis=0), unit(0)):
        value, gradients = value_and_gradients(in_sevens, x, sign * x, np.float32(100))
        assert all(np.all(np.isfinite(g)) for g in gradients)
        expected = float64.softmax_contrastive(x, sign * x, 100.0).value
        # Of a perfect match only the rounding of logits of 100 is left.
        assert value == pytest.approx(expected, rel=1e-5, abs=1e-5)


@pytest.mark.quick
def test_low_precision_input_is_computed_in_float32():
    low = [ops.cast(unit(seed), "bfloat16") for seed in (0, 1)]
    as_float32 = [ops.convert_to_numpy(ops.cast(side, "float32")) for side in low]
    expected = float64.softmax_contrastive(*as_float32, 100.0).value
    assert value_of(in_sevens, *low, 100.0) == pytest.approx(expected, rel=1e-6)


def test_float_settings_of_keras_change_nothing():
    x, y = unit(0), unit(1)
    before = value_and_gradients(lambda *x: in_sevens(*x), x, y, np.float32(10))
    keras.config.set_floatx("float16")
    try:
        after = value_and_gradients(lambda *x: in_sevens(*x), x, y, np.float32(10))
    finally:
        keras.config.set_floatx("float32")
    assert before[0] == after[0]
    for one, other in zip(before[1], after[1], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.quick
@pytest.mark.parametrize("chunk_size", [0, -1, 2.5, None, True])
def test_chunk_sizes_that_make_no_sense(chunk_size):
    with pytest.raises(ValueError, match="chunk_size must be"):
        losses.chunked_softmax_contrastive_loss(
            unit(0), unit(1), 9.0, chunk_size=chunk_size
        )
