"""A run: stages of resolution, checkpoints, logs, and going on after a stop."""

import contextlib
import functools
import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_pe.arrays import check_sizes
from keras_pe.files import only_writer, write_atomically
from keras_pe.models.checked_model import sync_state
from keras_pe.training.devices.batch_errors import RememberedErrors, as_it_was
from keras_pe.training.devices.distribution import (
    host_position,
    one_replica,
    scope_of,
    static_batches,
)
from keras_pe.training.devices.sharding import whole_values
from keras_pe.training.devices.torch_loop import fit_distributed
from keras_pe.training.optimizers.averages import averages_put_in_once
from keras_pe.training.optimizers.gradient_watch import StopOnNonFinite
from keras_pe.training.resolution import PlannedStage
from keras_pe.training.run.checkpoint import RunCheckpoints
from keras_pe.training.run.identity import differences, other_plan, plan_of
from keras_pe.training.run.log import PAIR_TERMS, RunLog, learning_rate
from keras_pe.training.run.saved_tensors import checked_state
from keras_pe.training.run.state import collect, restore

MakeBatches = Callable[[PlannedStage, int, int], Iterable[Any]]
Evaluate = Callable[[], dict[str, float]]
Complete = Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]


class RunMismatch(ValueError):
    """A directory holds a run that can't be gone on with, or replaced, as was asked."""


