"""Embeddings for the tests of losses."""

import numpy as np


def unit(seed: int, count: int = 24, channels: int = 32) -> np.ndarray:
    """Returns random vectors of unit length."""
    x = np.random.default_rng(seed).normal(size=(count, channels))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype("float32")


def exact(seed: int, count: int = 24) -> np.ndarray:
    """Returns unit vectors of 1/4 and -1/4, whose products float32 holds exactly.

    At a logit scale of 100 the last bit of a logit is 1e-5 of the softmax: with these,
    what two computations differ by is not how they rounded their matrix products.
    """
    signs = np.random.default_rng(seed).integers(0, 2, size=(count, 16))
    return (signs * 0.5 - 0.25).astype("float32")
