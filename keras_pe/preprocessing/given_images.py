"""What counts as one image, as many, and as neither."""

import io
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np
from PIL import Image

from keras_pe.preprocessing.image_errors import (
    BAD_TYPE,
    BAD_VALUES,
    UNREADABLE,
    ImageError,
)

_LONGEST_NAME = 300  # of an image in a message; what is longer is hardly a path


def as_sequence(images: Any) -> Sequence[Any]:
    """Lists the images of a call: one image becomes a list of one.

    Args:
        images: one image, an iterable of them, or a batch array.

    Returns:
        The images, in order.

    Raises:
        ImageError: if it is neither an image nor an ordered collection of them.

    Example:
        >>> len(as_sequence(np.zeros((5, 8, 8, 3), "uint8")))
        5
    """
    one = str | os.PathLike | bytes | bytearray | memoryview | Image.Image
    # A file is an iterable of its lines: it has to be seen before iterables are.
    if isinstance(images, one) or is_file(images):
        return [images]
    if isinstance(images, list | tuple):
        check_distinct(images, "images")
        return images
    if hasattr(images, "__array__"):
        array = to_array(images, image_name(images))
        if array.dtype.kind in "UOT":  # an array of paths, or of images
            return _elements(array)
        if array.dtype.kind == "S":
            raise ImageError(
                "images",
                BAD_TYPE,
                f"An array of dtype {array.dtype}, in which NumPy drops zeros at the "
                "end of bytes; expected a list of paths, or of the bytes of files.",
            )
        return list(array) if array.ndim == 4 else [array]
    if isinstance(images, Set):
        raise ImageError(
            "images",
            BAD_TYPE,
            f"A {type(images).__name__} has no order, so rows could not be told "
            "apart; expected a list: use sorted(paths).",
        )
    if isinstance(images, Iterable) and not isinstance(images, Mapping):
        return listed(images)
    raise ImageError(
        "images",
        BAD_TYPE,
        f"A {type(images).__name__}; expected a path, bytes, an open file, a PIL "
        "image, an array, or a sequence of those.",
    )


def listed(items: Iterable[Any]) -> list[Any]:
    """Lists what an iterable gives, as it was when it was given.

    Args:
        items: images or frames. Pillow's `ImageSequence.Iterator` gives one and the
            same open image, which shows another frame each time; decoders give one
            array again and again. Such are copied when they come.

    Returns:
        The items, in order.

    Example:
        >>> buffer = np.zeros(1, "uint8")
        >>> def frames():
        ...     for number in range(3):
        ...         buffer[:] = number
        ...         yield buffer
        >>> [frame.tolist() for frame in listed(frames())]
        [[0], [1], [2]]
    """
    if not isinstance(items, Iterator):
        return list(items)
    return [
        item.copy() if isinstance(item, np.ndarray) or _is_animated(item) else item
        for item in items
    ]


def check_distinct(items: Sequence[Any], name: str) -> None:
    """Raises ImageError if one open animation stands for several of its frames.

    Args:
        items: images or frames.
        name: what to call them in an error.

    Raises:
        ImageError: saying what to pass instead.
    """
    images = [item for item in items if isinstance(item, Image.Image)]
    times = Counter(map(id, images))
    if len(times) == len(images):
        return
    if any(times[id(item)] > 1 and _is_animated(item) for item in images):
        raise ImageError(
            name,
            BAD_TYPE,
            "One open animation comes several times, and shows one frame at a time; "
            "expected an image of its own for each frame: pass the iterator itself, "
            "PIL.ImageSequence.all_frames(animation), or to PEVideoConverter the file.",
        )


def _is_animated(item: Any) -> bool:
    try:
        return isinstance(item, Image.Image) and getattr(item, "is_animated", False)
    except Exception:  # it is closed or damaged, which whoever reads it will say
        return False


def image_name(item: Any, index: int | None = None, kind: str = "image") -> str:
    """Names an image or video for messages: its path, or its type and position.

    Args:
        item: any image or video.
        index: its position in the call, if there were several.
        kind: "image" or "video".

    Returns:
        The name.

    Example:
        >>> image_name("cat.jpg", 0), image_name(b"...", 3)
        ('cat.jpg', 'images[3] (bytes)')
    """
    if isinstance(item, str | os.PathLike):
        path: Any = _path_of(item)
    else:
        # A number if a file has no path; what Pillow remembers of one.
        path = getattr(item, "name" if is_file(item) else "filename", "")
    if isinstance(path, str) and path:
        return path if len(path) <= _LONGEST_NAME else f"{path[:_LONGEST_NAME]}..."
    place = kind if index is None else f"{kind}s[{index}]"
    return f"{place} ({type(item).__name__})"


