"""Trains on one and on many virtual devices; prints what came out as JSON.

Run:      KERAS_BACKEND=jax python -m tests.training.programs.jax_devices
"""

import json
import re

import keras

from keras_pe import PECore
from keras_pe.training.contrastive import ContrastiveTrainer
from keras_pe.training.lamb import Lamb
from keras_pe.training.sharded_step import (
    CPU_OPTIONS,
    compile_step,
    lower_step,
    step_inputs,
    use_virtual_devices,
)
from keras_pe.training.sharding import check_sharded, sharded_parameters
from keras_pe.training.unallocated import without_allocation
from tests import small_models
from tests.training.programs.jax_training import (
    BATCH,
    SMALL,
    data_parallel,
    sharded,
    train,
)


def error_of(call) -> str:
    """Returns the message of the error that a call must raise."""
    try:
        call()
    except (ValueError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def unallocated_trainer(**changes) -> ContrastiveTrainer:
    with without_allocation():
        vision = small_models.vision_encoder(**changes)
        text = small_models.text_encoder(remat=changes.get("remat", False))
        model = PECore(vision, text)
    trainer = ContrastiveTrainer(model)
    trainer.compile(Lamb(0.01))
    return trainer


def collectives(program: str) -> list[list]:
    """Returns operation and shape of what devices send each other."""
    found = re.findall(
        r"= \(?\w+\[([\d,]*)\][^=]*? (all-gather|all-reduce|all-to-all)\(", program
    )
    return [[op, [int(n) for n in shape.split(",") if n]] for shape, op in found]


def compiled() -> dict:
    """Compiles steps of a model without weights."""
    found = {}
    for remat in (False, True):
        trainer = unallocated_trainer(remat=remat, num_layers=6)
        distribution = sharded_parameters(trainer.variables, minimum_size=SMALL)
        inputs = step_inputs(small_models.VISION, small_models.TEXT, 1024, 32)
        found[f"remat {remat}"] = compile_step(
            trainer, inputs, distribution
        ).__dict__
    found["values"] = [
        variable.path
        for variable in [*trainer.model.variables, *trainer.optimizer.variables[2:]]
        if variable._value is not None
    ]
    trainer = unallocated_trainer()
    distribution = sharded_parameters(trainer.variables, minimum_size=SMALL)
    inputs = step_inputs(small_models.VISION, small_models.TEXT, 64, 48)
    program = lower_step(trainer, inputs, distribution).compile(CPU_OPTIONS).as_text()
    found["collectives"] = collectives(program)
    found["rows"] = error_of(
        lambda: lower_step(
            unallocated_trainer(),
            step_inputs(small_models.VISION, small_models.TEXT, 12, 32),
            distribution,
        )
    )
    return found


def main() -> None:
    use_virtual_devices(8)
    devices = keras.distribution.list_devices()
    losses = {}
    losses["one device"], alone = train(None)
    losses["2 copies"], _ = train(data_parallel(devices[:2]))
    losses["8 copies"], copied = train(data_parallel())
    losses["8 pieces"], cut = train(sharded())
    losses["4 copies of 2 pieces"], _ = train(sharded(pieces=2))
    losses["8 pieces, chunks"], _ = train(
        sharded(), image_chunk_size=8, text_chunk_size=8, loss_chunk_size=8
    )
    distribution = sharded()
    variables = [*cut.variables, *cut.optimizer.variables]
    check_sharded(variables, distribution, SMALL)
    found = {
        "devices": len(devices),
        "losses": losses,
        "pieces": {
            variable.path: [
                list(variable.shape),
                list(variable.value.addressable_shards[0].data.shape),
                len(variable.value.addressable_shards),
            ]
            for variable in variables
        },
        "weights": {
            name: [float(keras.ops.sum(keras.ops.abs(v))) for v in t.model.weights]
            for name, t in (("one device", alone), ("8 pieces", cut))
        },
        "built too early": error_of(
            lambda: check_sharded(alone.variables, distribution, SMALL)
        ),
        "only copied": error_of(
            lambda: check_sharded(copied.optimizer.variables, distribution, SMALL)
        ),
        "pieces of 3": error_of(lambda: sharded(pieces=3)),
        "too late": error_of(lambda: use_virtual_devices(4)),
        "batch": BATCH,
        "compiled": compiled(),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
