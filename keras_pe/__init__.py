"""Perception Encoder for Keras 3, on JAX, PyTorch and TensorFlow."""

from keras_pe.default_backend import choose_backend

choose_backend()  # before anything imports Keras

from keras_pe.evaluation.zero_shot import ZeroShotClassifier  # noqa: E402
from keras_pe.models.core import PECore  # noqa: E402
from keras_pe.models.lang import PELang  # noqa: E402
from keras_pe.models.spatial import PESpatial  # noqa: E402
from keras_pe.models.text_encoder import PETextEncoder  # noqa: E402
from keras_pe.models.vision_encoder import PEVisionEncoder  # noqa: E402
from keras_pe.preprocessing.image import PEImageConverter  # noqa: E402
from keras_pe.preprocessing.tokenizer import PETokenizer  # noqa: E402
from keras_pe.preprocessing.video import PEVideoConverter  # noqa: E402

__all__ = [
    "PECore",
    "PEImageConverter",
    "PELang",
    "PESpatial",
    "PETextEncoder",
    "PETokenizer",
    "PEVideoConverter",
    "PEVisionEncoder",
    "ZeroShotClassifier",
]

__version__ = "0.1.0"
