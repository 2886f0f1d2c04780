"""Loading and saving weights.

What needs Keras is imported on first use: the table of presets is there in no time.
"""

import importlib
from typing import TYPE_CHECKING, Any

from keras_pe.presets.report import CheckpointError, LoadReport

if TYPE_CHECKING:
    from keras_pe.presets.inspect import CheckpointInfo, inspect_checkpoint
    from keras_pe.presets.load import load_weights

__all__ = [
    "CheckpointError",
    "CheckpointInfo",
    "LoadReport",
    "inspect_checkpoint",
    "load_weights",
]
_PLACES = {
    "CheckpointInfo": "inspect",
    "inspect_checkpoint": "inspect",
    "load_weights": "load",
}


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = found
    return found
