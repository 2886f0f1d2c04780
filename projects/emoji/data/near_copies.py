"""Find drawings that are nearly those of another set, pixel by pixel."""

import io
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from projects.emoji.data.floor import descriptors
from projects.emoji.data.shards import Record, load_arrays

SIDE, LIMIT = 24, 0.06  # mean absolute difference on white, in [0, 1]


def pixels_of(content: bytes) -> npt.NDArray[np.uint8]:
    """Decodes one WebP content to uint8 ``(size, size, 4)``."""
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGBA"), dtype=np.uint8)


def ink(image: bytes) -> float:
    """Returns the mean difference from a white page, in [0, 1]."""
    return float(1 - descriptors(pixels_of(image)[None], SIDE, "as drawn").mean())


def nearest_of_same_concept(
    samples: Sequence[tuple[Record, bytes]], directory: Path, split: str
) -> list[float | None]:
    """Returns each sample's least distance to the split's images of its concept.

    None where the split has no such image; flags, which all vendors draw
    alike, count like everything else.
    """
    gallery: dict[int, list[npt.NDArray[np.float32]]] = defaultdict(list)
    arrays, records = load_arrays(directory, split)
    for row, record in zip(descriptors(arrays, SIDE, "as drawn"), records, strict=True):
        gallery[record["concept"]].append(row)
    distances: list[float | None] = []
    for record, image in samples:
        others = gallery.get(record["concept"])
        if others is None:
            distances.append(None)
            continue
        row = descriptors(pixels_of(image)[None], SIDE, "as drawn")
        distances.append(float(np.abs(np.stack(others) - row).mean(axis=1).min()))
    return distances
