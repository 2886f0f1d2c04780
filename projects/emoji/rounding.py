"""Weights with fewer bits, which a wheel packs tighter."""

from typing import Any

import numpy as np

FLOAT32_FRACTION = 23  # bits behind the point of a float32


def rounded(values: np.ndarray, bits: int) -> np.ndarray:
    """Returns float32 values whose fraction has so many bits, the nearest ones.

    Args:
        values: of any shape, finite.
        bits: of the fraction that are kept, 1 to 22.

    Raises:
        ValueError: if `bits` is none of these, or a value is not finite.

    Example:
        >>> rounded(np.array([1.0, 1.26, -3.1], "float32"), 2).tolist()
        [1.0, 1.25, -3.0]
    """
    if not 1 <= bits < FLOAT32_FRACTION:
        raise ValueError(f"bits must be 1 to {FLOAT32_FRACTION - 1}, got {bits}.")
    values = np.asarray(values, "float32")
    if not np.isfinite(values).all():
        raise ValueError("Values that are not finite can't be rounded.")
    cut = FLOAT32_FRACTION - bits
    # Half of the last bit that stays, and one less where that bit is even: ties go to
    # even. A carry moves on into the exponent, as it should.
    pattern = values.view("uint32")
    half = np.uint32((1 << (cut - 1)) - 1)
    pattern = pattern + half + ((pattern >> np.uint32(cut)) & np.uint32(1))
    kept = pattern & ~np.uint32((1 << cut) - 1)
    return np.asarray(kept.view("float32"))


def round_weights(model: Any, bits: int) -> None:
    """Rounds all weights of a Keras model, in place.

    Args:
        model: built.
        bits: as of `rounded`.
    """
    for variable in model.weights:
        variable.assign(rounded(np.asarray(variable), bits))
