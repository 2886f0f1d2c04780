"""Value and gradients of a function of arrays, on whichever backend runs."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops


def value_and_gradients(
    function: Callable[..., Any], *arrays: Any
) -> tuple[float, list[np.ndarray]]:
    """Returns a scalar function's value and its gradients, one for each array."""
    tensors = [ops.convert_to_tensor(array) for array in arrays]
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        positions = tuple(range(len(tensors)))
        value, gradients = jax.value_and_grad(function, positions)(*tensors)
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


def relative_difference(found: Any, expected: Any) -> float:
    """Returns the L2 norm of the difference over that of what was expected."""
    found, expected = np.asarray(found, float), np.asarray(expected, float)
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def largest_difference(found: Any, expected: Any) -> float:
    """Returns the largest relative difference of two `value_and_gradients`."""
    differences = [relative_difference(found[0], expected[0])]
    for pair in zip(found[1], expected[1], strict=True):
        differences.append(relative_difference(*pair))
    return max(differences)
