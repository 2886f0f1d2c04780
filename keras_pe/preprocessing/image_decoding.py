"""Opening one image file without trusting it.

An image from the web is untrusted input. The header is read first, by an
allow-list of decoders, and its declared size is checked before a single pixel
is decoded. Whatever goes wrong comes out as one `ImageError`.
"""

import io
import os
import re
import stat
import struct
import zlib
from collections.abc import Collection
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from keras_pe.preprocessing.image_errors import (
    BAD_VALUES,
    DAMAGED,
    EMPTY,
    MISSING,
    NOT_AN_IMAGE,
    TOO_LARGE,
    UNREADABLE,
    ImageError,
    described,
)
from keras_pe.preprocessing.image_modes import (
    colour_key,
    eight_bits,
    is_wide,
    round_to_bytes,
    signed_bytes,
)

# What cameras, browsers and data sets produce, each decoded by a maintained
# library in memory. Left out on purpose: EPS (runs Ghostscript, a program of its
# own), containers that few people send and few people test (PSD, ICNS, FLI, PCX,
# FITS, DDS, ...) and JPEG 2000, whose decoder has the longest record of memory
# bugs. "JPEG" includes the phone's MPO: a JPEG with more images behind the first.
DEFAULT_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")

# Pillow's own limit for a warning: 0.25 GiB of 8-bit RGB.
DEFAULT_MAX_PIXELS = 89_478_485

# The longest side that a JPEG can have. Resizing needs memory for each pixel along a
# side: 173 KB of PNG that declare 1 x 89,000,000 pixels took 2 GB.
DEFAULT_MAX_SIDE = 65_535

_PNG_PIXELS = (b"IDAT", b"fdAT")
_PIECE = 1 << 20
_EXIF_ORIENTATION = 0x0112
_MORE_ORIENTATIONS = ("Raw profile type exif", "XML:com.adobe.xmp", "xmp")
_TRANSPOSE_OF_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_image_file(
    source: str | os.PathLike[str] | bytes,
    name: str,
    formats: Collection[str] = DEFAULT_FORMATS,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    max_side: int = DEFAULT_MAX_SIDE,
) -> Image.Image:
    """Opens an image file, decodes its first frame and turns it upright.

    The first frame of an animated PNG is what viewers show first: a default image
    that is no part of the animation is left out.

    Args:
        source: a path, or the content of a file.
        name: what to call the image in an error.
        formats: Pillow names of the allowed formats; the content decides, not
            the file name.
        max_pixels: width times height above which the file is not decoded.
        max_side: width or height above which it is not decoded.

    Returns:
        A decoded `PIL.Image.Image` in the file's own mode; see `decode`.

    Raises:
        ImageError: for anything that is not a sound image within limits.

    Example:
        >>> header = b"P5 2 1 255 "
        >>> open_image_file(header + bytes([0, 255]), "two pixels").size
        (2, 1)
    """
    # The file stays open until the pixels are in memory, and no longer.
    with open_stream(source, name) as stream:
        image = read_header(stream, name, formats)
        check_size(*image.size, name, max_pixels, max_side)
        if hides_first_frame(image):
            try:
                image.seek(1)
            except Exception as error:  # decoders raise nearly anything
                raise _damaged(name, error) from error
        return upright(decode(image, name, max_pixels, max_side), name)