class TrainingRun:
    """Trains through stages of resolution, and goes on where a stop left it.

    Batch i of the data depends on i alone, and a checkpoint holds every variable of
    model and optimizer, random states included: a run that was killed and resumed
    gives the weights of one that was not, to the bit where the backend's arithmetic
    is deterministic (JAX and PyTorch on CPU, with as many threads as before).

    An average of the weights (`use_ema` of an optimizer) takes their place once, at the
    end of `train`; scores and checkpoints are of the weights themselves, and these
    hold the average beside them.

    Args:
        trainer: a compiled one, such as `ContrastiveTrainer`.
        directory: where checkpoints, logs, `config.json` and curves go.
        stages: what `plan_stages` returns.
        batch_size: samples of a step, over all devices.
        make_batches: from (stage, first step, number of steps) to what `fit` takes,
            one element a step; it starts anew whenever it is iterated over.
        configuration: everything that decides the run; a resume with another one is
            refused, as is one with another batch size, other stages or another
            optimizer.
        save_every: steps between checkpoints.
        keep: checkpoints kept.
        evaluate: returns scores by name, from the model as it is; None for none.
        evaluate_every: steps between evaluations.
        progress: whether a progress bar is shown.
        complete: from (a checkpoint's configuration, this run's) to the former with
            what its program could not say yet; None compares it as it is.
        mask_teachers: frozen models that the batches ask: with others a checkpoint is
            not gone on with.

    Raises:
        ValueError: if the trainer makes several steps in one call, a number of steps
            is below 1, or JSON can't hold the configuration.

    Example:
        >>> import numpy as np
        >>> from keras_pe import PESpatial, PEVisionEncoder
        >>> from keras_pe.training import ResolutionStage, SpatialAlignmentTrainer
        >>> from keras_pe.training import WatchedAdamW, plan_stages
        >>> core = PEVisionEncoder(image_size=16, patch_size=8, hidden_dim=16,
        ...     num_layers=2, num_heads=2, intermediate_dim=32)
        >>> trainer = SpatialAlignmentTrainer(PESpatial.from_core(core), core,
        ...     mask_teacher="teacher")
        >>> trainer.compile(WatchedAdamW(1e-3))
        >>> def make_batches(stage, first, count):
        ...     size = stage.image_size
        ...     batch = {"images": np.zeros((4, size, size, 3), "float32"),
        ...         "masked_patches": np.array([[True, False, False, True]] * 4)}
        ...     return [(batch,)] * count
        >>> stages = plan_stages((ResolutionStage(16, 8),), batch_size=4)
        >>> run = TrainingRun(trainer, "run", stages, 4, make_batches, progress=False)
        >>> run.train()
        >>> sorted(path.name for path in Path("run/checkpoints").iterdir())
        ['step_000000002']
    """

    def __init__(
        self,
        trainer: keras.Model,
        directory: Path | str,
        stages: Sequence[PlannedStage],
        batch_size: int,
        make_batches: MakeBatches,
        configuration: dict[str, Any] | None = None,
        save_every: int = 100,
        keep: int = 3,
        evaluate: Evaluate | None = None,
        evaluate_every: int = 250,
        progress: bool = True,
        complete: Complete | None = None,
        mask_teachers: Sequence[keras.Model] = (),
    ) -> None:
        if (getattr(trainer, "steps_per_execution", 1) or 1) > 1:
            raise ValueError(
                f"A run logs, scores and saves by the step, got a trainer compiled "
                f"with steps_per_execution={trainer.steps_per_execution}. Compile it "
                f"without."
            )
        check_sizes(save_every=save_every, evaluate_every=evaluate_every)
        self.trainer = trainer
        self.directory = Path(directory)
        self.stages = list(stages)
        self.batch_size, self.mask_teachers = batch_size, mask_teachers
        self.make_batches = make_batches
        self.configuration = checked_state(configuration or {})  # as JSON gives it back
        self.save_every = save_every
        self.evaluate = evaluate
        self.evaluate_every = evaluate_every
        self.progress = progress
        self.complete = complete
        self.total_steps = sum(stage.num_steps for stage in self.stages)
        self.checkpoints = RunCheckpoints(self.directory / "checkpoints", keep=keep)
        self.plan: dict[str, Any] = {}  # what checkpoints note beside the configuration
        self.extension: str | None = None  # what an extended run is told
        self.beginning: str | None = None  # and any that was to go on

    def train(self, resume: bool = False, extend: bool = False) -> None:
        """Trains to the end of the last stage.

        Args:
            resume: go on from the newest sound checkpoint, if there is one.
            extend: with `resume`, let the stages differ from those that the run was
                planned with, as long as the steps made so far were made at the same
                image sizes. From the step of the checkpoint on, the learning rate is
                that of the new schedule. Where the two schedules agreed before (a
                constant rate, the warm-up), the weights become those of a run that was
                planned so; else the rate jumps, which is logged with both rates.

        Raises:
            RunMismatch: if the directory holds a run and `resume` is False, or a run
                of another configuration.
            NonFiniteError: if a loss or gradient is NaN or infinite.
            TargetBusyError: if another process trains in the directory.
        """
        if extend and not resume:
            raise ValueError("extend=True goes on with a run: give resume=True too.")
        step, seconds = self._start(resume, extend)
        with contextlib.ExitStack() as stack:
            if host_position()[0] == 0:
                # Two runs would replace each other's checkpoints.
                stack.enter_context(only_writer(self.checkpoints.directory))
            optimizer = self.trainer.optimizer
            inner = getattr(optimizer, "inner_optimizer", optimizer)  # scales the loss
            if getattr(inner, "use_ema", False):
                stack.enter_context(averages_put_in_once(self.trainer))
            self._run(step, seconds)

    def _run(self, step: int, seconds: float) -> None:
        """Trains from a step on, with all that is written beside by the first host."""
        log = self._open_log(step, seconds) if host_position()[0] == 0 else None

        def first_host(act: Callable[[RunLog, int], None]) -> Any:
            return None if log is None else functools.partial(act, log)

        saver = Periodic(self.save_every, step, _all_variables, first_host(self._save))
        periodic = [saver]
        if self.evaluate is not None:
            score = first_host(self._score)
            scorer = Periodic(self.evaluate_every, step, _weights, score)
            periodic = [scorer, saver]
        # The guard comes first: a step that went wrong is neither logged nor saved.
        callbacks = [StopOnNonFinite(step), *([log] if log else []), *periodic]
        try:
            self._train(step, callbacks)
            for callback in reversed(periodic):
                callback.finish(self.trainer)
        finally:
            if log is not None:
                log.close()

    def _open_log(self, step: int, seconds: float) -> RunLog:
        self.directory.mkdir(parents=True, exist_ok=True)
        # Not earlier: a run that is refused leaves the other one's as it is.
        text = json.dumps(self.configuration, indent=2) + "\n"
        write_atomically(self.directory / "config.json", text)
        log = RunLog(
            self.directory,
            self.batch_size,
            self.total_steps,
            first_step=step,
            seconds=seconds,
            progress=self.progress,
            terms=getattr(self.trainer, "logged_terms", PAIR_TERMS),
        )
        log.stages = self.stages
        for told in (self.beginning, self.extension):
            if told is not None:
                log.bar.write(told)
        return log

    def _save(self, log: RunLog, step: int) -> None:
        # What a checkpoint holds is in the table too, whatever stops the machine.
        log.table.sync()
        state = {
            "step": step,
            "seconds": log.seconds,
            "configuration": self.configuration,
            **self.plan,
            "learning_rate": learning_rate(self.trainer.optimizer, step),
        }
        self.checkpoints.save(step, collect(self.trainer), state)
        log.skip_time()

    def _score(self, log: RunLog, step: int) -> None:
        assert self.evaluate is not None
        start = time.perf_counter()
        log.add_scores(self.evaluate(), start)

    def _train(self, step: int, callbacks: list[Any]) -> None:
        """Trains the stages, or what is left of them from a step on."""
        for stage in self.stages:
            first = max(stage.first_step, step)
            count = stage.first_step + stage.num_steps - first
            if count > 0:
                self._fit(self.make_batches(stage, first, count), count, callbacks)

    def _fit(self, batches: Iterable[Any], count: int, callbacks: list[Any]) -> None:
        """Trains on one stage's batches, on one device or many."""
        if host_position()[1] > 1 and keras.backend.backend() == "torch":
            fit_distributed(
                self.trainer, batches, 1, count, callbacks=callbacks, verbose=0
            )
            return
        if keras.backend.backend() == "tensorflow":
            # A new function a stage: the old one would give up static shapes at the
            # second image size.
            self.trainer.make_train_function(force=True)
            if iter(batches) is not batches:  # else it is refused
                batches = RememberedErrors(batches)
            data = static_batches(batches, self.trainer.distribute_strategy)
        else:
            data = (batch for batch in batches)
        with as_it_was(batches):
            self.trainer.fit(
                data,
                steps_per_epoch=count,
                shuffle=False,
                verbose=0,
                callbacks=callbacks,
            )

    def _start(self, resume: bool, extend: bool) -> tuple[int, float]:
        """Restores what is to be restored; returns step and seconds done before."""
        self.plan = plan_of(
            self.trainer, self.batch_size, self.stages, self.mask_teachers
        )
        # Else `fit` builds it with the first batch of a generator, which is then lost.
        if not self.trainer.optimizer.built:
            with scope_of(self.trainer):
                self.trainer.optimizer.build(self.trainer.trainable_variables)
        newest = self.checkpoints.latest()
        if newest is None:
            if resume:  # killed before its first checkpoint, or another folder
                self.beginning = (
                    f"no checkpoint to go on from in {self.checkpoints.directory}: "
                    f"starting at the first step"
                )
            return 0, 0.0
        if not resume:
            raise RunMismatch(
                f"{self.directory} already holds a run with checkpoint "
                f"{newest.name}. Resume it (--resume), or give another directory."
            )
        arrays, state = self.checkpoints.load()
        theirs = state["configuration"]
        if self.complete is not None:
            theirs = self.complete(theirs, self.configuration)
        changed = differences(theirs, self.configuration)
        changed += other_plan(state, self.plan, extend)
        length = [key for key in changed if key.split(".")[-1] == "stages"]
        if set(changed) != set(length) or (changed and not extend):
            longer = " To make the run longer, extend it (--extend)." * bool(length)
            raise RunMismatch(
                f"{self.directory} holds a run of another configuration; different: "
                f"{', '.join(dict.fromkeys(changed))}. Resume with the run's own "
                f"configuration, or start a new run in another directory.{longer}"
            )
        step = int(state["step"])
        if extend:
            self._check_extension(step, state.get("stages"))
        rate = self.plan["optimizer"].get("learning_rate")
        restore(self.trainer, arrays)
        self.beginning = f"going on after step {step} of {self.total_steps}"
        if extend:
            if isinstance(rate, float):  # no schedule: the checkpoint brought the old
                self.trainer.optimizer.learning_rate = rate
            self.extension = self._extension(step, state)
        return step, float(state["seconds"])

    def _check_extension(self, step: int, stages: Any) -> None:
        """Refuses other image sizes of steps that have been made."""
        if stages is None:
            raise RunMismatch(
                f"{self.directory} was made before runs could be extended: its "
                f"checkpoints do not say which steps had which image size."
            )
        sizes = [
            [s[0] for s in plan for _ in range(s[2])] for plan in (stages, self.stages)
        ]
        if len(sizes[1]) < step or sizes[0][:step] != sizes[1][:step]:
            raise RunMismatch(
                f"An extended run keeps the image sizes of the {step} steps that "
                f"were made: stages {[tuple(stage) for stage in stages]} (size, first "
                f"step, steps), got {[tuple(stage) for stage in self.stages]}. "
                f"Lengthen the last stage, or add stages after it."
            )

    def _extension(self, step: int, state: dict[str, Any]) -> str:
        """Returns what an extension does to the schedule."""
        before = sum(stage[2] for stage in state["stages"])
        old, new = state["learning_rate"], learning_rate(self.trainer.optimizer, step)
        same = abs(old - new) <= 1e-6 * max(old, new)
        return (
            f"extended at step {step} from {before} to {self.total_steps} steps; "
            f"learning rate of the next step: "
            + (f"{new:.4g}, as planned before" if same else f"{new:.4g}, not {old:.4g}")
        )


