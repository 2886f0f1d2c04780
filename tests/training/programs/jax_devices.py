"""Trains on one and on eight virtual devices; prints what came out as JSON.

Run:      KERAS_BACKEND=jax python -m tests.training.programs.jax_devices
"""

import json
import re

import keras

from keras_pe.layers.initializers import without_allocation
from keras_pe.training.devices.sharded_step import (
    CPU_OPTIONS,
    lower_step,
    step_inputs,
    use_virtual_devices,
)
from keras_pe.training.devices.sharding import check_sharded, sharded_parameters
from keras_pe.training.optimizers.lamb import Lamb
from keras_pe.training.trainers.contrastive_trainer import ContrastiveTrainer
from tests import small_models
from tests.jax_contexts import share_contexts
from tests.training.programs.jax_training import (
    SMALL,
    align,
    cut_alignment,
    data_parallel,
    sharded,
    small_model,
    train,
)


def error_of(call) -> str:
    """Returns the message of the error that a call must raise."""
    try:
        call()
    except (ValueError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def pieces(variables) -> dict:
    """Returns shape, shape of a piece, and number of pieces and copies by path."""
    return {
        variable.path: [
            list(variable.shape),
            list(variable.value.addressable_shards[0].data.shape),
            len(variable.value.addressable_shards),
        ]
        for variable in variables
    }


def state(trainer) -> list:
    """Returns all that a step changes, and what is frozen."""
    return [*trainer.variables, *trainer.optimizer.variables]


def compiled() -> dict:
    """Compiles a step of 64 rows for eight pieces of a model without weights."""
    with without_allocation():
        model = small_model()
    trainer = ContrastiveTrainer(model)
    trainer.compile(Lamb(0.01))
    distribution = sharded_parameters(trainer.variables, minimum_size=SMALL)

    def lowered(rows):
        inputs = step_inputs(small_models.VISION, small_models.TEXT, rows, 48)
        return lower_step(trainer, inputs, distribution)

    rows_error = error_of(lambda: lowered(12))
    program = lowered(64).compile(CPU_OPTIONS)
    variables = [*model.variables, *trainer.optimizer.variables[2:]]
    found = re.findall(
        r"= \(?\w+\[([\d,]*)\][^=]*? (all-gather|all-reduce|all-to-all)\(",
        program.as_text(),
    )
    return {
        "rows": rows_error,
        "values": [v.path for v in variables if v._value is not None],
        "argument_bytes": program.memory_analysis().argument_size_in_bytes,
        "collectives": [
            [operation, [int(side) for side in shape.split(",") if side]]
            for shape, operation in found
        ],
        "kernels": [list(v.shape) for v in model.variables if len(v.shape) == 2],
    }


def main() -> None:
    share_contexts()
    use_virtual_devices(8)
    losses = {}
    losses["one device"], alone = train(None)
    losses["8 copies"], copied = train(data_parallel())
    chunks = {"image_chunk_size": 8, "text_chunk_size": 8, "loss_chunk_size": 8}
    distribution = sharded(pieces=2)
    losses["4 copies of 2 pieces"], cut = train(distribution, **chunks)
    check_sharded(state(cut), distribution, SMALL)
    losses["an alignment"], _ = align(None)
    cut_too = cut_alignment(pieces=2)
    parts, aligned = align(cut_too, loss_chunk_size=128)
    losses["an alignment in pieces"] = parts
    check_sharded(state(aligned), cut_too, SMALL)
    found = {
        "devices": len(keras.distribution.list_devices()),
        "losses": losses,
        "cut": pieces(state(cut)),
        "copied": pieces(state(copied)),
        "teacher": pieces(aligned.teacher.variables),
        "weights": {
            name: {v.path: float(keras.ops.sum(abs(v.value))) for v in t.model.weights}
            for name, t in (("one", alone), ("copies", copied), ("pieces", cut))
        },
        "built too early": error_of(
            lambda: check_sharded(alone.variables, distribution, SMALL)
        ),
        "moments copied": error_of(
            lambda: check_sharded(copied.optimizer.variables, distribution, SMALL)
        ),
        "pieces of 3": error_of(lambda: sharded(pieces=3)),
        "too late": error_of(lambda: use_virtual_devices(4)),
        "compiled": compiled(),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
