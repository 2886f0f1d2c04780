"""Rules of containers that FFmpeg lets pass: no part missing, none cut short.

FFmpeg looks for the next part that it understands and goes on there. For a player that
is right; here it would choose other frames in silence.
"""

from __future__ import annotations

import os
from typing import BinaryIO

import numpy as np

from keras_pe.preprocessing.asf_objects import check_asf
from keras_pe.preprocessing.matroska_checksums import check_matroska

# Bytes of a packet of a transport stream, and before its sync byte: as broadcast, as
# on a Blu-ray disc, and with the code that corrects transmission.
_TS_LAYOUTS = ((188, 0), (192, 4), (204, 0))
_TS_SYNC = 0x47
_TS_BLOCK = 1 << 14  # packets read at a time


def check_container(stream: BinaryIO) -> None:
    """Checks what the container of a video says of itself, without decoding.

    The stream goes back to its beginning.

    Args:
        stream: open for reading bytes.

    Raises:
        ValueError: saying what is missing, and where.
    """
    stream.seek(0)
    beginning = stream.read(4)
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    if beginning == b"\x1a\x45\xdf\xa3":
        check_matroska(stream)
    elif beginning == b"\x30\x26\xb2\x75":
        check_asf(stream)
    elif beginning == b"OggS":
        _check_ogg(stream, size)
    elif beginning[:3] == b"FLV":
        _check_flv(stream, size)
    else:
        _check_transport_stream(stream, size)
    stream.seek(0)


def _check_ogg(stream: BinaryIO, size: int) -> None:
    """Each page follows on the last and is numbered by its stream (RFC 3533, 6)."""
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


def _check_flv(stream: BinaryIO, size: int) -> None:
    """The last tag is whole (Adobe's specification of Flash Video, annex E)."""
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


def _check_transport_stream(stream: BinaryIO, size: int) -> None:
    """Every packet begins with the sync byte (ISO/IEC 13818-1, 2.4.3.2)."""
    head = stream.read(8 * max(length for length, _ in _TS_LAYOUTS))
    for length, before in _TS_LAYOUTS:
        syncs = head[before::length]
        if len(syncs) >= 5 and set(syncs) == {_TS_SYNC}:
            break
    else:
        return  # another container, or one that does not begin with a whole packet
    stream.seek(0)
    number = 0
    while block := stream.read(length * _TS_BLOCK):
        packets = np.frombuffer(block, "uint8", len(block) // length * length)
        wrong = np.flatnonzero(packets[before::length] != _TS_SYNC)
        if wrong.size:
            raise ValueError(f"packet {number + wrong[0]:,} has no sync byte")
        if len(block) % length:
            raise ValueError("the last packet is cut short")
        number += _TS_BLOCK
