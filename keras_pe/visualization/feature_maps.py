"""Features as plain arrays on their grid of patches."""

from typing import Any

import numpy as np
from keras import ops

from keras_pe.models.features import Features


def as_feature_map(features: Features | Any) -> np.ndarray:
    """Returns features as float32 `(batch, rows, columns, channels)`.

    Args:
        features: `Features` of `encoder.features(...)`, whose class token is left out,
            or an array `(batch, rows, columns, channels)`.

    Raises:
        ValueError: if the shape is another one, or a value is not finite.
    """
    values = features.map() if isinstance(features, Features) else features
    if hasattr(values, "dtype"):
        values = ops.convert_to_numpy(ops.cast(values, "float32"))
    array = np.asarray(values, "float32")
    if array.ndim != 4 or 0 in array.shape:
        raise ValueError(
            f"Expected features of one layer: what encoder.features(images, layers=k) "
            f"returns, or an array (batch, rows, columns, channels); got shape "
            f"{array.shape}."
        )
    if not np.isfinite(array).all():
        raise ValueError("Some features are not finite: NaN or infinity has no place.")
    return array
