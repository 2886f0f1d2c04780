"""`fit` over many processes on PyTorch, which Keras 3.15 doesn't have.

A program that trains on two devices of one machine:

    # train.py, started by `torchrun --nproc-per-node 2 train.py`
    with process_group() as (host_index, host_count):
        trainer = ContrastiveTrainer(build_model())     # the same code as on one device
        trainer.compile(optimizer)
        batches = pipeline(batch_size, host_index, host_count)
        fit_distributed(trainer, batches, epochs=10, callbacks=callbacks)

Every process holds the whole model and trains on its rows of each batch;
`DistributedDataParallel` averages the gradients, so all take the same step. The losses
gather the rows of the others (`cross_replica_gather`).
"""

import contextlib
import datetime
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
from keras import tree

from keras_pe.training.devices.distribution import host_position, one_replica
from keras_pe.training.optimizers.averages import constrain

# These write files or to the terminal and decide nothing, or restore what is then sent
# to all. A callback of your own joins them with `first_process_only = True`.
FIRST_PROCESS_CALLBACKS = (
    keras.callbacks.BackupAndRestore,
    keras.callbacks.CSVLogger,
    keras.callbacks.ModelCheckpoint,
    keras.callbacks.OrbaxCheckpoint,
    keras.callbacks.ProgbarLogger,
    keras.callbacks.RemoteMonitor,
    keras.callbacks.TensorBoard,
)


# === Processes ===
@contextlib.contextmanager
def process_group(timeout_minutes: float = 30.0) -> Iterator[tuple[int, int]]:
    """Joins the processes that `torchrun` started; leaves them at the end.

    Build the model inside: on GPUs this picks the one of this process. The processes
    talk over NCCL where there are GPUs, else over Gloo. Inside another one it does
    nothing.

    Args:
        timeout_minutes: how long a process waits for the others. It must cover what
            the first does alone, such as writing a checkpoint.

    Yields:
        `(host_index, host_count)`, for the data pipeline.

    Raises:
        RuntimeError: if the program was not started by `torchrun`.

    Example:
        >>> with process_group() as (host_index, host_count):         # doctest: +SKIP
        ...     trainer = ContrastiveTrainer(build_model())
    """
    if keras.backend.backend() != "torch":
        raise RuntimeError(
            f"process_group is for the PyTorch backend, got "
            f"{keras.backend.backend()}. JAX: keras_pe.training.devices.sharding; "
            f"TensorFlow: "
            f"build and fit under tf.distribute.MirroredStrategy().scope()."
        )
    import torch
    import torch.distributed as dist

    if dist.is_initialized():
        yield host_position()
        return
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        raise RuntimeError(
            "This program trains in several processes, but torchrun did not start it. "
            "Run `torchrun --nproc-per-node 2 program.py`; on one device call "
            "trainer.fit instead."
        )
    on_gpu = torch.cuda.is_available()
    if "KERAS_TORCH_DEVICE" in os.environ:  # where Keras puts the weights
        on_gpu = os.environ["KERAS_TORCH_DEVICE"].startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    dist.init_process_group(
        "nccl" if on_gpu else "gloo",
        timeout=datetime.timedelta(minutes=timeout_minutes),
    )
    yield host_position()
    # Not after an error: leaving could wait for the other processes, and torchrun ends
    # those only once this one has ended.
    dist.destroy_process_group()


