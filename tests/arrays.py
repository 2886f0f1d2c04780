"""Arrays of any backend as NumPy's, to be compared."""

from typing import Any

import keras
import numpy as np


def to_numpy(x: Any, dtype: str = "float32") -> np.ndarray:
    """Returns numbers of any backend and precision, with or without a gradient."""
    return keras.ops.convert_to_numpy(keras.ops.cast(x, "float32")).astype(dtype)