def decode(
    image: Image.Image,
    name: str,
    max_pixels: int,
    max_side: int = DEFAULT_MAX_SIDE,
) -> Image.Image:
    """Checks an image's declared size, then decodes it.

    Args:
        image: an open image, decoded or not.
        name: what to call the image in an error.
        max_pixels: width times height above which it is refused.
        max_side: width or height above which it is refused.

    Returns:
        The same image, with its pixels in memory; grey ones of more than eight bits
        as mode L, their file's largest value as 255, see `image_modes`.

    Raises:
        ImageError: if it is too large, empty or damaged, or has values outside its
            range.

    Example:
        >>> decode(Image.new("L", (2, 2)), "grey", max_pixels=4).size
        (2, 2)
    """
    check_size(*image.size, name, max_pixels, max_side)
    try:
        key = colour_key(image)
        image.load()
    except Exception as error:  # decoders raise nearly anything on hostile bytes
        raise _damaged(name, error) from error
    if key != image.info.get("transparency"):
        image = image.copy()
        image.info["transparency"] = key
    try:
        if is_wide(image):
            return eight_bits(image)
        if signed_bytes(image):
            return _from_signed(image)
    except ValueError as error:
        raise ImageError(name, BAD_VALUES, str(error)) from error
    return image


def check_size(
    width: int, height: int, name: str, max_pixels: int, max_side: int
) -> None:
    """Raises ImageError if an image declares too many pixels, or none."""
    if width * height > max_pixels:
        raise ImageError(
            name,
            TOO_LARGE,
            f"It declares {width} x {height} = {width * height:,} pixels; expected "
            f"at most {max_pixels:,}. Scale it down, or raise `max_pixels` if you "
            "trust the file.",
        )
    if max(width, height) > max_side:
        raise ImageError(
            name,
            TOO_LARGE,
            f"It declares {width} x {height} pixels; expected sides of at most "
            f"{max_side:,}. Scale it down, cut it, or raise `max_side` if you trust "
            "the file.",
        )
    if width < 1 or height < 1:
        raise ImageError(
            name, DAMAGED, f"It is {width} x {height}: expected at least one pixel."
        )


def hides_first_frame(image: Image.Image) -> bool:
    """Returns whether the first image of a PNG is no part of its animation."""
    hidden = getattr(image, "default_image", False)
    return bool(hidden) and getattr(image, "n_frames", 1) > 1


def upright(image: Image.Image, name: str) -> Image.Image:
    """Applies the EXIF orientation, if there is one.

    Args:
        image: a decoded image. (Only then is the tag to be believed: a TIFF
            is turned by its decoder, which then removes the tag.)
        name: what to call the image in an error.

    Returns:
        The image as its photographer saw it; the same object if nothing turns. What was
        turned no longer has an orientation, so that turning it again changes nothing.

    Raises:
        ImageError: if turning fails.

    Example:
        >>> photo = Image.new("L", (2, 1))
        >>> photo.getexif()[0x0112] = 6
        >>> upright(upright(photo, "photo"), "photo").size
        (1, 2)
    """
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:
        # Broken metadata around sound pixels: show it as stored, as viewers do.
        return image
    if not isinstance(orientation, int):
        return image
    method = _TRANSPOSE_OF_ORIENTATION.get(orientation)
    if method is None:
        return image
    try:
        turned = image.transpose(method)
    except Exception as error:
        raise _damaged(name, error) from error
    return _without_orientation(turned)


def _without_orientation(image: Image.Image) -> Image.Image:
    """Returns an image, the same object, whose metadata say nothing of turning."""
    for key in _MORE_ORIENTATIONS:  # which Pillow reads where EXIF says nothing
        image.info.pop(key, None)
    try:
        exif = image.getexif()
        exif.pop(_EXIF_ORIENTATION, None)
        image.info["exif"] = exif.tobytes()
    except Exception:  # of broken metadata nothing is kept
        image.info.pop("exif", None)
        image.getexif().clear()
    return image


def open_stream(source: str | os.PathLike[str] | bytes, name: str) -> BinaryIO:
    """Opens a file, or the bytes of one, for reading."""
    if isinstance(source, bytes):
        return io.BytesIO(source)
    try:
        # Opening a pipe would wait for a writer, perhaps for ever.
        if not stat.S_ISREG(os.stat(source).st_mode):
            raise ImageError(
                name, UNREADABLE, "A folder or device; expected a regular file."
            )
        return open(source, "rb")
    except FileNotFoundError:
        raise ImageError(name, MISSING, _missing(os.fsdecode(source))) from None
    except OSError as error:
        raise ImageError(
            name, UNREADABLE, f"{described(error)}. Expected a file you may read."
        ) from error
    except ImageError:
        raise
    except Exception as error:  # a null byte in the path, a __fspath__ that fails
        raise ImageError(
            name, UNREADABLE, f"{described(error)}. Expected the path of a file."
        ) from error