# === Training ===
def fit_distributed(
    trainer: keras.Model,
    batches: Iterable[Any],
    epochs: int = 1,
    steps_per_epoch: int | None = None,
    initial_epoch: int = 0,
    callbacks: Sequence[keras.callbacks.Callback] | None = None,
    verbose: int = 1,
) -> keras.callbacks.History:
    """Trains a compiled model in all processes of `torchrun`; PyTorch only.

    What `trainer.fit` does on one device, without validation: evaluate in a callback.
    Weights, optimizer state and epoch number are first sent from the first process to
    the others, so only it has to restore a checkpoint. Random draws (stochastic depth)
    differ between the processes.

    Callbacks run in every process, because some change how training goes on (a
    learning-rate schedule, early stopping). Those that only write run in the first:
    Keras' own, and any with the attribute `first_process_only = True`. Logs are means
    over the processes. Inside callbacks nothing is gathered: `evaluate` there sees
    the rows it is given. When any process sets `stop_training`, all stop.

    Args:
        trainer: a compiled and built `keras.Model`. All its trainable weights take
            part in the loss.
        batches: this process's rows of every batch, as `fit` takes them: `x`, or a
            tuple of `x`, `y`, `sample_weight`. All have the same number of rows, in
            all processes. A `PyDataset`, a grain dataset or any other iterable.
        epochs: the number of the last epoch.
        steps_per_epoch: batches an epoch; None for the length of `batches`. With a
            number, an epoch goes on where the last one ended.
        initial_epoch: the number of the first epoch, from 0.
        callbacks: as for `fit`.
        verbose: 0 for no progress bar; 1 or 2 as in `fit`.

    Returns:
        The history, as from `fit`; the same in all processes.

    Raises:
        RuntimeError: if `torchrun` did not start the program, or the model is on
            another GPU than this process.
        ValueError: if the model is not compiled or built, a weight takes no part, or
            batches differ in rows or run out.

    Example:
        >>> history = fit_distributed(trainer, batches)               # doctest: +SKIP
    """
    if not trainer.compiled or not trainer.built:
        state = "built" if trainer.compiled else "compiled"
        raise ValueError(
            f"{trainer.name} is not {state}. Call trainer.compile(optimizer), and the "
            f"trainer itself on one batch if that is when it makes its weights."
        )
    with process_group() as (host_index, _):
        _check_device(trainer)
        steps = _steps_per_epoch(batches, steps_per_epoch)
        source = _tensors(batches, getattr(trainer, "look", None))
        callback_list = keras.callbacks.CallbackList(
            [
                callback
                for callback in tree.flatten(list(callbacks or ()))
                if host_index == 0 or not _is_for_first_process(callback)
            ],
            add_history=True,
            add_progbar=verbose != 0 and host_index == 0,
            model=trainer,
            verbose=verbose,
            epochs=epochs,
            steps=steps,
        )
        trainer.stop_training = False
        trainer.optimizer.build(trainer.trainable_variables)  # before it is restored
        with one_replica():
            callback_list.on_train_begin()
        # BackupAndRestore leaves the epoch it found here.
        initial_epoch = getattr(trainer, "_initial_epoch", None) or initial_epoch
        replicated, initial_epoch = _replicate(trainer, initial_epoch)

        logs: dict[str, float] = {}
        for epoch in range(initial_epoch, epochs):
            trainer.reset_metrics()
            running_loss = keras.metrics.Mean("loss")
            trainer.train()
            with one_replica():
                callback_list.on_epoch_begin(epoch)
            for step in range(steps):
                with one_replica():
                    callback_list.on_train_batch_begin(step)
                step_logs = _train_step(trainer, replicated, next(source), running_loss)
                logs = _mean_over_processes(step_logs)
                with one_replica():
                    callback_list.on_train_batch_end(step, logs)
                if _agreed_to_stop(trainer):
                    break
            trainer.eval()
            with one_replica():
                callback_list.on_epoch_end(epoch, logs)
            if _agreed_to_stop(trainer):
                break
        if epochs > initial_epoch:
            trainer.optimizer.finalize_variable_values(trainer.trainable_weights)
            constrain(trainer.trainable_weights)
        with one_replica():
            callback_list.on_train_end(logs)
        return trainer.history


def _train_step(
    trainer: keras.Model, replicated: Any, batch: Any, running_loss: Any
) -> dict[str, Any]:
    """Takes one optimizer step; returns this process's logs."""
    import torch

    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
    trainer.zero_grad()
    y_pred = replicated(x, training=True)
    # The loss may read weights that the forward pass didn't (the logit scale): their
    # gradients are averaged too, for that is done where gradients are accumulated.
    loss = trainer.compute_loss(
        x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=True
    )
    trainer.optimizer.scale_loss(loss).backward()

    weights = trainer.trainable_weights
    gradients = [weight.value.grad for weight in weights]
    unused = [w.path for w, g in zip(weights, gradients, strict=True) if g is None]
    if unused:
        raise ValueError(
            f"The loss does not depend on {len(unused)} trainable weights, so their "
            f"gradients can't be averaged: {', '.join(unused[:5])}. Freeze them "
            f"(trainable = False) before training."
        )
    with torch.no_grad():
        trainer.optimizer.apply(gradients, weights)
        running_loss.update_state(loss)
        logs = trainer.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
    return {**logs, "loss": running_loss.result()}


# === Before the first step ===
def _check_device(trainer: keras.Model) -> None:
    import torch
    import torch.distributed as dist

    if dist.get_backend() != "nccl":
        return
    mine = torch.device("cuda", torch.cuda.current_device())
    found = {parameter.device for parameter in trainer.parameters()}
    if found != {mine}:
        raise RuntimeError(
            f"Process {dist.get_rank()} trains on {mine}, but the model is on "
            f"{', '.join(sorted(map(str, found)))}. Build it inside "
            f"`with process_group():`, which picks the GPU of each process."
        )


