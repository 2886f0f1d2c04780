"""Classifiers of one's own images, from an encoder that knows none of the classes.

What needs the probes is imported on first use: a model of a file is loaded without.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_pe.finetuning.class_prediction import ClassPrediction
    from keras_pe.finetuning.classifier_model import ClassifierModel
    from keras_pe.finetuning.image_classifier import ImageClassifier
    from keras_pe.finetuning.training_report import TrainingReport

__all__ = ["ClassPrediction", "ClassifierModel", "ImageClassifier", "TrainingReport"]
_PLACES = dict.fromkeys(__all__, "image_classifier")
_PLACES["ClassifierModel"] = "classifier_model"


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = found
    return found