def _weights(trainer: keras.Model) -> list[Any]:
    return list(trainer.variables)


def _all_variables(trainer: keras.Model) -> list[Any]:
    return [
        *trainer.variables,
        *trainer.optimizer.variables,
        *trainer.metrics_variables,
    ]


class Periodic(keras.callbacks.Callback):
    """Does something every so many steps, and once more at the end of a run.

    Every host takes part, at the same steps and in the order of the callbacks: pieces
    of weights that are cut over hosts are fetched from all of them. Only the first one
    then acts.

    Args:
        every: steps between two times.
        first_step: step that the run starts or goes on from.
        variables: returns the variables that must be whole, of the trainer.
        act: what is done, given the step; None on all hosts but the first.
    """

    def __init__(
        self,
        every: int,
        first_step: int,
        variables: Callable[[keras.Model], Iterable[Any]],
        act: Callable[[int], None] | None,
    ) -> None:
        super().__init__()
        self.every, self.step = every, first_step
        self.variables, self.act = variables, act
        self.done = -1  # at which step it was done last

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.step += 1
        if self.step % self.every == 0:
            self.do(self.model)

    def do(self, trainer: keras.Model) -> None:
        """Does it now."""
        sync_state(trainer)
        with whole_values(self.variables(trainer)):
            if self.act is not None:
                self.act(self.step)
        self.done = self.step

    def finish(self, trainer: keras.Model) -> None:
        """Does it at the end, unless the last step did."""
        if self.done != self.step:
            with one_replica():  # as inside the training loop
                self.do(trainer)
