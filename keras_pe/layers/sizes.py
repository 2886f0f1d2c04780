"""The one check that a size is a size: a whole number, at least 1."""

import numbers
from typing import Any


def check_sizes(hint: str = "", **sizes: Any) -> None:
    """Raises ValueError for the first size that is no whole number of at least 1.

    Args:
        hint: what else to tell the reader, a sentence.
        **sizes: the sizes by the names of the arguments that they were given as.

    Raises:
        ValueError: naming the argument.

    Example:
        >>> check_sizes(patch_size=16, hidden_dim=0)
        Traceback (most recent call last):
        ValueError: hidden_dim must be a whole number of at least 1, got 0.
    """
    for name, size in sizes.items():
        whole = isinstance(size, numbers.Integral) and not isinstance(size, bool)
        if not whole or size < 1:
            raise ValueError(
                f"{name} must be a whole number of at least 1, got {size!r}. "
                f"{hint}".rstrip()
            )
