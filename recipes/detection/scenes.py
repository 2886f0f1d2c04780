"""Made-up images with boxes: the eight demo images, strewn over a canvas."""

from pathlib import Path

import numpy as np
from PIL import Image

import keras_pe

IMAGES = Path(keras_pe.__file__).parent / "cli" / "demo_images"
NO_OBJECT = -1  # fills up boxes and labels, as KerasHub expects it


def class_names() -> list[str]:
    """Returns the names of the objects; a label is a place in this list."""
    return sorted(path.stem for path in IMAGES.glob("*.png"))


def scenes(
    count: int, side: int = 128, max_objects: int = 3, seed: int = 0
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Draws images of one to `max_objects` objects that may cover each other.

    Args:
        count: number of images.
        side: height and width, pixels.
        max_objects: most objects in an image.
        seed: the same seed gives the same images.

    Returns:
        Images, float32 `(count, side, side, 3)` in [-1, 1], and `boxes`, float32
        `(count, max_objects, 4)`, left, top, right and bottom in pixels, with
        `labels`, int32 `(count, max_objects)`; both -1 where there is no object.

    Example:
        >>> images, objects = scenes(2)
        >>> images.shape, objects["boxes"].shape
        ((2, 128, 128, 3), (2, 3, 4))
    """
    rng = np.random.default_rng(seed)
    names = class_names()
    drawings = [Image.open(IMAGES / f"{name}.png").convert("RGBA") for name in names]
    images = np.empty((count, side, side, 3), "float32")
    boxes = np.full((count, max_objects, 4), NO_OBJECT, "float32")
    labels = np.full((count, max_objects), NO_OBJECT, "int32")
    for row in range(count):
        canvas = Image.new("RGB", (side, side), tuple(rng.integers(160, 256, 3)))
        for place in range(rng.integers(1, max_objects + 1)):
            label = int(rng.integers(len(names)))
            size = int(rng.integers(side // 4, side // 2 + 1))
            left, top = (int(v) for v in rng.integers(0, side - size + 1, 2))
            drawing = drawings[label].resize((size, size), Image.Resampling.BILINEAR)
            canvas.paste(drawing, (left, top), drawing)
            boxes[row, place] = (left, top, left + size, top + size)
            labels[row, place] = label
        images[row] = np.asarray(canvas, "float32") / 127.5 - 1.0
    return images, {"boxes": boxes, "labels": labels}
