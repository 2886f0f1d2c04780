"""The contrastive loss against a loop over rows."""

import keras
import numpy as np
import pytest

from keras_pe.losses import softmax_contrastive_loss

pytestmark = pytest.mark.quick


def unit(seed, count=5, channels=4):
    x = np.random.default_rng(seed).normal(size=(count, channels))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype("float32")


def slow_loss(x, y, scale):
    total = 0.0
    for i in range(len(x)):
        for a, b in ((x, y), (y, x)):
            logits = [scale * float(a[i] @ b[j]) for j in range(len(b))]
            total += np.log(np.sum(np.exp(logits))) - logits[i]
    return total / (2 * len(x))


@pytest.mark.parametrize("scale", [1.0, 14.3, 100.0])
def test_equals_the_slow_one(scale):
    x, y = unit(0), unit(1)
    found = float(keras.ops.convert_to_numpy(softmax_contrastive_loss(x, y, scale)))
    assert found == pytest.approx(
        slow_loss(x.astype(float), y.astype(float), scale), rel=1e-5
    )


def test_is_symmetric_and_small_for_a_perfect_match():
    x, y = unit(0), unit(1)
    a, b = (
        float(keras.ops.convert_to_numpy(softmax_contrastive_loss(*pair, 10.0)))
        for pair in ((x, y), (y, x))
    )
    assert a == pytest.approx(b, rel=1e-6)
    eye = np.eye(4, dtype="float32")
    assert (
        float(keras.ops.convert_to_numpy(softmax_contrastive_loss(eye, eye, 100.0)))
        < 1e-6
    )


def test_low_precision_input_is_computed_in_float32():
    x = keras.ops.cast(unit(0), "bfloat16")
    loss = softmax_contrastive_loss(x, x, 100.0)
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"
