"""Trains on PyTorch in the processes of torchrun; the first writes what came out.

Run:      torchrun --nproc-per-node 2 -m tests.training.programs.torch_two_processes \
              results.npz
"""

import sys
from typing import Any

import keras
import numpy as np
import torch
import torch.distributed as dist

from keras_pe.training.devices.distribution import (
    cross_replica_gather,
    local_rows,
    num_replicas,
    one_replica,
    replica_loss_scale,
)
from keras_pe.training.devices.torch_loop import fit_distributed, process_group
from tests.training.programs.small_training import (
    ALIGNED,
    CLAMPED,
    AlignmentLogs,
    Batches,
    Logs,
    Masks,
    Pairs,
    Recorder,
    aligning_trainer,
    build_trainer,
    clamped_trainer,
    weights,
)

results: dict[str, Any] = {}


def record(name: str, trainer: Any, recorder: Any, history: Any) -> None:
    results[f"{name}/losses"] = recorder.losses
    results[f"{name}/logged"] = history.history["loss"]
    results[f"{name}/weights"] = weights(trainer)


def single(name: str, **clipping: Any) -> None:
    """Keras' own `fit`, on whole batches, in each process by itself."""
    recorder = Recorder()
    with one_replica():
        trainer = build_trainer(cross_replica_gather, replica_loss_scale, **clipping)
        history = trainer.fit(Batches(), shuffle=False, verbose=0, callbacks=[recorder])
    record(name, trainer, recorder, history)


def distributed(name: str, gather: Any, position: Any, **clipping: Any) -> None:
    recorder = Recorder()
    # Only the first process starts from the right weights.
    trainer = build_trainer(gather, replica_loss_scale, seed=position[0], **clipping)
    batches = [local_rows(batch, *position) for batch in Batches()]
    history = fit_distributed(trainer, batches, callbacks=[recorder], verbose=0)
    record(name, trainer, recorder, history)
    # The first rank's weights, then the second's: they must stay the same.
    results[f"{name}/all_weights"] = cross_replica_gather()(
        torch.from_numpy(weights(trainer))[None]
    )


def clamped(position: Any) -> None:
    """The library's trainer: its logs, and what is left."""
    for name, options in CLAMPED.items():
        alone, logs = clamped_trainer(**options), Logs()
        with one_replica():
            alone.fit(Pairs(2), shuffle=False, verbose=0, callbacks=[logs])
        left("one", name, alone, logs)
        both, logs = clamped_trainer(**options), Logs()
        batches = [local_rows(batch, *position) for batch in Pairs(2)]
        fit_distributed(both, batches, callbacks=[logs], verbose=0)
        left("two", name, both, logs)
    wrong = {**batches[0], "token_ids": batches[0]["token_ids"] + 600}
    for name, batch in {
        "ids": wrong,
        "tuple": (wrong["images"], wrong["token_ids"]),
    }.items():
        try:
            fit_distributed(both, [batch], verbose=0)
        except ValueError as error:
            results[f"error/{name}"] = str(error)


def alignments(position: Any) -> None:
    """Spatial alignment: both losses of each step, and what is left."""
    alone, logs = aligning_trainer(), AlignmentLogs()
    with one_replica():
        alone.fit(Masks(3), shuffle=False, verbose=0, callbacks=[logs])
    results["one/aligned/logs"] = logs.steps
    results["one/aligned/weights"] = weights(alone)
    for name, options in ALIGNED.items():
        both, logs = aligning_trainer(**options), AlignmentLogs()
        batches = [local_rows(batch, *position) for batch in Masks(3)]
        fit_distributed(both, batches, callbacks=[logs], verbose=0)
        results[f"two/aligned_{name}/logs"] = logs.steps
        results[f"two/aligned_{name}/weights"] = weights(both)


def left(count: str, name: str, trainer: Any, logs: Any) -> None:
    results[f"{count}/{name}/logs"] = logs.steps
    results[f"{count}/{name}/scale"] = keras.ops.convert_to_numpy(
        trainer.model.logit_scale
    )
    results[f"{count}/{name}/weights"] = weights(trainer)


