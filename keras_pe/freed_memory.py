"""Gives memory that was freed back to the system, which glibc would keep."""

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import tree


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
    into the holes: sixteen chunks of 256 pictures grew to 14 GB, where one takes 1.5
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
