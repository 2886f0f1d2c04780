"""Size, mode and format of an image, without decoding its pixels."""

import io
import warnings
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

# The formats that keras_pe's image converter opens.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")


@dataclass(frozen=True)
class ImageHeader:
    """What the beginning of an image file says.

    Args:
        status: "ok", "empty", "truncated", "not an image", "damaged" or
            "too many pixels".
        format: Pillow's name of the format, "" if unknown.
        mode: Pillow's name of the pixel layout, "" if unknown.
        width: pixels as stored, before any EXIF orientation; 0 if unknown.
        height: likewise.
    """

    status: str
    format: str = ""
    mode: str = ""
    width: int = 0
    height: int = 0


def read_header(
    data: bytes, most_pixels: int, decode_pixels: bool = False
) -> ImageHeader:
    """Describes an image file.

    A file that stops too early is found from its own length fields and end markers
    (PNG, JPEG, WebP, GIF, BMP); a truncated TIFF or PPM, and pixels damaged inside a
    file of the right length, need `decode_pixels`. PNG check sums are verified.

    Args:
        data: the file.
        most_pixels: width times height above which nothing is decoded.
        decode_pixels: decode the first frame too: surer, and many times slower.

    Returns:
        A header whose status is "ok" or names the fault.

    Example:
        >>> read_header(b"P5 2 1 255 " + bytes(2), most_pixels=100)
        ImageHeader(status='ok', format='PPM', mode='L', width=2, height=1)
    """
    if not data:
        return ImageHeader("empty")
    if is_truncated(data):
        return ImageHeader("truncated")
    try:
        with warnings.catch_warnings():
            # The size is judged by `most_pixels`, not by Pillow's own limit.
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        return ImageHeader("not an image")
    except Image.DecompressionBombError:
        return ImageHeader("too many pixels")
    except Exception:  # decoders raise nearly anything on hostile bytes
        return ImageHeader("damaged")
    width, height = image.size
    header = ImageHeader("ok", image.format or "", image.mode, width, height)
    if width < 1 or height < 1:
        return ImageHeader("damaged")
    if width * height > most_pixels:
        return header
    try:
        if decode_pixels:
            image.load()
        elif image.format == "PNG":
            image.verify()
    except Exception:
        return ImageHeader("damaged", header.format, header.mode, width, height)
    return header


def is_truncated(data: bytes) -> bool:
    """Tells from lengths and end markers whether a file stops too early."""
    if data.startswith(b"\xff\xd8\xff"):
        # Inside the scan 0xFF is always escaped, so the last start-of-scan marker has
        # an end-of-image marker behind it, perhaps followed by foreign bytes.
        scan = data.rfind(b"\xff\xda")
        return scan < 0 or data.find(b"\xff\xd9", scan) < 0
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return not _png_reaches_its_end(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    if data.startswith((b"GIF87a", b"GIF89a")):
        return not data.rstrip(b"\0").endswith(b";")
    if data.startswith(b"BM"):
        return int.from_bytes(data[2:6], "little") > len(data)
    return False


def _png_reaches_its_end(data: bytes) -> bool:
    place = 8
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        name = data[place + 4 : place + 8]
        place += 12 + length
        if name == b"IEND":
            return place <= len(data)
    return False
