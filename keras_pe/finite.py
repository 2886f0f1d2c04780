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
