"""DAVIS: videos as frames, with palette images that number the objects."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from keras_pe.evaluation.datasets.dataset_files import (
    check_there,
    folder,
    read_lines,
)
from keras_pe.evaluation.datasets.types import VideoObjects
from keras_pe.preprocessing.media_folders import list_files


def read_davis(
    root: str | os.PathLike[str],
    split: str = "val",
    year: str = "2017",
    resolution: str = "480p",
) -> list[VideoObjects]:
    """Reads the videos of a split.

    Args:
        root: with `JPEGImages/480p/<video>/*.jpg`, `Annotations/480p/<video>/*.png`
            and `ImageSets/2017/val.txt`.
        split: "val", "train", "test-dev", ...
        year: of the split.
        resolution: "480p" or "Full-Resolution".

    Returns:
        The videos in the order of the split; where only the first frame has a mask,
        the others have None.

    Raises:
        FileNotFoundError: naming what is missing.
        ValueError: if the split is empty.

    Source: https://davischallenge.org, "DAVIS 2017".

    Example:
        >>> from PIL import Image
        >>> for kind, ending in (("JPEGImages", "jpg"), ("Annotations", "png")):
        ...     folder = Path("DAVIS", kind, "480p", "bear")
        ...     folder.mkdir(parents=True)
        ...     Image.new("L", (8, 8)).save(folder / f"00000.{ending}")
        >>> Path("DAVIS/ImageSets/2017").mkdir(parents=True)
        >>> _ = Path("DAVIS/ImageSets/2017/val.txt").write_text("bear\\n")
        >>> [video.name for video in read_davis("DAVIS")]
        ['bear']
    """
    directory = folder(root, "JPEGImages, Annotations and ImageSets")
    listing = directory / "ImageSets" / year / f"{split}.txt"
    check_there([listing], "list of videos")
    names = read_lines(listing)
    if not names:
        raise ValueError(f"{listing} lists no videos.")
    return [_video(directory, name, resolution) for name in names]


def read_davis_mask(path: str | os.PathLike[str]) -> np.ndarray:
    """Opens a mask.

    Args:
        path: a palette or grey PNG.

    Returns:
        uint8 `(height, width)`: 0 is the background, 1 and up are objects.

    Raises:
        ValueError: if it is an image in colours.

    Example:
        >>> Image.fromarray(np.array([[0, 3]], "uint8")).save("00000.png")
        >>> read_davis_mask("00000.png")
        array([[0, 3]], dtype=uint8)
    """
    with Image.open(path, formats=("PNG",)) as image:
        if image.mode not in ("P", "L"):
            raise ValueError(
                f"{path} has mode {image.mode}; expected the number of an object in "
                "each pixel, that is a palette or grey image."
            )
        return np.asarray(image, "uint8")


def _video(directory: Path, name: str, resolution: str) -> VideoObjects:
    frames = list_files(
        folder(directory / "JPEGImages" / resolution / name, f"the frames of {name}")
    )
    annotations = directory / "Annotations" / resolution / name
    masks = [annotations / f"{frame.stem}.png" for frame in frames]
    if not frames:
        raise FileNotFoundError(
            f"No frames in {directory / 'JPEGImages' / resolution / name}."
        )
    check_there(masks[:1], f"first mask of {name}")
    there = [mask if mask.is_file() else None for mask in masks]
    return VideoObjects(name, tuple(frames), tuple(there))
