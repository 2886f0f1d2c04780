"""Loading and saving weights."""

from keras_pe.presets.inspect import CheckpointInfo, inspect_checkpoint
from keras_pe.presets.load import load_weights
from keras_pe.presets.report import CheckpointError, LoadReport

__all__ = [
    "CheckpointError",
    "CheckpointInfo",
    "LoadReport",
    "inspect_checkpoint",
    "load_weights",
]
