"""Small pictures for pages: of any file, within limits, and as an address of data."""

import base64
import io
import os
from typing import Any

from PIL import Image

from keras_pe.preprocessing.given_images import image_name
from keras_pe.preprocessing.image_decoding import (
    DEFAULT_FORMATS,
    DEFAULT_MAX_PIXELS,
    DEFAULT_MAX_SIDE,
    decode,
    open_image_file,
    upright,
)
from keras_pe.preprocessing.image_modes import resizable

WHITE = (255, 255, 255)  # what transparent pictures are laid on
THUMBNAIL_SIDE = 192  # pixels, of the longer side
QUALITY = 80  # of JPEG


def thumbnail(image: Any, side: int = THUMBNAIL_SIDE) -> Image.Image:
    """Returns a small picture of an image, upright, on white where it is transparent.

    Args:
        image: a path, the bytes of a file, or a PIL image.
        side: longer side of the result in pixels, at most; nothing is enlarged.

    Returns:
        A PIL image of mode RGB.

    Raises:
        ImageError: if it can't be read, or is larger than the package reads.
        TypeError: if it is something else.

    Example:
        >>> thumbnail(Image.new("RGB", (400, 100)), side=100).size
        (100, 25)
    """
    name = image_name(image)
    limits = DEFAULT_MAX_PIXELS, DEFAULT_MAX_SIDE
    if isinstance(image, Image.Image):
        opened = upright(decode(image, name, *limits), name)
    else:
        if not isinstance(image, bytes | str | os.PathLike):
            raise TypeError(
                f"A thumbnail is made of a path, the bytes of a file or a PIL image, "
                f"got {type(image).__name__}. PIL.Image.fromarray makes one of pixels."
            )
        source = image if isinstance(image, bytes) else os.fspath(image)
        opened = open_image_file(source, name, DEFAULT_FORMATS, *limits)
    small = resizable(opened, name, WHITE)
    scale = min(1.0, side / max(small.size))
    size = (max(round(small.width * scale), 1), max(round(small.height * scale), 1))
    return small.resize(size, Image.Resampling.BICUBIC).convert("RGB")


def data_uri(image: Image.Image) -> str:
    """Returns a picture as an address that holds all of it, for a page of one file.

    Args:
        image: of mode RGB.

    Returns:
        `data:image/...`, a PNG or a JPEG, whichever is shorter. Nothing in it needs
        to be escaped.

    Example:
        >>> data_uri(Image.new("RGB", (1, 1)))[:22]
        'data:image/png;base64,'
    """
    found = []
    for kind, options in (
        ("png", {"optimize": True}),
        ("jpeg", {"quality": QUALITY}),
    ):
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        found.append((buffer.getvalue(), kind))
    content, kind = min(found, key=lambda each: len(each[0]))
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
