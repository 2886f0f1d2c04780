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
from tests.training.programs.jax_training import (
    aligning_trainer,
    cut_alignment,
    sharded,
    train,
)


def student_and_teacher() -> list[float]:
    """Returns sums over a kernel that an alignment begins with, and of its teacher."""
    keras.distribution.set_distribution(cut_alignment(2))
    trainer = aligning_trainer()
    keras.distribution.set_distribution(None)
    kernels = [
        encoder.blocks[0].attention.qkv.kernel
        for encoder in (trainer.model, *trainer.teachers)
    ]
    assert not any(kernel.value.is_fully_addressable for kernel in kernels)
    with whole_values(kernels):
        return [float(np.abs(np.asarray(kernel.value)).sum()) for kernel in kernels]


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
        "aligned": student_and_teacher(),
        "processes": jax.process_count(),
        "losses": losses,
        "piece": list(kernel.addressable_shards[0].data.shape),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
