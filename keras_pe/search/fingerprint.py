"""Recognises a model by what it makes of a fixed image."""

import numpy as np
from keras import ops

from keras_pe.arrays import check_finite
from keras_pe.models.compiled import no_gradient
from keras_pe.models.core import PECore


def fingerprint(model: PECore) -> np.ndarray:
    """Returns the model's unit-length embedding of a fixed colour gradient.

    Raises:
        NonFiniteError: if it holds NaN or infinity.
    """
    side = model.vision_encoder.image_size
    ramp = np.linspace(-1.0, 1.0, side, dtype="float32")
    rows, columns = np.meshgrid(ramp, ramp, indexing="ij")
    image = np.stack([rows, columns, rows * columns], axis=-1)[None]
    with no_gradient():
        embeddings = np.asarray(ops.convert_to_numpy(model.encode_image(image)))
    return check_finite(
        embeddings.astype("float32"),
        "this model's embedding of a test image",
        "image",
        hint="Look at its weights: training may have diverged.",
    )[0]
