"""The checksums of a PNG's pixels, which Pillow does not look at."""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

_PIXELS = (b"IDAT", b"fdAT")
_PIECE = 1 << 20


def check_png(stream: BinaryIO) -> None:
    """Compare the checksum of each chunk of pixels; the stream stays where it stands.

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
            if kind not in _PIXELS:
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
