"""Perception Encoder for Keras 3, on JAX, PyTorch and TensorFlow."""

import importlib
from typing import TYPE_CHECKING, Any

from keras_pe.default_backend import choose_backend
from keras_pe.registration import register_with_keras
from keras_pe.version import __version__ as __version__

if TYPE_CHECKING:
    from keras_pe.evaluation.zero_shot import ZeroShotClassifier
    from keras_pe.finetuning.image_classifier import ImageClassifier
    from keras_pe.models.aligned import PELang, PESpatial
    from keras_pe.models.core import PECore
    from keras_pe.models.embedder import Embedder
    from keras_pe.models.text_encoder import PETextEncoder
    from keras_pe.models.vision_encoder import PEVisionEncoder
    from keras_pe.preprocessing.image import PEImageConverter
    from keras_pe.preprocessing.tokenizer import PETokenizer
    from keras_pe.preprocessing.video import PEVideoConverter
    from keras_pe.presets.listing import list_presets
    from keras_pe.presets.upload import upload_preset

__all__ = [
    "Embedder",
    "ImageClassifier",
    "PECore",
    "PEImageConverter",
    "PELang",
    "PESpatial",
    "PETextEncoder",
    "PETokenizer",
    "PEVideoConverter",
    "PEVisionEncoder",
    "ZeroShotClassifier",
    "list_presets",
    "upload_preset",
]

# Imported on first use: the command line answers --help without Keras.
_PLACES = {
    "Embedder": "models.embedder",
    "ImageClassifier": "finetuning.image_classifier",
    "PECore": "models.core",
    "PEImageConverter": "preprocessing.image",
    "PELang": "models.aligned",
    "PESpatial": "models.aligned",
    "PETextEncoder": "models.text_encoder",
    "PETokenizer": "preprocessing.tokenizer",
    "PEVideoConverter": "preprocessing.video",
    "PEVisionEncoder": "models.vision_encoder",
    "ZeroShotClassifier": "evaluation.zero_shot",
    "list_presets": "presets.listing",
    "upload_preset": "presets.upload",
}
_PACKAGES = (
    "alignment",
    "app",
    "checkpoints",
    "data",
    "data_engine",
    "evaluation",
    "export",
    "finetuning",
    "frontier",
    "kerashub",
    "language",
    "layers",
    "losses",
    "models",
    "preprocessing",
    "presets",
    "probing",
    "search",
    "sklearn",
    "training",
    "visualization",
)


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        found = getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
        globals()[name] = found
        return found
    if name in _PACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_PACKAGES, "__version__"])


choose_backend()  # before anything imports Keras
register_with_keras()
