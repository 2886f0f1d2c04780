"""Loss and gradients of a trainer on the running backend, as NumPy."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_pe.training.optimizers.gradient_watch import dense


class Recorder(keras.optimizers.Optimizer):
    """Keeps the gradients it is given and changes nothing."""

    def __init__(self) -> None:
        super().__init__(learning_rate=0.0)

    def build(self, variables: Any) -> None:
        if self.built:
            return
        super().build(variables)
        self.kept = [
            self.add_variable_from_reference(v, name="gradient") for v in variables
        ]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        kept = self.kept[self._get_variable_index(variable)]
        # The rows of a sparse gradient repeat, and assigning them keeps one of each.
        self.assign(kept, ops.cast(dense(gradient), kept.dtype))


def loss_and_gradients(
    trainer: keras.Model, batch: Any, eagerly: bool = False
) -> tuple[float, dict[str, np.ndarray]]:
    """Returns a training step's loss and its gradients by variable path.

    Args:
        trainer: of which one step is made; its weights stay as they are.
        batch: for it.
        eagerly: whether TensorFlow compiles nothing of it, where a slow step is only
            what another one is compared with.
    """
    recorder = getattr(trainer, "optimizer", None)
    if not isinstance(recorder, Recorder):  # a further step is not compiled anew
        recorder = Recorder()
        on_tensorflow = keras.backend.backend() == "tensorflow"
        trainer.compile(recorder, run_eagerly=eagerly and on_tensorflow)
    loss = trainer.train_on_batch(batch, return_dict=True)["loss"]
    gradients = {
        variable.path: ops.convert_to_numpy(kept)
        for variable, kept in zip(
            trainer.trainable_variables, recorder.kept, strict=True
        )
    }
    return float(loss), gradients
