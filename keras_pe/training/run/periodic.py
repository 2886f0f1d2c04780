"""What is done every so many steps of a run, such as saving it, on hosts together."""

from collections.abc import Callable, Iterable
from typing import Any

import keras

from keras_pe.models.checked_model import sync_state
from keras_pe.training.devices.distribution import one_replica
from keras_pe.training.devices.sharding import whole_values


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
