"""Callbacks that stop a run that has gone wrong."""

import math
from typing import Any

import keras

from keras_pe.arrays import NonFiniteError
from keras_pe.models.live_state import sync_state
from keras_pe.training.optimizers.live_state import optimizer_number

__all__ = ["NonFiniteError", "StopOnNonFinite"]


class StopOnNonFinite(keras.callbacks.Callback):
    """Ends training at the step at which a NaN or an infinity appears.

    With an optimizer that watches gradients (`keras_pe.training.Lamb` or any class
    with `GradientWatch`) the update of that step was not applied: the weights are
    those of the step before. A scaled loss (mixed_float16) whose gradients overflow
    ends nothing: the step is left out, and the scale is halved.

    Raises:
        NonFiniteError: from `fit`, with the step and the tensor.
    """

    def __init__(self, first_step: int = 0) -> None:
        super().__init__()
        self.step = first_step
        self.begun: int | None = None  # in this epoch

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.begun = batch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        # More than one with `compile(steps_per_execution=...)`.
        count = 1 if self.begun is None else batch - self.begun + 1
        self.step += count
        where = f"Step {self.step}"
        if count > 1:
            where = f"One of the steps {self.step - count + 1} to {self.step}"
        index = optimizer_number(self.model, "first_non_finite")
        if index is not None and index >= 0:
            optimizer = self.model.optimizer
            optimizer = getattr(optimizer, "inner_optimizer", optimizer)
            path = optimizer.watched_paths[int(index)]
            raise NonFiniteError(
                f"{where}: the gradient of {path} is not finite"
                f"{self._losses(logs)}. The update was not applied. {self._weights()}"
            )
        bad = [k for k, v in (logs or {}).items() if not math.isfinite(float(v))]
        if bad:
            raise NonFiniteError(
                f"{where}: {', '.join(bad)} is not finite. {self._weights()}"
            )

    def _losses(self, logs: Any) -> str:
        losses = [f"{k} {float(v):g}" for k, v in (logs or {}).items() if "loss" in k]
        return f" ({', '.join(losses)})" if losses else ""

    def _weights(self) -> str:
        sync_state(self.model)
        bad = [
            variable.path
            for variable in self.model.variables
            if not bool(keras.ops.all(keras.ops.isfinite(variable)))
        ]
        advice = (
            "The last checkpoint is untouched: resume from it to see whether the same "
            "batch does it, or begin anew with a lower learning rate, gradient "
            "clipping, or float32."
        )
        found = f"Weights that are not finite: {', '.join(bad)}. " if bad else ""
        return found + advice
