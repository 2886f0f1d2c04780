"""Small presets of keras_pe, and what they are compared by."""

import numpy as np

import keras_pe
from tests.arrays import to_numpy
from tests.small_models import VISION, core, perturb

SIDE = VISION["image_size"]


def save(folder, kind="PECore"):
    """Writes a small preset of a family with its converter; returns its encoder."""
    converter = keras_pe.PEImageConverter(SIDE)
    if kind == "PECore":
        model = perturb(core())
        model.save_to_preset(folder, keras_pe.PETokenizer(8, 600), converter)
        return model.vision_encoder
    options = {key: VISION[key] for key in VISION if key != "output_dim"}
    model = perturb(getattr(keras_pe, kind)(**options))
    model.save_to_preset(folder, converter)
    return model


def layer_map(encoder, images, norm, layer=-1):
    """Returns the patches of an encoder's layer as a map, not compiled.

    The compiled `features` of JAX rounds otherwise, by some 1e-6.
    """
    return to_numpy(encoder.feature_map(images, layer, norm, training=False))


def largest_difference(one, other):
    """Returns by how much two outputs, or mappings of them, differ at most."""
    if isinstance(one, dict):
        assert set(one) == set(other)
        return max(largest_difference(one[key], other[key]) for key in one)
    return float(np.abs(to_numpy(one) - to_numpy(other)).max())
