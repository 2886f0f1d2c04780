"""How much each patch resembles a chosen one."""

from typing import Any

import numpy as np
from keras import ops

from keras_pe.models.features import Features


def similarity_map(
    features: Features | Any, row: int, column: int, image: int | None = None
) -> np.ndarray:
    """Returns the cosine between a chosen patch and all patches.

    Args:
        features: `Features` of one layer, or `(batch, rows, columns, channels)`.
        row: row of the chosen patch, from 0 at the top; negatives count from the end.
        column: its column, from 0 at the left; negatives count from the end.
        image: the image whose patch all images are compared with, which shows
            correspondences. None compares each image with its own patch.

    Returns:
        float32 `(batch, rows, columns)`, from -1 to 1.

    Raises:
        ValueError: if there is no such patch or image.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> found = similarity_map(rng.normal(size=(1, 4, 6, 32)), row=3, column=5)
        >>> round(float(found[0, 3, 5]), 4)
        1.0
    """
    values = as_feature_map(features)
    images, rows, columns, _ = values.shape
    for name, place, size in (
        ("row", row, rows),
        ("column", column, columns),
        ("image", 0 if image is None else image, images),
    ):
        if not -size <= place < size:
            raise ValueError(
                f"{name}={place} is outside the features: {images} images of "
                f"{rows} rows and {columns} columns of patches, counted from 0."
            )
    lengths = np.linalg.norm(values, axis=-1, keepdims=True)
    unit = values / np.maximum(lengths, 1e-12)
    chosen = unit[:, row, column] if image is None else unit[[image], row, column]
    return (unit * chosen[:, None, None]).sum(axis=-1).astype("float32")


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
