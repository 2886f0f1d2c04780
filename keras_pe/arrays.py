"""Arrays between NumPy and the backend: taken over, and looked at, without a copy."""

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


def torch_array(tensor: Any) -> np.ndarray:
    """Returns a PyTorch tensor as a NumPy array, from any device, in its dtype."""
    import torch

    tensor = tensor.detach().as_subclass(torch.Tensor).cpu()
    if tensor.dtype is torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return np.asarray(tensor.numpy())


def host_array(array: Any) -> np.ndarray | None:
    """Returns an array as NumPy if that costs nothing, to look at its values.

    Args:
        array: an array or tensor of any kind.

    Returns:
        The values; None if they are not known yet (something is being traced) or lie
        on an accelerator, where a look would stop the queue of work.
    """
    if isinstance(array, np.ndarray):
        return array
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        concrete = isinstance(array, jax.Array) and not isinstance(
            array, jax.core.Tracer
        )
        if concrete and all(d.platform == "cpu" for d in array.devices()):
            return np.asarray(array) if array.is_fully_addressable else None
    elif backend == "tensorflow":
        import tensorflow as tf

        if tf.is_tensor(array) and hasattr(array, "numpy") and "CPU" in array.device:
            return np.asarray(array.numpy())
    elif backend == "torch":
        import torch

        if isinstance(array, torch.Tensor) and array.device.type == "cpu":
            return None if torch_traces() else torch_array(array)
    return None


def torch_traces() -> bool:
    """Returns whether PyTorch compiles, exports or transforms what runs now."""
    import torch

    transforms = getattr(torch._C, "_functorch", None)  # torch.func.grad, vmap, ...
    return bool(
        torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None  # torch.jit.trace
        or (transforms and transforms.peek_interpreter_stack() is not None)
    )
