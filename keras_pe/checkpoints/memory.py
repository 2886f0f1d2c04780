"""Keeps the peak memory of a load near one copy of the weights."""

import ctypes
import functools
import math
from typing import Any

import keras
import numpy as np

from keras_pe.arrays import adopted

BLOCK = 2**20  # bytes of a piece; about four are in memory at once


@functools.cache
def _malloc_trim() -> Any:
    """Returns glibc's malloc_trim, or None on another C library."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None


class FreedMemory:
    """Hands freed memory back to the system while weights are being replaced.

    A weight that is replaced is freed, but glibc keeps the pages in the arena of the
    thread that allocated them, where the next weight, read by another thread, does not
    find them: without this a load on JAX peaks at 1.7 times the file. So does what
    drawing the weights of a new model left behind, which goes back at once.

    Args:
        every: bytes of replaced weights between two returns.
    """

    def __init__(self, every: int = 64 * 2**20) -> None:
        self.every = every
        self._since = 0
        self.hand_back()

    def replaced(self, num_bytes: int) -> None:
        """Notes that a weight of so many bytes was replaced."""
        self._since += num_bytes
        if self._since >= self.every:
            self._since = 0
            self.hand_back()

    def hand_back(self) -> None:
        """Hands back what is free now."""
        trim = _malloc_trim()
        if trim is not None:
            trim(0)


def is_large(shape: tuple[int, ...], item_size: int) -> bool:
    """Whether a weight is assigned by pieces.

    A token embedding has 200 MB: in the smallest models a third of all weights, which
    must not be in memory twice.
    """
    return bool(shape) and math.prod(shape) * item_size > 2 * BLOCK


def row_blocks(shape: tuple[int, ...], item_size: int) -> list[slice]:
    """Returns the blocks of rows by which a weight is read; one if it is small.

    Args:
        shape: shape of the weight.
        item_size: bytes of an element in the file.
    """
    if not is_large(shape, item_size):
        return [slice(0, shape[0] if shape else 0)]
    size = math.prod(shape) * item_size
    rows = max(BLOCK * shape[0] // size, 1)
    return [slice(i, min(i + rows, shape[0])) for i in range(0, shape[0], rows)]


def assign_rows(variable: Any, rows: slice, array: np.ndarray) -> None:
    """Assigns rows of a Keras variable of PyTorch or TensorFlow, in place."""
    part = keras.ops.convert_to_tensor(adopted(array), dtype=variable.dtype)
    if keras.backend.backend() == "torch":
        variable.value.detach()[rows].copy_(part)
        return
    import tensorflow as tf

    # `variable.value[rows].assign(part)` would read the variable first, and a variable
    # that someone has read is copied as a whole before it is changed.
    value = variable.value
    for copy in getattr(value, "values", (value,)):  # one a device, under a strategy
        tf.raw_ops.ResourceStridedSliceAssign(
            ref=copy.handle,
            begin=[rows.start],
            end=[rows.stop],
            strides=[1],
            value=part,
        )
        # From then on each use of the weight would copy it, but for this.
        tf.raw_ops.DisableCopyOnRead(resource=copy.handle)