def is_file(item: Any) -> bool:
    """Returns whether something is an open file, or reads like one."""
    return callable(getattr(item, "read", None)) and not hasattr(item, "__array__")


def file_content(file: Any, name: str) -> bytes:
    """Reads an open file whole, wherever it stands.

    A file that can't go back, such as an answer of a server, is read from where it
    stands. Others stand afterwards where they stood.

    Args:
        file: open for reading bytes.
        name: what to call it in an error.

    Returns:
        Its content.

    Raises:
        ImageError: if it is closed, a text file, or can't be read.

    Example:
        >>> stream = io.BytesIO(b"abc")
        >>> stream.read(), file_content(stream, "stream")
        (b'abc', b'abc')
    """
    try:
        if isinstance(file, io.BytesIO):
            return file.getvalue()  # threads may share it
        place = file.tell() if _can_seek(file) else None
        if place is not None:
            file.seek(0)
        content = file.read()
        if place is not None:
            file.seek(place)
    except Exception as error:  # closed, not for reading, a broken connection, ...
        raise ImageError(
            name,
            UNREADABLE,
            f"Reading it raised {type(error).__name__}: {error}. Expected a file that "
            'is open for reading bytes: open(path, "rb").',
        ) from error
    if not isinstance(content, bytes | bytearray | memoryview):
        raise ImageError(
            name,
            BAD_TYPE,
            f"It reads as {type(content).__name__}; expected a file of bytes: "
            'open(path, "rb").',
        )
    return bytes(content)


def to_array(item: Any, name: str) -> np.ndarray:
    """Turns an array or tensor of any library, on any device, into a NumPy array.

    Args:
        item: has `__array__`.
        name: what to call it in an error.

    Returns:
        The array. Floats that NumPy itself does not know (bfloat16) become float32.

    Raises:
        ImageError: if it does not convert, or has masked values.
    """
    if isinstance(item, np.ma.MaskedArray) and np.ma.is_masked(item):
        raise ImageError(
            name,
            BAD_VALUES,
            "A masked array, with pixels that have no value: use array.filled(0).",
        )
    try:
        array = _plain(item)
    except Exception as error:  # a tensor without values, of another machine, ...
        raise ImageError(
            name,
            BAD_TYPE,
            f"A {type(item).__module__}.{type(item).__name__} that NumPy can't read "
            f"({type(error).__name__}: {error}). Expected an array with values. Inside "
            "a model or tf.data, where there are none yet, use keras.layers.Resizing("
            "..., antialias=True) and keras.layers.Rescaling(1 / 127.5, offset=-1); or "
            "in tf.data tf.numpy_function(converter.convert, [image], tf.float32).",
        ) from error
    if array.dtype.kind == "V" and "float" in array.dtype.name:  # of ml_dtypes
        return array.astype("float32")
    return array


def _plain(item: Any) -> np.ndarray:
    # PyTorch's tensors convert only without gradient, on the CPU, in NumPy's dtypes.
    # Asked by name, since PyTorch may not be installed.
    if callable(getattr(item, "detach", None)):
        item = item.detach()
        item = item.cpu() if callable(getattr(item, "cpu", None)) else item
        dtype = str(getattr(item, "dtype", ""))
        if dtype.startswith(("torch.bfloat16", "torch.float8")):
            item = item.float()
    return np.asarray(item)


def _elements(array: np.ndarray) -> list[Any]:
    if array.ndim <= 1:
        return array.ravel().tolist()
    raise ImageError(
        "images",
        BAD_TYPE,
        f"An array of shape {array.shape} of dtype {array.dtype}; expected one row of "
        "paths or images, or numbers: uint8 (0-255) or floats in [0, 1]. NumPy takes "
        "PIL images apart: pass them in a list.",
    )


def _can_seek(file: Any) -> bool:
    seekable = getattr(file, "seekable", None)
    return bool(seekable()) if callable(seekable) else hasattr(file, "seek")


def _path_of(item: str | os.PathLike) -> str:
    try:
        return os.fsdecode(item)
    except Exception:  # a __fspath__ that fails; opening it will say so
        return ""
