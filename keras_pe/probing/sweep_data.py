"""The images and targets of a sweep, in batches of one shape."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from keras_pe.preprocessing.batches import load_batches
from keras_pe.preprocessing.image import PEImageConverter

Batch = tuple[np.ndarray, np.ndarray]
# (images, targets); or something that can be iterated over again and yields batches
# of prepared images with their targets; or a function that returns such batches.
# Training-free probes take clips or pairs in place of batches.
SweepData = tuple[Any, Any] | Iterable[Any] | Callable[[], Iterable[Any]]


def sweep_batches(
    data: SweepData, batch_size: int, converter: PEImageConverter | None
) -> Iterator[Batch]:
    """Yields (images, targets) batches.

    Args:
        data: `(images, targets)`, where images are paths, PIL images or uint8
            arrays, which the converter prepares, or one float array
            `(samples, height, width, 3)` that is prepared already; targets are an
            array, one row an image. Or batches of prepared images and targets, for
            data that never is in memory.
        batch_size: images in a batch, where batches are made here.
        converter: prepares images.

    Raises:
        ValueError: if images and targets do not match in number.
        ImageError: if an image can't be read: a probe leaves out none in silence.
    """
    if callable(data) or not isinstance(data, tuple) or len(data) != 2:
        for batch in data() if callable(data) else data:
            yield checked_pair(batch)
        return
    images, targets = data
    targets = np.asarray(targets)
    if len(images) != len(targets):
        raise ValueError(
            f"Got {len(images)} images and {len(targets)} targets. Each image "
            f"needs one target, in the same order."
        )
    if isinstance(images, np.ndarray) and images.dtype.kind == "f":
        for start in range(0, len(images), batch_size):
            rows = slice(start, start + batch_size)
            yield np.asarray(images[rows], "float32"), targets[rows]
        return
    if converter is None:
        raise ValueError(
            "Images that are paths, PIL images or uint8 arrays need an "
            "image_converter, such as keras_pe.PEImageConverter(224)."
        )
    for indices, converted in load_batches(
        images, converter, batch_size, on_error="raise"
    ):
        yield converted, targets[indices]


def checked_pair(batch: Any) -> Batch:
    """Returns the images and targets of a batch, or says why it is none.

    Raises:
        ValueError: if it is no pair, or has more of one than of the other.
    """
    if not isinstance(batch, list | tuple) or len(batch) != 2:
        found = f"{len(batch)}" if isinstance(batch, list | tuple) else "no pair"
        raise ValueError(
            f"A batch is (images, targets), got a {type(batch).__name__} ({found}). "
            f"Whole arrays are given as a tuple: (images, targets)."
        )
    images, targets = batch
    if len(images) != len(targets):
        raise ValueError(
            f"A batch has {len(images)} images and {len(targets)} targets."
        )
    return images, targets


def count_samples(data: SweepData) -> int | None:
    """Returns the number of samples, where that is known beforehand."""
    if isinstance(data, tuple) and len(data) == 2:
        return len(data[0])
    return None
