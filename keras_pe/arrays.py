"""Arrays between NumPy and the backend: taken over, and looked at, without a copy.

Then comes the one check that numbers are numbers: whatever computes a score refuses
NaN. Comparisons with NaN are false, so a rank that counts what is better, a limit that
something must not exceed and an arg max all pass it on in silence. Arrays are therefore
looked at where they are collected, once, and the first bad place is named.
"""

import ctypes
import functools
import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import keras
import ml_dtypes
import numpy as np
from keras import tree

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


# === Numbers that are none ===
class NonFiniteError(ValueError, RuntimeError):
    """Embeddings, features, scores, weights, losses or gradients are not finite.

    A `RuntimeError` too: what stops a training run has always been one.

    Example:
        >>> try:
        ...     check_finite(np.array([1.0, np.nan]), "scores", "row")
        ... except NonFiniteError as error:
        ...     print("scores" in str(error))
        True
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
        row: what its first axis counts: "image", "class", "sample".
        names: one name a row, such as a path, for the error.
        hint: what the reader can do about it, a sentence.

    Returns:
        The array, as NumPy, unchanged.

    Raises:
        NonFiniteError: naming the first row that holds NaN or infinity.

    Example:
        >>> check_finite([[1.0, 2.0], [float("nan"), 0.0]], "embeddings", "image")
        Traceback (most recent call last):
        keras_pe.arrays.NonFiniteError: embeddings: image 1 of 2 holds NaN or \
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


# === Memory that was freed: back to the system, which glibc would keep ===
@functools.cache
def malloc_trim() -> Callable[[int], int] | None:
    """Returns glibc's function of that name, or None on other systems."""
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
        trim = malloc_trim()
        if trim is not None:
            trim(0)


def release_freed_memory(results: Any) -> None:
    """Returns freed memory to the system after a chunk, forward and backward.

    glibc serves tensors of up to 32 MB from its heap. What a chunk leaves behind, a few
    small results, lies above all that it freed, and the next chunk's tensors seldom fit
    into the holes: sixteen chunks of 256 images grew to 14 GB, where one takes 1.5
    (2026-11). Trimming the heap takes about a hundredth of a chunk's time.

    Args:
        results: what the chunk returned. Elsewhere than on PyTorch's CPU tensors, or
            without glibc, there is nothing to do.
    """
    if keras.backend.backend() != "torch":
        return
    import torch

    if torch.compiler.is_compiling():  # nothing here can be traced
        return
    tensors = tree.flatten(results)
    trim = malloc_trim()
    if trim is None or any(tensor.device.type != "cpu" for tensor in tensors):
        return
    trim(0)

    def trim_again(gradient: Any) -> None:  # gradients come when the next chunk is done
        trim(0)

    for tensor in tensors:
        if tensor.requires_grad:
            tensor.register_hook(trim_again)
            break


# === Sizes that are asked for ===
def check_switches(**switches: Any) -> None:
    """Raises ValueError naming the first argument that is neither True nor False.

    Example:
        >>> check_switches(norm=True)
    """
    for name, switch in switches.items():
        if not isinstance(switch, bool):
            raise ValueError(f"{name} must be True or False, got {switch!r}.")


def is_whole(value: Any) -> bool:
    """Returns whether something is a whole number; True and False are none."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Returns whether something is a finite real number."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    try:
        return real and math.isfinite(float(value))
    except OverflowError:  # a whole number beyond all floats
        return False


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
        if not is_whole(size) or size < 1:
            raise ValueError(
                f"{name} must be a whole number of at least 1, got {size!r}. "
                f"{hint}".rstrip()
            )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns probabilities, along the last axis.

    Example:
        >>> softmax(np.array([[1000.0, 1000.0]])).tolist()
        [[0.5, 0.5]]
    """
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
