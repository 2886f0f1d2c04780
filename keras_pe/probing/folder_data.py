"""Published data sets and folders of images, as a sweep reads them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from keras_pe.preprocessing.image import PEImageConverter
from keras_pe.probing.sweep_data import Batch, SweepData
from keras_pe.probing.tracking import Clip

BATCH_SIZE = 16
IGNORE = 255


def folder_samples(
    root: Path,
    task: str,
    converter: PEImageConverter,
    split: str = "training",
    limit: int | None = None,
) -> SweepData:
    """Returns the data of a folder.

    Args:
        root: one folder a class, or ADE20K for "segmentation".
        task: "classification" or "segmentation".
        converter: prepares the images; masks get their size.
        split: of ADE20K, "training" or "validation".
        limit: at most so many images, evenly spread; None for all.

    Raises:
        FileNotFoundError: naming what is missing.
    """
    from keras_pe.evaluation.datasets import read_ade20k, read_image_folder

    if task == "classification":
        found = read_image_folder(root)
        chosen = spread(len(found), limit)
        images = [found.samples[place] for place in chosen]
        return images, np.array(found.labels)[chosen]
    segmented = read_ade20k(root, split)
    return segmented_batches(
        segmented.images,
        segmented.masks,
        spread(len(segmented), limit),
        converter,
    )


def segmented_batches(
    images: Any, masks: Any, chosen: np.ndarray, converter: PEImageConverter
) -> Callable[[], Iterator[Batch]]:
    """Returns what yields batches of images and masks of one size."""
    from keras_pe.evaluation.datasets import read_ade20k_mask

    def batches() -> Iterator[Batch]:
        for start in range(0, len(chosen), BATCH_SIZE):
            rows = chosen[start : start + BATCH_SIZE]
            converted = converter([images[row] for row in rows])
            opened = [
                resized_mask(
                    read_ade20k_mask(masks[row], ignore_index=IGNORE),
                    converter.image_size,
                )
                for row in rows
            ]
            yield converted, np.stack(opened)

    return batches


def folder_items(
    root: Path, converter: PEImageConverter, limit: int | None = None
) -> Callable[[], Iterator[Clip]]:
    """Returns what yields the clips of DAVIS one by one; only one is in memory.

    Args:
        root: DAVIS as published.
        converter: prepares the frames; masks get their size.
        limit: at most so many clips, evenly spread; None for all.
    """
    from keras_pe.evaluation.datasets import read_davis, read_davis_mask

    videos = read_davis(root)

    def clips() -> Iterator[Clip]:
        for place in spread(len(videos), limit):
            video = videos[place]
            kept = [
                (frame, mask)
                for frame, mask in zip(video.frames, video.masks, strict=True)
                if mask is not None
            ]
            masks = [
                resized_mask(read_davis_mask(mask), converter.image_size)
                for _, mask in kept
            ]
            frames = converter([frame for frame, _ in kept])
            yield Clip(frames, np.stack(masks), video.name)

    return clips


def resized_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns a mask at (height, width), uint8; no class is mixed with another."""
    image = Image.fromarray(mask.astype("uint8"))
    height, width = size
    return np.asarray(image.resize((width, height), Image.Resampling.NEAREST))


def spread(count: int, limit: int | None) -> np.ndarray:
    """Returns places of at most `limit` samples, evenly spread."""
    if limit is None or limit >= count:
        return np.arange(count)
    return np.linspace(0, count - 1, limit).round().astype("int64")
