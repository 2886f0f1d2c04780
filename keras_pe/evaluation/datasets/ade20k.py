"""ADE20K as the scene parsing benchmark packs it: 150 classes."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from keras_pe.evaluation.datasets.dataset_files import check_there, folder, read_lines
from keras_pe.evaluation.datasets.types import Segmented
from keras_pe.preprocessing.media_folders import list_files

NUM_CLASSES = 150
IGNORE_INDEX = 255


def read_ade20k(root: str | os.PathLike[str], split: str = "validation") -> Segmented:
    """Reads the images and masks of a split.

    Args:
        root: `ADEChallengeData2016`, with `images/<split>/*.jpg`,
            `annotations/<split>/*.png` and perhaps `objectInfo150.txt`.
        split: "validation" or "training".

    Returns:
        `Segmented`; masks are opened by `read_ade20k_mask`.

    Raises:
        FileNotFoundError: naming what is missing.

    Source: https://github.com/CSAILVision/sceneparsing.

    Example:
        >>> from PIL import Image
        >>> for kind, ending in (("images", "jpg"), ("annotations", "png")):
        ...     folder = Path("ADE", kind, "validation")
        ...     folder.mkdir(parents=True)
        ...     Image.new("L", (8, 8)).save(folder / f"1.{ending}")
        >>> found = read_ade20k("ADE")
        >>> len(found.images), found.num_classes
        (1, 150)
    """
    directory = folder(root, "images and annotations")
    images = list_files(
        folder(directory / "images" / split, f"the images of {split}"),
        (".jpg", ".jpeg", ".png"),
    )
    annotations = folder(directory / "annotations" / split, f"the masks of {split}")
    masks = [annotations / f"{image.stem}.png" for image in images]
    if not images:
        raise FileNotFoundError(f"No images in {directory / 'images' / split}.")
    check_there(masks, "masks")
    return Segmented(
        tuple(images),
        tuple(masks),
        _class_names(directory / "objectInfo150.txt"),
        NUM_CLASSES,
        IGNORE_INDEX,
    )


def read_ade20k_mask(
    path: str | os.PathLike[str], ignore_index: int = IGNORE_INDEX
) -> np.ndarray:
    """Opens a mask, with classes counted from 0.

    Args:
        path: a PNG in which 1 to 150 are the classes and 0 is everything else.
        ignore_index: what 0 becomes.

    Returns:
        int32 `(height, width)`.

    Raises:
        ValueError: if it holds other numbers, or colours.

    Example:
        >>> Image.fromarray(np.array([[0, 1, 150]], "uint8")).save("mask.png")
        >>> read_ade20k_mask("mask.png")
        array([[255,   0, 149]], dtype=int32)
    """
    with Image.open(path, formats=("PNG",)) as image:
        if image.mode not in ("L", "P"):
            raise ValueError(
                f"{path} has mode {image.mode}; expected a class in each pixel. (The "
                "full data set packs classes into colours: use the benchmark's.)"
            )
        mask = np.asarray(image).astype("int32")
    if mask.max(initial=0) > NUM_CLASSES:
        raise ValueError(f"{path} holds {mask.max()}; expected 0 to {NUM_CLASSES}.")
    return np.where(mask == 0, ignore_index, mask - 1).astype("int32")


def _class_names(path: Path) -> tuple[str, ...] | None:
    """Reads the last column of the table: Idx, Ratio, Train, Val, Stuff, Name."""
    if not path.is_file():
        return None
    names = [line.split("\t")[-1].strip() for line in read_lines(path)[1:]]
    if len(names) != NUM_CLASSES:
        raise ValueError(f"{path} has {len(names)} classes, expected {NUM_CLASSES}.")
    return tuple(names)
