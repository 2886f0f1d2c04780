"""Arrays that a backend takes over as they are, without a copy."""

import math
from typing import Any

import keras
import ml_dtypes
import numpy as np

ALIGNMENT = 64  # bytes; JAX adopts such arrays and copies all others


def aligned_empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Returns an uninitialised array that backends can take over without a copy."""
    return _aligned(np.empty, shape, dtype)


def aligned_zeros(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Returns zeros that take no memory until they are written."""
    return _aligned(np.zeros, shape, dtype)


def _aligned(make: Any, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = make(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def aligned(array: np.ndarray) -> np.ndarray:
    """Returns an array in order and aligned; itself if it is both."""
    if array.flags.c_contiguous and array.ctypes.data % ALIGNMENT == 0:
        return array
    copy = aligned_empty(array.shape, array.dtype)
    copy[...] = array
    return copy


def adopted(array: np.ndarray) -> Any:
    """Returns an array as the backend takes it over without a copy.

    `variable.assign(array)` does so in float32 alone. Of bfloat16 Keras makes a copy on
    JAX, by `jnp.asarray(array).astype(...)`, and two on PyTorch, by way of float32.
    TensorFlow gets the array itself. It must not be written to any more.
    """
    if keras.backend.backend() == "jax":
        import jax

        return jax.device_put(array)
    if keras.backend.backend() == "torch":
        import torch

        if array.dtype == ml_dtypes.bfloat16:  # which PyTorch does not know of NumPy
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)
    return array
