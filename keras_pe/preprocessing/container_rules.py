"""Rules of containers that FFmpeg lets pass: no part missing, none cut short.

FFmpeg looks for the next part that it understands and goes on there. For a player that
is right; here it would choose other frames in silence.
"""

import os
import uuid
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO


def check_container(stream: BinaryIO) -> None:
    """Checks what the container of a video says of itself, without decoding.

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


# === Ogg and Flash Video ===
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
        if head[0] & 31 not in (8, 9, 18):  # sound, video, script: else no tag
            return
        place += 11 + int.from_bytes(head[1:4], "big") + 4
        if len(head) < 11 or place - 4 > size:
            raise ValueError("the last tag is cut short")


# === Matroska and WebM: checksums, which FFmpeg does not look at ===
_EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT = 0x18538067
# What frames depend on. Titles and tags may be edited by programs that forget their
# checksum, and are no reason to refuse frames.
_PARTS = {0x1654AE6B: "Tracks", 0x1F43B675: "Cluster"}
_CRC_32 = b"\xbf\x84"  # the element's name, and its length of four
_PIECE = 1 << 20


def _check_matroska(stream: BinaryIO) -> None:
    """Compares the checksums that a file has, if it is Matroska; else does nothing.

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


# === ASF (WMV): the numbers of frames, which FFmpeg passes over ===
_VIDEO = uuid.UUID("bc19efc0-5b4d-11cf-a8fd-00805f5c442b").bytes_le
_STREAM = uuid.UUID("b7dc0791-a9b7-11cf-8ee6-00c00c205365").bytes_le
_FILE = uuid.UUID("8cabdca1-a947-11cf-8ee4-00c00c205365").bytes_le
_WIDTHS = (0, 1, 2, 4)  # bytes of a number, by its two bits
_MAX_HEADER = 1 << 20


class _Unknown(Exception):
    """Something that this file does not understand."""


def _check_asf(stream: BinaryIO) -> None:
    """Compares the numbers of the video's objects: each is one more than the last.

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
    """Returns the numbers of the streams, and whether each holds images."""
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


_CHECKS: dict[bytes, Callable[[BinaryIO], None]] = {
    b"\x1a\x45\xdf\xa3": _check_matroska,
    b"\x30\x26\xb2\x75": _check_asf,
    b"OggS": _check_ogg,
    b"FLV": _check_flv,
}
