"""Training data: shards and tables, order, augmentation and loading.

Batches and loading need grain, which `pip install "keras-pe[train]"` brings.
"""

import importlib
from typing import TYPE_CHECKING, Any

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
from keras_pe.data.captions import CaptionReader, default_caption
from keras_pe.data.order import Order, SequentialOrder, ShuffledOrder
from keras_pe.data.pair_table import PairTable, open_pairs
from keras_pe.data.questions import Question, question_member, write_question_shards
from keras_pe.data.sample_errors import (
    SampleError,
    SkippedSample,
    SkippedSamples,
    TooManySkipped,
)
from keras_pe.data.split_list import SplitList, SplitListError
from keras_pe.data.tar_headers import TarShardError
from keras_pe.data.tar_shards import TarShards
from keras_pe.data.video_rows import VideoDataError, VideoReport, VideoRow, VideoRows
from keras_pe.data.video_shards import read_pvd
from keras_pe.data.video_tables import read_kinetics, read_msrvtt, read_webvid

if TYPE_CHECKING:
    from keras_pe.data.image_text import ImageTextDataset, image_text_dataset
    from keras_pe.data.loader import (
        BatchIterator,
        LoaderStalled,
        batches,
        fit_batches,
    )

__all__ = [
    "ArrayRecordError",
    "ArrayRecordShards",
    "BatchIterator",
    "CaptionReader",
    "ColorJitter",
    "ImageTextDataset",
    "LoaderStalled",
    "Order",
    "PairTable",
    "Question",
    "RandomResizedCrop",
    "SampleError",
    "SequentialOrder",
    "ShuffledOrder",
    "SkippedSample",
    "SkippedSamples",
    "SplitList",
    "SplitListError",
    "TarShardError",
    "TarShards",
    "TooManySkipped",
    "TrainAugmentation",
    "VideoDataError",
    "VideoReport",
    "VideoRow",
    "VideoRows",
    "batches",
    "default_caption",
    "fit_batches",
    "image_text_dataset",
    "open_pairs",
    "question_member",
    "read_kinetics",
    "read_msrvtt",
    "read_pvd",
    "read_webvid",
    "write_array_record",
    "write_question_shards",
]

# Imported on first use, so that the rest works, and starts faster, without grain.
_NEED_GRAIN = {
    "ImageTextDataset": "image_text",
    "image_text_dataset": "image_text",
    "BatchIterator": "loader",
    "LoaderStalled": "loader",
    "batches": "loader",
    "fit_batches": "loader",
}


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    if name not in _NEED_GRAIN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{_NEED_GRAIN[name]}")
    except ModuleNotFoundError as error:
        raise ImportError(
            f"keras_pe.data.{name} needs {error.name}, which is not installed: pip "
            'install "keras-pe[train]".'
        ) from error
    return getattr(module, name)
