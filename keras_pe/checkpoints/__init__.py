"""Loading and saving weights."""

from keras_pe.checkpoints.inspect import CheckpointInfo, inspect_checkpoint
from keras_pe.checkpoints.load import load_weights
from keras_pe.checkpoints.report import CheckpointError, LoadReport

__all__ = [
    "CheckpointError",
    "CheckpointInfo",
    "LoadReport",
    "inspect_checkpoint",
    "load_weights",
]