def read_header(stream: BinaryIO, name: str, formats: Collection[str]) -> Image.Image:
    """Lets the allowed decoders look at the header; no pixel is decoded."""
    beginning = stream.read(16)
    if not beginning:
        raise ImageError(name, EMPTY, "It has no bytes: copy or download it again.")
    stream.seek(0)
    try:
        image = Image.open(stream, formats=tuple(formats))
        if image.format == "PNG":
            _check_png(stream)
        return image
    except UnidentifiedImageError:
        raise ImageError(
            name,
            NOT_AN_IMAGE,
            f"It starts with {beginning!r}; expected a header that one of "
            f"{sorted(formats)} accepts. Convert it to PNG or JPEG, copy it again, "
            "or extend `formats`.",
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        # Pillow refuses above twice its own process-wide limit. A program that
        # really wants such images has to raise that limit itself.
        raise ImageError(
            name,
            TOO_LARGE,
            f"Pillow says: {error} Scale it down, or raise both `max_pixels` and "
            "`PIL.Image.MAX_IMAGE_PIXELS` if you trust the file.",
        ) from error
    except ImageError:  # of a stream that has a limit of its own
        raise
    except Exception as error:  # decoders raise nearly anything on hostile bytes
        raise _damaged(name, error) from error


def _check_png(stream: BinaryIO) -> None:
    """Compares the checksum of each chunk of pixels; the stream stays where it stands.

    Pillow stops reading when the last row is full, so one flipped bit in seven changes
    pixels without an error. What is cut short is left to the decoder.

    Args:
        stream: of a PNG, open for reading bytes.

    Raises:
        ValueError: naming the first chunk that is not as it was written.

    Source: https://www.w3.org/TR/png-3/#5Chunk-layout.
    """
    place = stream.tell()
    try:
        stream.seek(8)  # behind the signature
        while len(head := stream.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"IEND":
                return
            if kind not in _PNG_PIXELS:
                stream.seek(length + 4, 1)
                continue
            start = stream.tell() - 8
            found, left = zlib.crc32(kind), length
            while left and (piece := stream.read(min(left, _PIECE))):
                found = zlib.crc32(piece, found)
                left -= len(piece)
            written = stream.read(4)
            if len(written) == 4 and found != int.from_bytes(written, "big"):
                raise ValueError(f"wrong checksum of the {kind.decode()} at {start:,}")
    finally:
        stream.seek(place)


def _from_signed(image: Image.Image) -> Image.Image:
    values = np.asarray(image).view("int8")
    if values.min() < 0:
        raise ValueError(
            f"Signed bytes from {values.min()} to {values.max()}; expected 0 to 127. "
            "Scale it to unsigned ones and pass the result."
        )
    return Image.fromarray(round_to_bytes(values, 127))


def _damaged(name: str, error: Exception) -> ImageError:
    return ImageError(
        name,
        DAMAGED,
        f"The decoder says: {described(error)}. Expected a complete, valid file: "
        "copy or download it again, or re-save it as PNG.",
    )


def _missing(path: str) -> str:
    """Returns what to do about a path that leads nowhere."""
    if re.match(r"(https?|ftp|s3|gs|hf|data|file):", path):
        return "An address is not opened; expected a path: download it and pass bytes."
    if path.startswith("~"):
        return "Only a shell knows `~`: use os.path.expanduser(path)."
    return f"No such file from {_here()!r}: check the path."


def _here() -> str:
    try:
        return os.getcwd()
    except OSError:  # the working directory itself is gone
        return "a directory that is gone"