def gather_without_gradient() -> Any:
    def gather(x: Any) -> Any:
        parts = [torch.empty_like(x) for _ in range(num_replicas())]
        dist.all_gather(parts, x.detach().contiguous())
        parts[dist.get_rank()] = x
        return torch.cat(parts)

    return gather


def gathered_rows(position: Any) -> None:
    """Rows and gradients of single gathers, where the right answer is known."""
    index, count = position
    gather = cross_replica_gather()
    results["gather/ids"] = gather(torch.arange(2, dtype=torch.int32) + 10 * index)
    results["gather/bool"] = gather(torch.tensor([index == 0, True]))
    x = torch.full((2, 3), float(index), requires_grad=True)
    rows = gather(x)  # (4, 3)
    results["gather/rows"] = rows.detach()
    # Process p weighs row r by (p + 1) * 10 ** r.
    factors = (index + 1) * 10.0 ** torch.arange(2 * count).reshape(-1, 1)
    (rows * factors).sum().backward()
    mine = torch.zeros(count, 2, 3)
    mine[index] = x.grad
    dist.all_reduce(mine)
    results["gather/gradients"] = mine


class StopSecond(keras.callbacks.Callback):
    """Stops training at its second step, in one process."""

    first_process_only = True

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.model.stop_training = batch == 1


class Evaluate(keras.callbacks.Callback):
    """Evaluates in one process, which would hang if it gathered."""

    first_process_only = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        results["evaluated"] = self.model.evaluate(Batches(1), verbose=0)


def callbacks_and_errors(position: Any, directory: str) -> None:
    trainer = build_trainer(cross_replica_gather, replica_loss_scale)
    batches = [local_rows(batch, *position) for batch in Batches()]
    log = keras.callbacks.CSVLogger(f"{directory}/log.csv", append=True)
    recorder = Recorder()
    callbacks = [StopSecond(), Evaluate(), log, recorder]
    fit_distributed(trainer, batches, epochs=3, callbacks=callbacks, verbose=0)
    results["stopped_after"] = everywhere(len(recorder.losses))

    cases = {
        "uneven_rows": batches if position[0] else [local_rows(Batches()[0], 0, 1)],
        "other_rows": [batches[0], local_rows(batches[0], 0, 2)],
        "runs_out": iter(batches),
        "no_length": (batch for batch in batches),
    }
    steps = {"uneven_rows": 1, "runs_out": 7}
    for name, data in cases.items():
        try:
            fit_distributed(trainer, data, steps_per_epoch=steps.get(name), verbose=0)
        except ValueError as error:
            results[f"error/{name}"] = str(error)
    trainer.unused = keras.layers.Dense(2)
    trainer.unused.build((None, 2))
    try:
        fit_distributed(trainer, batches, verbose=0)
    except ValueError as error:
        results["error/unused"] = str(error)


def stochastic_depth(position: Any) -> None:
    """Which random numbers the processes draw, twice from the same start."""
    trainer = build_trainer(cross_replica_gather, replica_loss_scale)
    trainer.generator = keras.random.SeedGenerator(7)
    batches = [local_rows(batch, *position) for batch in Batches()]
    for name in ("first", "again"):
        trainer.generator.state.assign([7, 0])
        fit_distributed(trainer, batches, steps_per_epoch=1, verbose=0)
        draw = keras.random.uniform((3,), seed=trainer.generator)
        results[f"random/{name}"] = cross_replica_gather()(draw)


def everywhere(value: int) -> Any:
    return cross_replica_gather()(torch.tensor([value]))


def main(output: str, directory: str) -> None:
    with process_group(timeout_minutes=1) as position:
        gathered_rows(position)
        single("single")
        distributed("distributed", cross_replica_gather, position)
        single("single_clipped", global_clipnorm=0.5)
        distributed(
            "distributed_clipped", cross_replica_gather, position, global_clipnorm=0.5
        )
        distributed("no_gradient", gather_without_gradient, position)
        stochastic_depth(position)
        clamped(position)
        alignments(position)
        callbacks_and_errors(position, directory)
        if position[0] == 0:
            np.savez(output, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
