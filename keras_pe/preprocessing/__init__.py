"""What happens before the models: text to ids, images to arrays."""

from keras_pe.preprocessing.batches import ImageBatches, load_batches
from keras_pe.preprocessing.frame_choice import frame_indices
from keras_pe.preprocessing.image import PEImageConverter
from keras_pe.preprocessing.image_errors import (
    ImageError,
    SkippedImage,
    SkipReport,
    VideoError,
)
from keras_pe.preprocessing.tokenizer import PETokenizer, TruncationReport
from keras_pe.preprocessing.video import PEVideoConverter

__all__ = [
    "ImageBatches",
    "ImageError",
    "PEImageConverter",
    "PETokenizer",
    "PEVideoConverter",
    "SkipReport",
    "SkippedImage",
    "TruncationReport",
    "VideoError",
    "frame_indices",
    "load_batches",
]
