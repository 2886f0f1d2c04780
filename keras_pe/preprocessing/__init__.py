"""What happens before the models: text to ids, pictures to arrays."""

from keras_pe.preprocessing.batches import PictureBatches, load_batches
from keras_pe.preprocessing.image import PEImageConverter
from keras_pe.preprocessing.image_file import PictureError
from keras_pe.preprocessing.skip_report import SkippedPicture, SkipReport
from keras_pe.preprocessing.tokenizer import PETokenizer, TruncationReport

__all__ = [
    "PEImageConverter",
    "PETokenizer",
    "PictureBatches",
    "PictureError",
    "SkipReport",
    "SkippedPicture",
    "TruncationReport",
    "load_batches",
]
