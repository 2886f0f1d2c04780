"""Training data: shards, order, augmentation and loading. Needs `keras-pe[train]`."""

from keras_pe.data.array_record_shards import (
    ArrayRecordError,
    ArrayRecordShards,
    write_array_record,
)
from keras_pe.data.augmentation import (
    ColorJitter,
    RandomResizedCrop,
    TrainAugmentation,
)
from keras_pe.data.captions import default_caption
from keras_pe.data.image_text import ImageTextDataset, image_text_dataset
from keras_pe.data.loader import BatchIterator, LoaderStalled, batches, fit_batches
from keras_pe.data.order import Order, SequentialOrder, ShuffledOrder
from keras_pe.data.skipped_samples import (
    SampleError,
    SkippedSample,
    SkippedSamples,
    TooManySkipped,
)
from keras_pe.data.tar_headers import TarShardError
from keras_pe.data.tar_shards import TarShards

__all__ = [
    "ArrayRecordError",
    "ArrayRecordShards",
    "BatchIterator",
    "ColorJitter",
    "ImageTextDataset",
    "LoaderStalled",
    "Order",
    "RandomResizedCrop",
    "SampleError",
    "SequentialOrder",
    "ShuffledOrder",
    "SkippedSample",
    "SkippedSamples",
    "TarShardError",
    "TarShards",
    "TooManySkipped",
    "TrainAugmentation",
    "batches",
    "default_caption",
    "fit_batches",
    "image_text_dataset",
    "write_array_record",
]
