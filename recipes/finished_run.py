"""What a finished run leaves beside its logs: the model's weights, and curves."""

from pathlib import Path

import keras

from keras_pe.training.curves import draw_curves
from keras_pe.training.sharding import whole_values
from recipes.many_devices import is_first_process


def finish_run(model: keras.Model, output: Path) -> None:
    """Writes `model.weights.h5` and `curves.png`, from one process alone.

    Weights that are cut over devices are put together first. A stop in the middle
    leaves no half-written file of that name.
    """
    with whole_values(model.variables):
        if is_first_process():
            aside = output / "aside.weights.h5"
            model.save_weights(aside)
            aside.replace(output / "model.weights.h5")
            draw_curves(output)
