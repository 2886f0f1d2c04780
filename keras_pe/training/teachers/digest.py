"""What tells a frozen model from another: a hash of its weights."""

import hashlib

import keras
from keras import ops

from keras_pe.training.devices.sharding import whole_values


def weights_digest(model: keras.Model) -> str:
    """Returns a hash of a model's weights, in their order."""
    digest = hashlib.sha256()
    weights = [w for w in model.weights if "seed_generator" not in w.path]
    with whole_values(weights):
        for weight in weights:
            value = ops.convert_to_numpy(ops.cast(weight, "float32"))
            digest.update(f"{weight.dtype} {tuple(value.shape)}".encode())
            digest.update(value.tobytes())
    return digest.hexdigest()
