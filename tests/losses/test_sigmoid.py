"""The sigmoid losses against a loop over pairs and against float64."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_pe.losses import chunked_sigmoid_contrastive_loss, sigmoid_contrastive_loss
from tests.losses import float64
from tests.losses.embeddings import exact, unit
from tests.losses.gradients import largest_difference, value_and_gradients
from tests.losses.test_contrastive import IDS, SAME_CAPTION

pytestmark = pytest.mark.quick


def slow_loss(x, y, scale, bias):
    total = 0.0
    for i in range(len(x)):
        for j in range(len(y)):
            z = 1 if i == j else -1
            total += np.log1p(np.exp(-z * (scale * float(x[i] @ y[j]) + bias)))
    return total / len(x)


@pytest.mark.parametrize(("scale", "bias"), [(10.0, -10.0), (1.0, 0.0), (30.0, -8.0)])
def test_equals_the_slow_one(scale, bias):
    x, y = unit(0), unit(1)
    found = sigmoid_contrastive_loss(x, y, scale, bias)
    expected = slow_loss(x.astype(float), y.astype(float), scale, bias)
    assert float(ops.convert_to_numpy(found)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("ignore", [False, True], ids=["negative", "ignore"])
@pytest.mark.parametrize("chunk_size", [None, 24, 12, 6, 3, 7, 100])
@pytest.mark.parametrize(("make", "scale"), [(unit, 14.3), (exact, 100.0)])
def test_value_and_gradients_equal_float64(make, scale, chunk_size, ignore):
    arguments = make(0), make(1), np.float32(scale), np.float32(-5)
    options = {"caption_ids": IDS, "duplicates": "ignore"} if ignore else {}
    loss = sigmoid_contrastive_loss
    if chunk_size is not None:
        loss, options["chunk_size"] = chunked_sigmoid_contrastive_loss, chunk_size
    found = value_and_gradients(lambda *inputs: loss(*inputs, **options), *arguments)
    x, y, scale, bias = arguments
    expected = float64.sigmoid_contrastive(
        x, y, float(scale), float(bias), SAME_CAPTION if ignore else None
    )
    assert largest_difference(found, expected) < 1e-6


@pytest.mark.parametrize("sign", [1, -1], ids=["identical", "opposite"])
def test_is_finite_at_the_largest_scale(sign):
    x = np.repeat(unit(0)[:1], 24, axis=0)
    value, gradients = value_and_gradients(
        lambda *inputs: chunked_sigmoid_contrastive_loss(*inputs, chunk_size=7),
        x,
        sign * x,
        np.float32(100),
        np.float32(-10),
    )
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(g)) for g in gradients)


def test_a_perfect_match_is_exact():
    # The negatives' sum does not hold the matching pair's large term.
    eye = np.eye(4, dtype="float32")
    for loss, extra in (
        (sigmoid_contrastive_loss, {}),
        (chunked_sigmoid_contrastive_loss, {"chunk_size": 3}),
    ):
        found = float(ops.convert_to_numpy(loss(eye, eye, 30.0, -15.0, **extra)))
        assert found == pytest.approx(4 * np.log1p(np.exp(-15.0)), rel=1e-6)


def test_low_precision_input_is_computed_in_float32():
    x = ops.cast(unit(0), "bfloat16")
    for loss in (
        sigmoid_contrastive_loss(x, x, 10.0, -10.0),
        chunked_sigmoid_contrastive_loss(x, x, 10.0, -10.0, chunk_size=7),
    ):
        assert keras.backend.standardize_dtype(loss.dtype) == "float32"


def test_ignore_needs_caption_ids():
    with pytest.raises(ValueError, match="needs caption_ids"):
        sigmoid_contrastive_loss(unit(0), unit(1), 1.0, 0.0, duplicates="ignore")
