"""Images with exact masks, one file a split: what scenes and parts have in common.

A file is a NumPy archive without pickles, equal byte by byte for equal input.
"""

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_pe.files import write_atomically
from projects.emoji.data.shards import to_json_bytes

BACKGROUND, IGNORE = 0, 255
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class MaskedObject:
    """What one number of an instance map stands for.

    Attributes:
        label: name of the concept, such as "dog face".
        caption: the label in the wording that the emoji model was trained with.
        class_id: its class; `class_names[class_id]` says which.
        box: left, top, right, bottom of what is visible, pixels; right and bottom
            are the first ones outside.
        concept: number of the concept, as in `concepts.json`.
        hexcode: its emoji.
        vendor: who drew it.
        key: which drawing it is.
        heldout: whether no drawing of the concept was in the emoji training data.
    """

    label: str
    caption: str
    class_id: int
    box: tuple[int, int, int, int]
    concept: int
    hexcode: str
    vendor: str
    key: str
    heldout: bool


@dataclass(frozen=True)
class MaskedImage:
    """One image, before it is put into a set."""

    image: Bytes  # (size, size, 3)
    mask: Bytes  # (size, size)
    instances: Bytes  # (size, size)
    objects: tuple[MaskedObject, ...]
    background: str


@dataclass(frozen=True)
class SegmentationSet:
    """Images with class masks and instance maps.

    Attributes:
        images: uint8 `(count, size, size, 3)`.
        masks: uint8 `(count, size, size)`: 0 is background, 255 is to be ignored,
            other values are places in `class_names`.
        instances: uint8 `(count, size, size)`: 0 is background, k is what is
            visible of object k-1. Nothing is ignored here: a pixel belongs to what
            covers at least half of it.
        class_names: the first is "background".
        objects: for each image, what the numbers of its instance map stand for.
        backgrounds: for each image, the kind of its background.
        about: seed, sources and so on, as written.
    """

    images: Bytes
    masks: Bytes
    instances: Bytes
    class_names: tuple[str, ...]
    objects: tuple[tuple[MaskedObject, ...], ...]
    backgrounds: tuple[str, ...]
    about: dict[str, Any]

    def __len__(self) -> int:
        """Returns how many images there are."""
        return len(self.images)

    def object_mask(self, image: int, number: int) -> npt.NDArray[np.bool_]:
        """Returns where an object, counted from 0, is visible: `(size, size)`."""
        if not 0 <= number < len(self.objects[image]):
            raise ValueError(
                f"image {image} has {len(self.objects[image])} objects, counted "
                f"from 0; there is no object {number}."
            )
        mask: npt.NDArray[np.bool_] = self.instances[image] == number + 1
        return mask


def collect(
    images: Iterable[MaskedImage],
    class_names: Sequence[str],
    about: Mapping[str, Any],
) -> SegmentationSet:
    """Puts images of equal size into one set."""
    rows = list(images)
    return SegmentationSet(
        images=np.stack([row.image for row in rows]),
        masks=np.stack([row.mask for row in rows]),
        instances=np.stack([row.instances for row in rows]),
        class_names=tuple(class_names),
        objects=tuple(row.objects for row in rows),
        backgrounds=tuple(row.background for row in rows),
        about=dict(about),
    )


def write_archive(
    path: Path, arrays: Mapping[str, npt.NDArray[Any]], text: Mapping[str, Any]
) -> None:
    """Writes arrays, and a JSON text as the bytes of one more array."""
    buffer = io.BytesIO()
    encoded = np.frombuffer(to_json_bytes(dict(text)), np.uint8)
    np.savez_compressed(buffer, allow_pickle=False, **arrays, text=encoded)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, buffer.getvalue())


def read_archive(
    path: Path, names: Sequence[str]
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Reads what `write_archive` wrote; anything else is an error."""
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing; see projects/emoji/probing/DATA.md."
        )
    with np.load(path, allow_pickle=False) as archive:
        missing = {*names, "text"} - set(archive.files)
        if missing:
            raise ValueError(f"{path} lacks {', '.join(sorted(missing))}.")
        arrays = {name: archive[name] for name in names}
        text = json.loads(archive["text"].tobytes())
    return arrays, text


def save(path: Path, data: SegmentationSet) -> None:
    """Writes a set to one file."""
    text = {
        "class_names": data.class_names,
        "objects": [[asdict(one) for one in row] for row in data.objects],
        "backgrounds": data.backgrounds,
        "about": data.about,
    }
    arrays = {
        "images": data.images,
        "masks": data.masks,
        "instances": data.instances,
    }
    write_archive(path, arrays, text)


def load(path: Path) -> SegmentationSet:
    """Reads a set from one file."""
    arrays, text = read_archive(path, ("images", "masks", "instances"))
    return SegmentationSet(
        images=arrays["images"],
        masks=arrays["masks"],
        instances=arrays["instances"],
        class_names=tuple(text["class_names"]),
        objects=tuple(tuple(_object(one) for one in row) for row in text["objects"]),
        backgrounds=tuple(text["backgrounds"]),
        about=text["about"],
    )


def split_path(
    directory: Path | str, kind: str, split: str, splits: Sequence[str]
) -> Path:
    """Returns the file of a split, such as that of the training scenes."""
    if split not in splits:
        raise ValueError(f"no split {split!r} of the {kind}; one of {list(splits)}.")
    return Path(directory) / f"{kind}_{split}.npz"


def _object(entry: Mapping[str, Any]) -> MaskedObject:
    """Reads one object of the JSON text."""
    left, top, right, bottom = entry["box"]
    return MaskedObject(**{**entry, "box": (left, top, right, bottom)})


def bounding_box(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Returns left, top, right, bottom of a mask that holds at least one pixel."""
    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise ValueError("an empty mask has no bounding box.")
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
