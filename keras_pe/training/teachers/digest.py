"""What tells a model from another, whatever its class: a hash of its weights."""

import hashlib
from typing import Any

from keras import ops

from keras_pe.training.devices.sharding import whole_values


def weights_digest(*models: Any) -> str:
    """Returns a hash of the weights of models or layers, in their order.

    Names are left out: Keras numbers them by what was built before.
    """
    digest = hashlib.sha256()
    every = [weight for model in models for weight in model.weights]
    weights = [w for w in every if "seed_generator" not in w.path]
    with whole_values(weights):
        for weight in weights:
            value = ops.convert_to_numpy(ops.cast(weight, "float32"))
            digest.update(f"{weight.dtype} {tuple(value.shape)}".encode())
            digest.update(value.tobytes())
    return digest.hexdigest()
