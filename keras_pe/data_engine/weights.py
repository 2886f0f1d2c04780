"""What tells a model from another one, whatever its class."""

import hashlib
from typing import Any

import numpy as np
from keras import ops


def values_hash(*models: Any) -> str:
    """Returns a hash of the shapes, dtypes and values of all weights, in their order.

    Names are left out: Keras numbers them by what was built before.

    Args:
        *models: Keras models or layers, built.

    Example:
        >>> import keras
        >>> dense = keras.layers.Dense(2, kernel_initializer="ones")
        >>> dense.build((None, 3))
        >>> values_hash(dense)[:8]
        '878784d4'
    """
    digest = hashlib.sha256()
    for model in models:
        for variable in model.weights:
            value = np.ascontiguousarray(ops.convert_to_numpy(variable.value))
            digest.update(f"{value.shape} {variable.dtype};".encode())
            digest.update(value.tobytes())
    return digest.hexdigest()
