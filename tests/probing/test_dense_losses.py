"""The loss of segmentation heads, value and gradient, against Keras' own."""

import keras
import numpy as np
import pytest

from keras_pe.probing.segmentation import masked_cross_entropy
from tests.losses.gradients import value_and_gradients

pytestmark = pytest.mark.quick


def slow_cross_entropy(masks, logits):
    """Takes the pixels that count one by one."""
    kept = np.argwhere(masks != 255)
    rows = [logits[tuple(place)] for place in kept]
    losses = keras.losses.sparse_categorical_crossentropy(
        masks[masks != 255].astype("int32"), keras.ops.stack(rows), from_logits=True
    )
    return keras.ops.mean(losses)


def test_equals_the_slow_one():
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 5, (2, 3, 4)).astype("uint8")
    masks[:, 1] = 255
    logits = (5 * rng.normal(size=(2, 3, 4, 5))).astype("float32")
    value, (gradient,) = value_and_gradients(
        lambda x: masked_cross_entropy(keras.ops.convert_to_tensor(masks), x), logits
    )
    wanted, (slow,) = value_and_gradients(
        lambda x: slow_cross_entropy(masks, x), logits
    )
    np.testing.assert_allclose(value, wanted, rtol=1e-6)
    np.testing.assert_allclose(gradient, slow, atol=1e-7)
    assert not gradient[:, 1].any()


def test_nothing_counts():
    masks = np.full((1, 2, 2), 255, "uint8")
    logits = np.ones((1, 2, 2, 3), "float32")
    value, (gradient,) = value_and_gradients(
        lambda x: masked_cross_entropy(keras.ops.convert_to_tensor(masks), x), logits
    )
    assert value == 0
    assert not gradient.any()
