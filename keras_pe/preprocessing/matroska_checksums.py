"""The checksums of Matroska and WebM files, which FFmpeg does not look at."""

from __future__ import annotations

import os
import zlib
from typing import BinaryIO

_EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT = 0x18538067
# What frames depend on. Titles and tags may be edited by programs that forget their
# checksum, and are no reason to refuse frames.
_PARTS = {0x1654AE6B: "Tracks", 0x1F43B675: "Cluster"}
_CRC_32 = b"\xbf\x84"  # the element's name, and its length of four
_PIECE = 1 << 20


def check_matroska(stream: BinaryIO) -> None:
    """Compare the checksums that a file has, if it is Matroska; else do nothing.

    FFmpeg writes one for each cluster of frames; many programs write none. What is cut
    short or not understood is left to the demuxer. The stream goes back to where it
    stood.

    Args:
        stream: open for reading bytes.

    Raises:
        ValueError: naming the first part that is not as it was written.

    Source: RFC 8794, section 11.3.1 (CRC-32) and RFC 9559, section 5.1.
    """
    place = stream.tell()
    size = stream.seek(0, os.SEEK_END)
    stream.seek(place)
    try:
        if stream.read(4) != _EBML:
            return
        length = _number(stream)
        if length is None or length > size:
            return
        stream.seek(length, 1)
        while (element := _element(stream)) is not None:
            name, length = element
            if name == _SEGMENT:
                continue  # into it
            if length is None:
                return  # a live recording: where the part ends is not said
            end = stream.tell() + length
            if end > size:  # where a file system can't go, perhaps
                return
            if name in _PARTS:
                _check(stream, _PARTS[name], length)
            stream.seek(end)
    finally:
        stream.seek(place)


def _check(stream: BinaryIO, name: str, length: int) -> None:
    start = stream.tell()
    head = stream.read(min(6, length))
    if len(head) < 6 or head[:2] != _CRC_32:
        return
    found, left = 0, length - 6
    while left and (piece := stream.read(min(left, _PIECE))):
        found = zlib.crc32(piece, found)
        left -= len(piece)
    if not left and found != int.from_bytes(head[2:], "little"):
        raise ValueError(f"wrong checksum of the {name} at {start:,}")


def _element(stream: BinaryIO) -> tuple[int, int | None] | None:
    """Returns the name and length of the next element; None at the end."""
    first = stream.read(1)
    if not first or first[0] < 0x10:  # names have four bytes at most
        return None
    more = 8 - first[0].bit_length()
    name = int.from_bytes(first + stream.read(more), "big")
    place = stream.tell()
    length = _number(stream)
    return None if stream.tell() == place else (name, length)


def _number(stream: BinaryIO) -> int | None:
    """Reads a length: its leading zeros say how many bytes it has."""
    first = stream.read(1)
    if not first or not first[0]:
        return None
    bits = 7 * (9 - first[0].bit_length())
    rest = stream.read(bits // 7 - 1)
    value = int.from_bytes(first + rest, "big") & ((1 << bits) - 1)
    return None if value == (1 << bits) - 1 else value  # all ones: unknown
