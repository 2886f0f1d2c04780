"""The name that `keras_pe.presets` had; what users met here stays."""

from keras_pe.presets import (
    CheckpointError,
    CheckpointInfo,
    LoadReport,
    inspect_checkpoint,
    load_weights,
)

__all__ = [
    "CheckpointError",
    "CheckpointInfo",
    "LoadReport",
    "inspect_checkpoint",
    "load_weights",
]
