"""Perception Encoder in KerasHub: its backbones, converters, tokenizers and tasks.

Importing this package imports KerasHub, and registers our classes with Keras: from then
on `from_preset` of KerasHub's own classes reads what their `save_to_preset` wrote.
"""

try:
    import keras_hub as _keras_hub  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError(
        f"keras_pe.kerashub needs {error.name}, which is not installed: "
        f'pip install "keras-pe[kerashub]".'
    ) from error

from keras_pe.kerashub.backbone import PEBackbone
from keras_pe.kerashub.image_converter import PEImageConverter
from keras_pe.kerashub.pyramid_backbone import PEPyramidBackbone
from keras_pe.kerashub.tasks import (
    PEImageClassifier,
    PEImageClassifierPreprocessor,
    PERetinaNetObjectDetector,
)
from keras_pe.kerashub.tokenizer import PETokenizer
from keras_pe.kerashub.vision_tokens import PEVisionTokens

__all__ = [
    "PEBackbone",
    "PEImageClassifier",
    "PEImageClassifierPreprocessor",
    "PEImageConverter",
    "PEPyramidBackbone",
    "PERetinaNetObjectDetector",
    "PETokenizer",
    "PEVisionTokens",
]
