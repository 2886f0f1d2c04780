"""A dual encoder of two blocks, as a run's configuration and as a preset."""

from pathlib import Path

import keras

from keras_pe.training.resolution import ResolutionStage
from keras_pe.training.run.config import RunConfig, build_model, small_towers

SMALL = RunConfig(
    **small_towers(16, width=16, layers=2, text_layers=1),
    stages=(ResolutionStage(16, 8),),
    batch_size=8,
)


def save_small_preset(folder: Path) -> Path:
    """Writes its preset, always of the same weights, and returns the folder."""
    keras.utils.set_random_seed(1)
    build_model(SMALL).save_to_preset(folder)
    return folder
