"""What happens before the models: text to ids, pictures to arrays."""

from keras_pe.preprocessing.bad_pictures import (
    PictureError,
    SkippedPicture,
    SkipReport,
    VideoError,
)
from keras_pe.preprocessing.batches import PictureBatches, load_batches
from keras_pe.preprocessing.image import PEImageConverter
from keras_pe.preprocessing.tokenizer import PETokenizer, TruncationReport
from keras_pe.preprocessing.video import PEVideoConverter, frame_indices

__all__ = [
    "PEImageConverter",
    "PETokenizer",
    "PEVideoConverter",
    "PictureBatches",
    "PictureError",
    "SkipReport",
    "SkippedPicture",
    "TruncationReport",
    "VideoError",
    "frame_indices",
    "load_batches",
]
