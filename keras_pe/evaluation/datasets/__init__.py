"""Readers of common data set layouts: paths and targets, nothing decoded."""

from keras_pe.evaluation.datasets.ade20k import read_ade20k, read_ade20k_mask
from keras_pe.evaluation.datasets.coco_captions import read_coco_captions
from keras_pe.evaluation.datasets.davis import read_davis, read_davis_mask
from keras_pe.evaluation.datasets.folders import read_image_folder, read_video_folder
from keras_pe.evaluation.datasets.karpathy import read_karpathy_captions
from keras_pe.evaluation.datasets.shards import (
    ShardImage,
    read_captioned_shards,
    read_labelled_shards,
)
from keras_pe.evaluation.datasets.types import (
    Captioned,
    Labelled,
    Segmented,
    VideoObjects,
)
from keras_pe.evaluation.datasets.video_captions import read_video_captions
from keras_pe.evaluation.datasets.video_classes import read_video_classes

__all__ = [
    "Captioned",
    "Labelled",
    "Segmented",
    "ShardImage",
    "VideoObjects",
    "read_ade20k",
    "read_ade20k_mask",
    "read_captioned_shards",
    "read_coco_captions",
    "read_davis",
    "read_davis_mask",
    "read_image_folder",
    "read_karpathy_captions",
    "read_labelled_shards",
    "read_video_captions",
    "read_video_classes",
    "read_video_folder",
]
