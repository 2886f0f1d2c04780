"""Whether what is given are images, texts or videos, as far as it can be told."""

import os
import re
from collections.abc import Iterable, Mapping, Set
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from keras_pe.preprocessing.given_images import image_name, is_file
from keras_pe.preprocessing.media_folders import (
    IMAGE_SUFFIXES,
    OTHER_IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    has_suffix,
)

Kind = Literal["image", "text", "video"]
KINDS: tuple[Kind, ...] = get_args(Kind)
HINT = 'Say which with kind="image", kind="text" or kind="video".'


def kind_of(given: Any) -> Kind:
    """Returns what a call was given: images, texts or videos, one or many of a kind.

    A string is the path of an image or a video if it ends like one (".jpg", ".mp4"),
    else a text, whatever lies on the disk. A `Path` is never a text. Addresses, and
    files of formats that are not read (".heic"), are images, for whoever opens images
    to refuse: as texts they would have a vector of something else. Animations, which
    can be either, are images; folders of frames must be called videos.

    Args:
        given: one thing, a sequence of them, or a batch array.

    Returns:
        "image", "text" or "video".

    Raises:
        ValueError: if it is a mixture, naming the first two of different kinds; or
            nothing; or of no kind that can be told.

    Example:
        >>> from pathlib import Path
        >>> kind_of("a cat"), kind_of("cat.jpg"), kind_of([Path("cat.mp4")])
        ('text', 'image', 'video')
        >>> kind_of(["a cat", "cat.jpg"])
        Traceback (most recent call last):
        ...
        ValueError: A mixture: inputs[0] is a text ('a cat'), inputs[1] an image \
('cat.jpg'). Encode each kind in a call of its own.
    """
    one = _kind_of_one(given)
    if one is not None:
        return one
    if hasattr(given, "__array__"):
        return _kind_of_array(given)
    if isinstance(given, Set | Mapping) or not isinstance(given, Iterable):
        raise ValueError(
            f"Got a {type(given).__name__}: expected images, texts or videos, one or a "
            f"list of them."
        )
    first: tuple[int, Kind, Any] | None = None
    for place, item in enumerate(given):
        kind = _kind_of_one(item) or _kind_of_part(item)
        if kind is None:
            raise ValueError(
                f"inputs[{place}] is no image, text or video ({_shown(item)})."
            )
        first = first or (place, kind, item)
        if kind != first[1]:
            raise ValueError(
                f"A mixture: inputs[{first[0]}] is {_called(first[1])} "
                f"({_shown(first[2])}), inputs[{place}] {_called(kind)} "
                f"({_shown(item)}). Encode each kind in a call of its own."
            )
    if first is None:
        raise ValueError(f"Nothing was given, and nothing says of which kind. {HINT}")
    return first[1]


def as_items(given: Any) -> Any:
    """Returns a list of what an iterator gives, which `kind_of` would use up."""
    if is_file(given) or isinstance(given, Image.Image) or hasattr(given, "__array__"):
        return given
    if isinstance(given, Iterable) and not isinstance(given, list | tuple):
        if isinstance(given, str | bytes | bytearray | memoryview | Set | Mapping):
            return given
        return list(given)
    return given


def _kind_of_one(item: Any) -> Kind | None:
    """Returns the kind of one thing that is no array and no sequence."""
    if isinstance(item, str):
        if has_suffix(item, IMAGE_SUFFIXES) or _is_unread(item):
            return "image"
        return "video" if has_suffix(item, VIDEO_SUFFIXES) else "text"
    if isinstance(item, os.PathLike):
        if has_suffix(item, IMAGE_SUFFIXES):
            return "image"
        if has_suffix(item, VIDEO_SUFFIXES):
            return "video"
        raise ValueError(
            f"{image_name(item)} ends like neither an image nor a video. "
            f"{_of_folder(item)}{HINT}"
        )
    if isinstance(item, bytes | bytearray | memoryview | Image.Image) or is_file(item):
        return "image"
    return None


def _is_unread(text: str) -> bool:
    """Returns whether a string names what is no text, and can't be opened either."""
    if re.search(r"\s", text):  # a sentence about a file
        return False
    is_address = re.match(r"(https?|ftp|s3|gs|hf|file)://", text) is not None
    return is_address or has_suffix(text, OTHER_IMAGE_SUFFIXES)


def _of_folder(path: os.PathLike[Any]) -> str:
    if not os.path.isdir(path):
        return ""
    return "Of a folder of images give the files: sorted(folder.iterdir()). "


def _kind_of_part(item: Any) -> Kind | None:
    """Returns the kind of one of several arrays or sequences."""
    if isinstance(item, list | tuple):
        return "video"  # a list of its frames
    shape = getattr(item, "shape", None)
    if shape is None or not hasattr(item, "__array__"):
        return None
    if len(shape) == 0 and np.asarray(item).dtype.kind in "OTU":
        return _kind_of_one(str(item))
    return {2: "image", 3: "image", 4: "video"}.get(len(shape))  # type: ignore[return-value]


def _kind_of_array(array: Any) -> Kind:
    """Returns the kind of one array: an image or many, or videos; or of strings."""
    shape = tuple(getattr(array, "shape", ()))
    if len(shape) <= 1 and np.asarray(array).dtype.kind in "OTU":
        return kind_of(np.asarray(array).ravel().tolist())
    if len(shape) in (2, 3, 4):
        return "image"
    if len(shape) == 5:
        return "video"
    raise ValueError(
        f"An array of shape {shape}: expected an image (height, width, channels), "
        f"images (images, height, width, channels) or videos (videos, frames, height, "
        f"width, channels)."
    )


def _called(kind: Kind) -> str:
    return "an image" if kind == "image" else f"a {kind}"


def _shown(item: Any) -> str:
    if isinstance(item, str | os.PathLike | int | float | None):
        return f"{item!r:.60}"
    shape = getattr(item, "shape", None)
    return type(item).__name__ + (f" {tuple(shape)}" if shape is not None else "")
