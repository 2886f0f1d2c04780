"""One of two processes that train together on JAX; prints its losses as JSON.

Run:      KERAS_BACKEND=jax python -m tests.training.programs.jax_two_processes \
              127.0.0.1:12345 0
"""

import json
import sys

import jax
import keras
import numpy as np

from keras_pe.training.devices.sharding import whole_values
from tests.jax_contexts import share_contexts
from tests.training.programs.jax_training import sharded, train


def main(address: str, process: str) -> None:
    share_contexts()
    keras.distribution.initialize(address, num_processes=2, process_id=int(process))
    losses, trainer = train(sharded())
    kernel = trainer.model.vision_encoder.blocks[0].attention.qkv.kernel.value
    variables = trainer.model.weights
    with whole_values(variables):
        whole = {v.path: float(np.abs(np.asarray(v.value)).sum()) for v in variables}
    found = {
        "whole": whole,
        "processes": jax.process_count(),
        "losses": losses,
        "piece": list(kernel.addressable_shards[0].data.shape),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
