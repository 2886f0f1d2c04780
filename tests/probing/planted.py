"""A model of which one layer alone carries the answer, and data with that answer."""

import keras
import numpy as np
from keras import ops

SIDE, PATCH, LAYERS = 16, 4, 4
CHANNELS = 6


@keras.saving.register_keras_serializable("keras_pe_tests")
class Planted(keras.layers.Layer):
    """Returns one map a layer: red in the planted one, green noise in the others.

    Each layer sees its own part of the green and blue noise, so that no two of them
    are alike; an embedding that is random but fixed makes the channels.
    """

    def __init__(self, layer: int, **kwargs):
        super().__init__(**kwargs)
        self.layer = layer
        rng = np.random.default_rng(0)
        self.matrices = rng.normal(size=(LAYERS, PATCH**2, CHANNELS)).astype("float32")

    def call(self, images):
        found = []
        for number in range(1, LAYERS + 1):
            plane = images[..., 0 if number == self.layer else 1 + number % 2]
            side = SIDE // PATCH
            x = ops.reshape(plane, (-1, side, PATCH, side, PATCH))
            x = ops.reshape(
                ops.transpose(x, (0, 1, 3, 2, 4)), (-1, side, side, PATCH**2)
            )
            found.append(
                ops.matmul(x, ops.convert_to_tensor(self.matrices[number - 1]))
            )
        return found

    def compute_output_shape(self, shape):
        side = SIDE // PATCH
        return [(shape[0], side, side, CHANNELS)] * LAYERS


def planted_model(layer):
    """Returns a Keras model with `LAYERS` outputs, of which `layer` has the answer."""
    images = keras.Input((SIDE, SIDE, 3))
    return keras.Model(images, Planted(layer)(images))


def noise(count, seed=0):
    """Returns images of noise."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.5, 0.5, (count, SIDE, SIDE, 3)).astype("float32")


def classified(count=90, classes=3):
    """Returns images whose class is the row of each patch in which red is bright."""
    images, labels = noise(count), np.arange(count) % classes
    rows = np.arange(SIDE) % PATCH == labels[:, None]
    images[..., 0] += rows[:, :, None]
    return images, labels.astype("int64")


def segmented(count=60):
    """Returns images with masks: 1 where red is bright, a whole number of patches."""
    rng = np.random.default_rng(1)
    grid = rng.integers(0, 2, (count, SIDE // PATCH, SIDE // PATCH))
    masks = grid.repeat(PATCH, axis=1).repeat(PATCH, axis=2).astype("uint8")
    images = noise(count)
    images[..., 0] += 2.0 * masks - 1.0
    return images, masks
