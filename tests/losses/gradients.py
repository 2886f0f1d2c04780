"""Value and gradients of a function of arrays, on whichever backend runs."""

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from tests.losses.float64 import Expected


def value_and_gradients(
    function: Callable[..., Any], *arrays: Any
) -> tuple[float, list[np.ndarray]]:
    """Returns a scalar function's value and its gradients, one for each array."""
    tensors = [ops.convert_to_tensor(array) for array in arrays]
    backend = keras.backend.backend()
    if backend == "jax":
        value, gradients = _compiled_on_jax(function, len(tensors))(*tensors)
    elif backend == "torch":
        import torch

        tensors = [tensor.detach().clone().requires_grad_() for tensor in tensors]
        value = function(*tensors)
        found = torch.autograd.grad(value, tensors, allow_unused=True)
        gradients = [
            torch.zeros_like(t) if g is None else g
            for t, g in zip(tensors, found, strict=True)
        ]
    else:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = function(*tensors)
        gradients = tape.gradient(value, tensors, unconnected_gradients="zero")
    value = float(ops.convert_to_numpy(value))
    return value, [
        ops.convert_to_numpy(ops.cast(g, "float32")).astype("float64")
        for g in gradients
    ]


@functools.cache
def _compiled_on_jax(function: Callable[..., Any], num_arrays: int) -> Any:
    # One by one, each operation would be compiled by itself.
    import jax

    return jax.jit(jax.value_and_grad(function, tuple(range(num_arrays))))


def value_of(function: Callable[..., Any], *arrays: Any) -> float:
    """Returns a scalar function's value alone; checks that it is float32."""
    if keras.backend.backend() == "jax":
        import jax

        function = jax.jit(function)
    value = function(*arrays)
    assert keras.backend.standardize_dtype(value.dtype) == "float32"
    return float(ops.convert_to_numpy(value))


def largest_difference(found: Any, other: Any, expected: Expected) -> float:
    """Returns the largest difference of two `value_and_gradients`.

    Of each tensor it is the largest entry's, as a share of the size that `expected`
    knows of it.
    """
    tensors = [zip([x[0], *x[1]], expected.sizes, strict=True) for x in (found, other)]
    return max(
        float(np.abs(np.asarray(a) - np.asarray(b)).max() / size)
        for (a, size), (b, _) in zip(*tensors, strict=True)
    )
