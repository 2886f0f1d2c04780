"""The sigmoid losses against a loop over pairs, and at their extremes."""

import numpy as np
import pytest
from keras import ops

from keras_pe.losses import chunked_sigmoid_contrastive_loss, sigmoid_contrastive_loss
from tests.losses.embeddings import unit
from tests.losses.gradients import value_and_gradients, value_of

pytestmark = pytest.mark.quick


def slow_loss(x, y, scale, bias):
    total = 0.0
    for i in range(len(x)):
        for j in range(len(y)):
            z = 1 if i == j else -1
            total += np.log1p(np.exp(-z * (scale * float(x[i] @ y[j]) + bias)))
    return total / len(x)


def test_equals_the_slow_one():
    x, y = unit(0), unit(1)
    for scale, bias in ((10.0, -10.0), (1.0, 0.0), (30.0, -8.0)):
        found = sigmoid_contrastive_loss(x, y, scale, bias)
        expected = slow_loss(x.astype(float), y.astype(float), scale, bias)
        assert float(ops.convert_to_numpy(found)) == pytest.approx(expected, rel=1e-6)


def plain(*inputs):
    return sigmoid_contrastive_loss(*inputs)


def in_threes(*inputs):
    return chunked_sigmoid_contrastive_loss(*inputs, chunk_size=3)


def test_is_finite_at_the_largest_scale():
    x = np.repeat(unit(0)[:1], 4, axis=0)
    for sign in (1, -1):
        value, gradients = value_and_gradients(
            in_threes, x, sign * x, np.float32(100), np.float32(-10)
        )
        assert np.isfinite(value)
        assert all(np.all(np.isfinite(g)) for g in gradients)


@pytest.mark.parametrize("loss", [plain, in_threes])
def test_a_perfect_match_is_exact(loss):
    # The negatives' sum does not hold the matching pair's large term.
    eye = np.eye(4, dtype="float32")
    found = value_of(loss, eye, eye, 30.0, -15.0)
    assert found == pytest.approx(4 * np.log1p(np.exp(-15.0)), rel=1e-6)


def test_low_precision_input_is_computed_in_float32():
    x = ops.cast(np.eye(4), "bfloat16")
    for loss in (plain, in_threes):
        assert value_of(loss, x, x, 10.0, -10.0) > 0


def test_ignore_needs_caption_ids():
    with pytest.raises(ValueError, match="needs caption_ids"):
        sigmoid_contrastive_loss(unit(0), unit(1), 1.0, 0.0, duplicates="ignore")
