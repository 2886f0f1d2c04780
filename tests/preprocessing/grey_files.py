"""Grey image files of every depth, written by hand so that their values are known."""

import struct
import zlib

import numpy as np

DEPTHS = {
    "PGM": range(1, 17),
    "PNG": (1, 2, 4, 8, 16),
    "TIFF": (1, 2, 4, 8, 12, 16),  # what Pillow reads; it refuses the others
}


def ramp(largest, width=37, height=5):
    """Values from 0 to `largest`, each row shifted; the width is no multiple of 8."""
    row = np.rint(np.linspace(0, largest, width)).astype("int64")
    return np.stack([np.roll(row, shift) for shift in range(height)])


def pgm(values, largest, plain=False):
    """P5, or P2 in plain text."""
    height, width = values.shape
    head = f"{'P2' if plain else 'P5'}\n{width} {height}\n{largest}\n".encode()
    if plain:
        return head + b"\n".join(b" ".join(b"%d" % v for v in row) for row in values)
    return head + values.astype(">u2" if largest > 255 else "u1").tobytes()


def png(values, bits, key=None, colour_type=0):
    """A PNG of one or three channels; `key` is its transparent value."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + packed(row.ravel(), bits) for row in values)
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour_type, *b"\0\0\0"))
    ]
    if key is not None:
        parts.append((b"tRNS", np.atleast_1d(key).astype(">u2").tobytes()))
    parts += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(data))
        + kind
        + data
        + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def tiff(values, bits, order="<", white_is_zero=False, sample="uint", deflate=False):
    """A TIFF in one strip; `sample` is uint, int or float."""
    height, width = values.shape
    if bits in (16, 32) or sample != "uint":
        kind = {"uint": "u", "int": "i", "float": "f"}[sample]
        pixels = values.astype(f"{order}{kind}{bits // 8}").tobytes()
    else:
        pixels = b"".join(packed(row, bits) for row in values)
    pixels = zlib.compress(pixels) if deflate else pixels
    fields = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, bits),
        (259, 3, 8 if deflate else 1),
        (262, 3, 0 if white_is_zero else 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, height),
        (279, 4, len(pixels)),
        (339, 3, {"uint": 1, "int": 2, "float": 3}[sample]),
    ]
    directory = struct.pack(order + "H", len(fields))
    for tag, kind, value in fields:
        short = struct.pack(
            order + ("HH" if kind == 3 else "I"), *([value, 0][: 5 - kind])
        )
        directory += struct.pack(order + "HHI", tag, kind, 1) + short
    mark = b"II" if order == "<" else b"MM"
    padding = b"\0" * (len(pixels) % 2)
    head = mark + struct.pack(order + "HI", 42, 8 + len(pixels) + len(padding))
    return head + pixels + padding + directory + bytes(4)


def packed(row, bits):
    """Values of `bits` bits in bytes, the first in the highest bits."""
    places = (row[:, None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(places.astype("uint8").ravel()).tobytes()
