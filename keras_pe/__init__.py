"""Perception Encoder for Keras 3, on JAX, PyTorch and TensorFlow."""

from keras_pe.evaluation.zero_shot import ZeroShotClassifier
from keras_pe.models.core import PECore
from keras_pe.models.lang import PELang
from keras_pe.models.spatial import PESpatial
from keras_pe.models.text_encoder import PETextEncoder
from keras_pe.models.vision_encoder import PEVisionEncoder
from keras_pe.preprocessing.image import PEImageConverter
from keras_pe.preprocessing.tokenizer import PETokenizer

__all__ = [
    "PECore",
    "PEImageConverter",
    "PELang",
    "PESpatial",
    "PETextEncoder",
    "PETokenizer",
    "PEVisionEncoder",
    "ZeroShotClassifier",
]

__version__ = "0.1.0"
