"""A corpus of difficult image files: half of them sound, half of them not."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from keras_pe.preprocessing import image_errors as reasons

SAMPLES = Path(__file__).parent / "bad_images"

# What each committed sample must come to; None: it loads.
SAMPLE_REASONS = {
    "16bit.cropped.tif": None,
    "broken.png": reasons.NOT_AN_IMAGE,
    "decompression_bomb.gif": reasons.TOO_LARGE,
    "g4_orientation_6.tif": None,
    "hopper_orientation_6.jpg": None,
    "invalid-exif.jpg": None,
    "oom.tif": reasons.NOT_AN_IMAGE,
    "p_trns_single.png": None,
    "pil_sample_cmyk.jpg": None,
    "png_decompression_dos.png": reasons.DAMAGED,
    "truncated_jpeg.jpg": reasons.DAMAGED,
    "zero_width.gif": reasons.NOT_AN_IMAGE,
}


def photo(mode="RGB", size=(64, 48)):
    """A smooth image with some texture; no two corners alike."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]] / max(size)
    wave = 0.1 * np.sin(40 * x) * np.sin(40 * y)
    planes = np.stack([0.1 + 0.8 * x + wave, 0.1 + 0.8 * y, 0.5 + wave], -1)
    image = Image.fromarray((planes.clip(0, 1) * 255).astype("uint8"))
    return image if mode == "RGB" else image.convert(mode)


def encoded(image, file_format, **options):
    """The bytes of an image file."""
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def png_header(width, height):
    """A valid PNG beginning that declares any size, with hardly any pixels."""

    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(3000))
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def rotated_jpeg(orientation):
    """A JPEG with an EXIF orientation."""
    image = photo()
    exif = image.getexif()
    exif[0x0112] = orientation
    return encoded(image, "JPEG", exif=exif)


def sixteen_bit(size=(64, 48)):
    """A ramp over all 16 bits."""
    ramp = np.linspace(0, 65535, size[0]).astype("uint16")
    return Image.fromarray(np.tile(ramp, (size[1], 1)))


def write_corpus(folder):
    """Write every file; return {path: expected reason, or None if it loads}."""
    jpeg = encoded(photo(), "JPEG")
    png = encoded(photo(), "PNG")
    gif = encoded(photo("P"), "GIF")
    webp = encoded(photo(), "WEBP")
    bmp = encoded(photo(), "BMP")
    tiff = encoded(photo(), "TIFF")
    ppm = encoded(photo(), "PPM")
    frames = [photo().rotate(90 * k) for k in range(3)]
    animation = {"save_all": True, "append_images": frames[1:]}
    see_through = photo("RGBA")
    see_through.putalpha(photo("L"))
    huge_bmp = bmp[:18] + struct.pack("<ii", 200_000, 200_000) + bmp[26:]
    huge_jpeg = bytearray(jpeg)
    at = jpeg.index(b"\xff\xc0") + 5  # height and width of the frame header
    huge_jpeg[at : at + 4] = struct.pack(">HH", 65500, 65500)
    html = b"<!DOCTYPE html><html><body>404 Not Found</body></html>"
    svg = b"<svg xmlns='http://www.w3.org/2000/svg'><rect width='9'/></svg>"
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nquit\n"

    bad, large = reasons.DAMAGED, reasons.TOO_LARGE
    unknown, empty = reasons.NOT_AN_IMAGE, reasons.EMPTY
    files = {
        # cut short
        "truncated_half.jpg": (jpeg[: len(jpeg) // 2], bad),
        "truncated_half.png": (png[: len(png) // 2], bad),
        "truncated_half.gif": (gif[: len(gif) // 2], bad),
        "truncated_half.webp": (webp[: len(webp) // 2], bad),
        "truncated_half.bmp": (bmp[: len(bmp) // 2], bad),
        "truncated_half.tif": (tiff[: len(tiff) // 2], bad),
        "truncated_half.ppm": (ppm[: len(ppm) // 2], bad),
        "only_signature.png": (png[:8], unknown),
        "only_signature.jpg": (jpeg[:3], unknown),
        "empty.jpg": (b"", empty),
        "one_byte.png": (b"\x89", unknown),
        # not what they say
        "html.jpg": (html, unknown),
        "drawing.png": (svg, unknown),
        "script.jpg": (eps, unknown),
        "zeros.png": (bytes(4096), unknown),
        "bit_rot.png": (png[:200] + b"\xff" * 64 + png[264:], bad),
        "png_named.jpg": (png, None),
        "jpeg_named.gif": (jpeg, None),
        "no_extension": (webp, None),
        # sizes
        "bomb_declared.png": (png_header(50_000, 50_000), large),
        "bomb_over_limit.png": (png_header(10_000, 9_000), large),
        "bomb_maximal.png": (png_header(2**31 - 1, 2**31 - 1), large),
        "bomb.bmp": (huge_bmp, large),
        "bomb.jpg": (bytes(huge_jpeg), large),
        "zero_size.png": (png_header(0, 0), unknown),
        "few_pixels_of_many.png": (png_header(3000, 3000), bad),
        "one_by_30000.png": (encoded(Image.new("RGB", (1, 30000)), "PNG"), None),
        "30000_by_one.jpg": (encoded(Image.new("L", (30000, 1)), "JPEG"), None),
        "one_pixel.gif": (encoded(Image.new("L", (1, 1)), "GIF"), None),
        # unusual but sound
        "cmyk.jpg": (encoded(photo("CMYK"), "JPEG"), None),
        "cmyk.tif": (encoded(photo("CMYK"), "TIFF"), None),
        "lab.tif": (encoded(photo("LAB"), "TIFF"), None),
        "bilevel.png": (encoded(photo("1"), "PNG"), None),
        "sixteen_bit.png": (encoded(sixteen_bit(), "PNG"), None),
        "float.tif": (encoded(photo("F"), "TIFF"), None),
        "float_negative.tif": (
            encoded(photo("F").point(lambda x: x * 1 - 300), "TIFF"),
            reasons.BAD_VALUES,
        ),
        "grey_alpha.png": (encoded(see_through.convert("LA"), "PNG"), None),
        "palette_alpha.png": (encoded(see_through.quantize(16), "PNG"), None),
        "alpha.webp": (encoded(see_through, "WEBP"), None),
        "animated.gif": (encoded(frames[0], "GIF", **animation), None),
        "animated.png": (encoded(frames[0], "PNG", **animation), None),
        "animated.webp": (encoded(frames[0], "WEBP", **animation), None),
        "rotated.jpg": (rotated_jpeg(6), None),
        "orientation_99.jpg": (rotated_jpeg(99), None),
        "trailing_garbage.jpg": (jpeg + html, None),
        "progressive.jpg": (encoded(photo(), "JPEG", progressive=True), None),
        "naïve 日本 #?.png": (png, None),
    }
    expected = {}
    for name, (content, reason) in files.items():
        path = Path(folder) / name
        path.write_bytes(content)
        expected[path] = reason
    for name, reason in SAMPLE_REASONS.items():
        expected[SAMPLES / name] = reason
    expected[Path(folder) / "never_written.jpg"] = reasons.MISSING
    return expected
