"""The numbers that an ASF file (WMV) gives its frames, which FFmpeg passes over."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from typing import BinaryIO

_VIDEO = uuid.UUID("bc19efc0-5b4d-11cf-a8fd-00805f5c442b").bytes_le
_STREAM = uuid.UUID("b7dc0791-a9b7-11cf-8ee6-00c00c205365").bytes_le
_FILE = uuid.UUID("8cabdca1-a947-11cf-8ee4-00c00c205365").bytes_le
_WIDTHS = (0, 1, 2, 4)  # bytes of a number, by its two bits
_MAX_HEADER = 1 << 20


class _Unknown(Exception):
    """Something that this file does not understand."""


def check_asf(stream: BinaryIO) -> None:
    """Compare the numbers of the video's objects: each is one more than the last.

    A packet whose header is damaged is left out by FFmpeg, and its frame with it. What
    is not understood here is left to FFmpeg.

    Args:
        stream: of an ASF file, open for reading bytes.

    Raises:
        ValueError: naming the first packet before which frames are missing.

    Source: Advanced Systems Format (ASF) Specification, 01.20.06, section 5.2.
    """
    stream.seek(16)
    size = int.from_bytes(stream.read(8), "little")
    stream.seek(0)
    header = stream.read(min(size, _MAX_HEADER))
    properties, streams = header.find(_FILE), _streams(header)
    videos = [number for number, is_video in streams.items() if is_video]
    if len(header) != size or properties < 0 or len(videos) != 1:
        return
    [video] = videos
    length = int.from_bytes(header[properties + 92 : properties + 96], "little")
    if length > stream.seek(0, os.SEEK_END):  # would be taken from memory all the same
        return
    stream.seek(size)
    data = stream.read(50)  # the head of the data
    count = int.from_bytes(data[40:48], "little")
    last = None
    for place in range(count):
        try:
            found = list(_objects(stream.read(length)))
        except (_Unknown, IndexError):
            return
        for which, number in found:
            if which not in streams:
                raise ValueError(
                    f"packet {place:,} is of stream {which}: there is none"
                )
            if which != video:
                continue
            if last is not None and number not in (last, (last + 1) % 256):
                raise ValueError(f"frames are missing before packet {place:,}")
            last = number


def _streams(header: bytes) -> dict[int, bool]:
    """Returns the numbers of the streams, and whether each holds pictures."""
    found, place = {}, header.find(_STREAM)
    while 0 <= place < len(header) - 73:
        kind = header[place + 24 : place + 40]
        found[header[place + 72] & 127] = kind == _VIDEO
        place = header.find(_STREAM, place + 1)
    return found


def _objects(packet: bytes) -> Iterator[tuple[int, int]]:
    """Yields the stream and the object number of each payload of a packet."""
    place = 1 + (packet[0] & 15) if packet[0] & 128 else 0

    def number(bits: int) -> int:
        nonlocal place
        width = _WIDTHS[bits & 3]
        place += width
        if place > len(packet):
            raise _Unknown
        return int.from_bytes(packet[place - width : place], "little")

    lengths, properties = packet[place], packet[place + 1]
    place += 2
    number(lengths >> 5), number(lengths >> 1), number(lengths >> 3)
    place += 6  # when to send it
    count, of_length = 1, 0
    if lengths & 1:  # several payloads
        count, of_length = packet[place] & 63, packet[place] >> 6
        place += 1
    if properties >> 4 & 3 != 1:  # object numbers are bytes
        raise _Unknown
    for _ in range(count):
        which, which_object = packet[place] & 127, packet[place + 1]
        place += 2
        number(properties >> 2)
        replicated = number(properties)
        if replicated == 1:  # several frames in one payload
            raise _Unknown
        place += replicated
        if lengths & 1:
            length = number(of_length)  # which moves `place` itself
            place += length
        yield which, which_object
