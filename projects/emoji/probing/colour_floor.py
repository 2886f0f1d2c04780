"""What the colour of a pixel alone tells of its class: the floor below all features.

Run ``python -m projects.emoji.probing.colour_floor --input data/probing``.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from projects.emoji.probing import body_parts, scenes
from projects.emoji.probing.segmentation_set import (
    BACKGROUND,
    IGNORE,
    Bytes,
    SegmentationSet,
)

LEVELS = 16  # of each of red, green and blue


def colour_numbers(images: Bytes) -> npt.NDArray[np.int64]:
    """Returns which of `LEVELS**3` colours each pixel has."""
    steps = images.astype("int64") * LEVELS // 256
    return np.asarray((steps[..., 0] * LEVELS + steps[..., 1]) * LEVELS + steps[..., 2])


def fit_colours(data: SegmentationSet) -> Bytes:
    """Returns the likeliest class of each colour, every class counting the same.

    A colour that was never seen is background.
    """
    classes = len(data.class_names)
    judged = data.masks != IGNORE
    colours = colour_numbers(data.images)[judged]
    pairs = data.masks[judged].astype("int64") * LEVELS**3 + colours
    counts = np.bincount(pairs, minlength=classes * LEVELS**3)
    counts = counts.reshape(classes, LEVELS**3)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    likeliest = shares.argmax(axis=0).astype("uint8")
    likeliest[counts.sum(axis=0) == 0] = BACKGROUND
    return likeliest


def mean_iou(predicted: Bytes, masks: Bytes, classes: int) -> float:
    """Returns the mean over classes of intersection over union, of judged pixels.

    Classes that the masks do not hold are left out of the mean.
    """
    judged = masks != IGNORE
    pairs = masks[judged].astype("int64") * classes + predicted[judged]
    counts = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    both = np.diag(counts)
    either = counts.sum(axis=0) + counts.sum(axis=1) - both
    there = counts.sum(axis=1) > 0
    return float((both[there] / either[there]).mean())


def main(arguments: Sequence[str] | None = None) -> None:
    """Parses the command line and prints the floor of each split."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", type=Path, required=True)
    options = parser.parse_args(arguments)
    for kind in (scenes, body_parts):
        load = scenes.load_scenes if kind is scenes else body_parts.load_parts
        likeliest = fit_colours(load(options.input, "train"))
        for split in kind.SPLITS:
            data = load(options.input, split)
            predicted = likeliest[colour_numbers(data.images)]
            floor = mean_iou(predicted, data.masks, len(data.class_names))
            empty = mean_iou(
                np.zeros_like(predicted), data.masks, len(data.class_names)
            )
            name = kind.__name__.rpartition(".")[2]
            print(f"{name} {split}: mIoU {100 * floor:.1f} by colour,", end=" ")
            print(f"{100 * empty:.1f} for background everywhere")


if __name__ == "__main__":
    main()
