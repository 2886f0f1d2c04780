"""The one check that numbers are numbers: whatever computes a score refuses NaN.

Comparisons with NaN are false, so a rank that counts what is better, a limit that
something must not exceed and an arg max all pass it on in silence. Arrays are therefore
looked at where they are collected, once, and the first bad place is named.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np


class NonFiniteError(ValueError, RuntimeError):
    """Embeddings, features, scores, weights, losses or gradients are not finite.

    A `RuntimeError` too: what stops a training run has always been one.
    """


def checked_embeddings(
    array: Any,
    what: str,
    row: str = "row",
    names: Sequence[Any] | None = None,
) -> np.ndarray:
    """Returns embeddings as float32, ready to be multiplied, or says why they are none.

    Products of int8 wrap and those of float16 overflow from 65504 on, both in silence.

    Args:
        array: `(rows, channels)`, any floating dtype, bfloat16 too.
        what: what the array is, for the error.
        row: what its first axis counts.
        names: one name a row, for the error.

    Returns:
        float32 of the same shape; float32 arrays are not copied.

    Raises:
        ValueError: for another dtype or number of axes.
        NonFiniteError: naming the first row that holds NaN, infinity or what is beyond
            the range of float32.

    Example:
        >>> checked_embeddings(np.ones((2, 2), "float16"), "embeddings").dtype
        dtype('float32')
    """
    values = np.asarray(array)
    # The kind of bfloat16 and float8 is V, but their names say what they are.
    if values.dtype.kind != "f" and "float" not in values.dtype.name:
        raise ValueError(
            f"{what}: got dtype {values.dtype}, expected floating-point numbers, such "
            "as float32. Bring quantised embeddings back to floats: "
            "scale * quantised.astype('float32')."
        )
    if values.ndim != 2:
        raise ValueError(
            f"{what}: got shape {values.shape}, expected two axes: {row}, channel. "
            "For a single one give array[None]."
        )
    with np.errstate(over="ignore"):
        single = values.astype("float32", copy=False)
    what = f"{what} as float32" if values.dtype.itemsize > 4 else what
    return check_finite(single, what, row, names)


def check_finite(
    array: Any,
    what: str,
    row: str = "row",
    names: Sequence[Any] | None = None,
    hint: str = "",
) -> np.ndarray:
    """Returns an array whose values are all finite, or says where the first is not.

    Args:
        array: `(rows, ...)` numbers of any floating or integer dtype, bfloat16 too.
        what: what the array is, for the error: "image embeddings of pe_core".
        row: what its first axis counts: "picture", "class", "sample".
        names: one name a row, such as a path, for the error.
        hint: what the reader can do about it, a sentence.

    Returns:
        The array, as NumPy, unchanged.

    Raises:
        NonFiniteError: naming the first row that holds NaN or infinity.

    Example:
        >>> check_finite([[1.0, 2.0], [float("nan"), 0.0]], "embeddings", "picture")
        Traceback (most recent call last):
        keras_pe.finite.NonFiniteError: embeddings: picture 1 of 2 holds NaN or \
infinity (1 of 2 values), and 0 more do. No score can be computed from them.
    """
    values = np.asarray(array)
    finite = np.isfinite(values)
    if finite.all():
        return values
    if values.ndim == 0:
        raise NonFiniteError(f"{what}: the value is {values}. {hint}".rstrip())
    by_row = finite.reshape(len(values), -1)
    bad_rows = np.flatnonzero(~by_row.all(axis=1))
    first = int(bad_rows[0])
    name = "" if names is None else f" ({names[first]})"
    raise NonFiniteError(
        f"{what}: {row} {first}{name} of {len(values)} holds NaN or infinity "
        f"({int((~by_row[first]).sum())} of {by_row.shape[1]} values), and "
        f"{len(bad_rows) - 1} more do. "
        f"{hint or 'No score can be computed from them.'}"
    )