def _steps_per_epoch(batches: Iterable[Any], steps_per_epoch: int | None) -> int:
    if steps_per_epoch is None:
        try:
            steps_per_epoch = len(batches)  # type: ignore[arg-type]
        except TypeError:
            raise ValueError(
                f"batches ({type(batches).__name__}) has no length, so all processes "
                f"must be told how long an epoch is: give steps_per_epoch."
            ) from None
    _check_alike("batches an epoch", steps_per_epoch)
    return steps_per_epoch


def _tensors(
    batches: Iterable[Any], look: Callable[[Any], Any] | None
) -> Iterator[Any]:
    """Yields batches as tensors on this process's device, from the start again at the
    end, all of the same rows in all processes; `look` may refuse a batch before."""
    expected: tuple[int, ...] | None = None
    while True:
        count = 0
        for batch in batches:
            if look is not None:
                look(batch)
            rows = tuple(x.shape[0] for x in tree.flatten(batch) if x is not None)
            if expected is None:
                expected = rows
                _check_alike("rows of the arrays of a batch", rows)
            if rows != expected:
                raise ValueError(
                    f"All batches must have the same rows, got arrays of {rows} rows "
                    f"after {expected}: replicas count alike, whatever their rows. "
                    f"Drop the remainder of the data."
                )
            count += 1
            yield tree.map_structure(
                lambda x: None if x is None else keras.ops.convert_to_tensor(x), batch
            )
        if count == 0 or iter(batches) is batches:
            raise ValueError(
                f"batches ran out of data (a {type(batches).__name__}; it gave {count} "
                f"in this round). Give an iterable that starts anew, such as a list or "
                f"a dataset, or fewer epochs."
            )


def _replicate(trainer: keras.Model, initial_epoch: int) -> tuple[Any, int]:
    """Returns the replicated model and the first epoch, as the first process has."""
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    trained = {id(weight.value): weight.path for weight in trainer.trainable_weights}
    followed = {id(p) for p in trainer.parameters() if p.requires_grad}
    if set(trained) != followed:
        missing = [path for key, path in trained.items() if key not in followed]
        raise ValueError(
            f"PyTorch and Keras disagree on what is trained: "
            f"{len(followed - set(trained))} parameters too many, missing "
            f"{missing[:5]}. Set `trainable` and add LoRA before the trainer is made."
        )
    # Sends the first process's weights to all, and with them the rest of Keras' state,
    # which is kept in parameters too.
    replicated = DistributedDataParallel(trainer, gradient_as_bucket_view=True)
    for variable in trainer.optimizer.variables:
        dist.broadcast(variable.value.data, src=0)
    epoch = [initial_epoch]
    dist.broadcast_object_list(epoch, src=0)

    # Else all processes would drop the same blocks for their n-th row. Derived from
    # the first process's seed, so that a resumed run draws what it would have drawn.
    # Far apart, for PyTorch's draw number n uses the seed plus n.
    for variable in trainer.variables:
        if variable.path.endswith("seed_generator_state") and dist.get_rank():
            seed, draws = keras.ops.convert_to_numpy(variable).tolist()
            shifted = (seed + dist.get_rank() * 0x9E3779B1) % 2**31
            variable.assign([shifted, draws])
    return replicated, epoch[0]


# === Agreement of the processes ===
def _is_for_first_process(callback: keras.callbacks.Callback) -> bool:
    if isinstance(callback, FIRST_PROCESS_CALLBACKS):
        return True
    return bool(getattr(callback, "first_process_only", False))


def _check_alike(what: str, value: Any) -> None:
    import torch.distributed as dist

    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    if len(set(values)) > 1:
        raise ValueError(
            f"The processes disagree on the {what}: {values}, by process. Each must "
            f"read an equal part of every batch: choose a batch size and a number of "
            f"samples that divide by {len(values)}, or drop the remainder."
        )


def _mean_over_processes(logs: dict[str, Any]) -> dict[str, float]:
    import torch
    import torch.distributed as dist

    values = [keras.ops.convert_to_tensor(v, "float32") for v in logs.values()]
    mean = torch.stack([value.reshape(()) for value in values])
    dist.all_reduce(mean)
    mean = mean / dist.get_world_size()
    return dict(zip(logs, mean.tolist(), strict=True))


def _agreed_to_stop(trainer: keras.Model) -> bool:
    """Returns, and sets in all processes, whether any of them wants to stop."""
    import torch.distributed as dist

    flag = keras.ops.convert_to_tensor(int(bool(trainer.stop_training)), "int32")
    dist.all_reduce(flag, op=dist.ReduceOp.MAX)
    trainer.stop_training = bool(flag.item())
    return trainer.stop_training
