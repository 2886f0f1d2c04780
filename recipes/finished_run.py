"""What a finished run leaves beside its logs: the model, and curves."""

from pathlib import Path

from keras_pe import PECore, PEImageConverter, PETokenizer
from keras_pe.presets.save import check_room
from keras_pe.training.devices.sharding import whole_values
from keras_pe.training.run.curves import draw_curves
from recipes.many_devices import is_first_process


def finish_run(model: PECore, output: Path, tokenizer: PETokenizer) -> None:
    """Writes `model.weights.h5`, `preset` and `curves.png`, from one process alone.

    Weights that are cut over devices are put together first. A stop in the middle
    leaves no half-written file of these names.

    Args:
        model: the trained model.
        output: directory of the run.
        tokenizer: the model's, for the preset.
    """
    with whole_values(model.variables):
        if is_first_process():
            check_room(model, output)
            aside = output / "aside.weights.h5"
            model.save_weights(aside)
            aside.replace(output / "model.weights.h5")
            model.save_to_preset(
                output / "preset",
                tokenizer=tokenizer,
                image_converter=PEImageConverter(model.vision_encoder.image_size),
            )
            draw_curves(output)
