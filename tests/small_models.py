"""Small models and images for unit tests."""

from typing import Any

import numpy as np

import keras_pe

VISION: dict[str, Any] = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_dim": 32,
    "num_layers": 3,
    "num_heads": 4,
    "intermediate_dim": 64,
    "output_dim": 16,
}
TEXT: dict[str, Any] = {
    "vocabulary_size": 600,
    "context_length": 8,
    "hidden_dim": 24,
    "num_layers": 2,
    "num_heads": 3,
    "intermediate_dim": 48,
    "output_dim": 16,
}


def vision_encoder(**changes: Any) -> keras_pe.PEVisionEncoder:
    """Returns a small vision encoder."""
    return keras_pe.PEVisionEncoder(**{**VISION, **changes})


def text_encoder(**changes: Any) -> keras_pe.PETextEncoder:
    """Returns a small text encoder."""
    return keras_pe.PETextEncoder(**{**TEXT, **changes})


def core(**changes: Any) -> keras_pe.PECore:
    """Returns a small dual encoder, of two blocks for images and one for texts."""
    changes = {"num_layers": 2, **changes}
    return keras_pe.PECore(
        vision_encoder(**changes), text_encoder(**{**changes, "num_layers": 1})
    )


def images(count: int = 2, height: int = 32, width: int = 32) -> np.ndarray:
    """Returns noise in [-1, 1] as images."""
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 1, (count, height, width, 3)).astype("float32")


def token_ids(count: int = 3, tokens: int = 8) -> np.ndarray:
    """Returns texts of different lengths: start, words, end, padding."""
    rng = np.random.default_rng(1)
    ids = rng.integers(1, 598, (count, tokens))
    ids[:, 0] = 598
    for row in range(count):
        end = 2 + row % (tokens - 2)
        ids[row, end] = 599
        ids[row, end + 1 :] = 0
    return ids.astype("int32")


def perturb(model: Any, seed: int = 0) -> Any:
    """Gives every weight a random value, so that no part is neutral; returns it."""
    rng = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        value = rng.normal(0, 0.2, tuple(variable.shape))
        if "gamma" in variable.path or variable.path.endswith("scale"):
            value = 1.0 + value
        variable.assign(value.astype("float32"))
    return model
