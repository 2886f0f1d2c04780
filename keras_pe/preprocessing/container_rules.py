"""Rules of containers that FFmpeg lets pass: no part missing, none cut short.

FFmpeg looks for the next part that it understands and goes on there. For a player that
is right; here it would choose other frames in silence.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import BinaryIO

from keras_pe.preprocessing.asf_objects import check_asf
from keras_pe.preprocessing.matroska_checksums import check_matroska


def check_container(stream: BinaryIO) -> None:
    """Check what the container of a video says of itself, without decoding.

    MPEG's containers have no beginning of their own: see `mpeg_streams`.

    Args:
        stream: open for reading bytes, at its beginning.

    Raises:
        ValueError: saying what is missing, and where.
    """
    beginning = stream.read(4)
    stream.seek(0)
    for magic, check in _CHECKS.items():
        if beginning.startswith(magic):
            check(stream)


def _check_ogg(stream: BinaryIO) -> None:
    """Each page follows on the last and is numbered by its stream (RFC 3533, 6)."""
    size = stream.seek(0, os.SEEK_END)
    expected: dict[bytes, int] = {}
    place = 0
    while place < size:
        stream.seek(place)
        head = stream.read(27)
        if head[:4] != b"OggS":
            raise ValueError(f"no page begins at {place:,}, where the last one ends")
        lengths = stream.read(head[26]) if len(head) == 27 else b""
        place += 27 + len(lengths) + sum(lengths)
        if len(head) < 27 or len(lengths) < head[26] or place > size:
            raise ValueError("the last page is cut short")
        serial, number = head[14:18], int.from_bytes(head[18:22], "little")
        if head[5] & 2:  # begins a stream
            expected[serial] = number
        if number != expected.get(serial, number):
            raise ValueError(f"page {expected[serial]:,} is missing before {place:,}")
        expected[serial] = number + 1


def _check_flv(stream: BinaryIO) -> None:
    """The last tag is whole (Adobe's specification of Flash Video, annex E)."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(5)
    place = int.from_bytes(stream.read(4), "big") + 4
    while size - place > 0:
        stream.seek(place)
        head = stream.read(11)
        if head[0] & 31 not in (8, 9, 18):  # sound, picture, words: else no tag
            return
        place += 11 + int.from_bytes(head[1:4], "big") + 4
        if len(head) < 11 or place - 4 > size:
            raise ValueError("the last tag is cut short")


_CHECKS: dict[bytes, Callable[[BinaryIO], None]] = {
    b"\x1a\x45\xdf\xa3": check_matroska,
    b"\x30\x26\xb2\x75": check_asf,
    b"OggS": _check_ogg,
    b"FLV": _check_flv,
}
