"""Builds models whose weights a file is about to fill: no random number is drawn.

Drawing takes longer than reading: for the bundled model on JAX seven of eight seconds,
most of them spent on compiling an initialiser for each shape.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import keras
import numpy as np

from keras_pe.arrays import adopted, aligned_zeros
from keras_pe.presets.manifest import model_variables

Model = TypeVar("Model", bound=keras.Model)


def build_unfilled(build: Callable[[], Model]) -> Model:
    """Builds a model whose weights are zeros, to be filled by `assign.fill`.

    Args:
        build: makes a `PECore`, a vision or a text encoder.

    Returns:
        The model. What is no weight of the architecture, such as the seeds of
        stochastic depth or a subclass' own layers, has its ordinary starting value.

    Example:
        >>> import keras_pe
        >>> sizes = dict(hidden_dim=32, num_layers=1, num_heads=2, intermediate_dim=64)
        >>> encoder = build_unfilled(lambda: keras_pe.PEVisionEncoder(32, 8, **sizes))
        >>> float(keras.ops.max(encoder.patch_embedding.position_embedding))
        0.0
    """
    # Variables made inside the scope get their values when it ends.
    with keras.StatelessScope():
        model = build()
        for variable in model_variables(model).values():
            variable._initializer = _zeros
    for layer in model._flatten_layers():
        # Keras' PyTorch layers register their parameters when they are built, but not
        # inside a scope; asking for them registers them.
        getattr(layer, "torch_params", None)
    return model


def _zeros(shape: Any, dtype: Any = None) -> Any:
    if keras.backend.backend() == "jax":  # would compile, and fill, each shape
        return adopted(aligned_zeros(tuple(shape), np.dtype(str(dtype))))
    return keras.ops.zeros(shape, dtype)
