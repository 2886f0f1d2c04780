"""When the frames of an MP4 file are shown, from its own index: no frame is read.

FFmpeg holds where each frame is and when it is decoded; when it is shown stands in the
table `ctts`, which is read here. Whatever is unusual is left to reading all packets:
fragments, edit lists that leave frames out, frames that lie outside the file.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

# Decoders (of PyAV's names) whose frames are one sample each.
_DECODERS = ("h264", "hevc", "mpeg4", "av1", "libdav1d")
# What may lie beside the index and the frames; a "moof" would hold more frames.
_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"uuid", b"udta")
_COMPARED = 8  # packets that are read to see that the index says what FFmpeg says
_MOST_BOXES = 10_000
Span = tuple[int, int]


@dataclass(frozen=True)
class FrameIndex:
    """Where and when frames are.

    Args:
        times: int64 `(frames,)`: when each is shown, in the order of the file, in units
            of the stream.
        is_key: bool `(frames,)`: whether decoding can begin there.
    """

    times: np.ndarray
    is_key: np.ndarray


def read_index(file: BinaryIO, container: Any, stream: Any) -> FrameIndex | None:
    """Reads the index of an MP4 file that is whole and usual.

    Args:
        file: the same file as the container's, open for reading bytes.
        container: of PyAV, at its beginning; a few packets of it are read.
        stream: its video.

    Returns:
        The index; None where only reading all packets tells.

    Source: ISO/IEC 14496-12, sections 8.6.1.3 (ctts) and 8.7 (where samples are).
    """
    entries = getattr(stream, "index_entries", ())
    count = len(entries)
    if stream.codec_context.name not in _DECODERS or not 0 < count == stream.frames:
        return None
    size = file.seek(0, os.SEEK_END)
    if not _is_whole(file, size):
        return None
    decoded = np.empty(count, np.int64)
    is_key = np.empty(count, bool)
    for number, entry in enumerate(entries):
        inside = entry.pos >= 0 and 0 < entry.size <= size - entry.pos
        if not inside or entry.is_discard:
            return None
        decoded[number], is_key[number] = entry.timestamp, entry.is_keyframe
    offsets = _offsets(file, size, stream.id, count)
    if offsets is None:
        return None
    times = decoded + offsets
    packets: list[Any] = []
    for packet in container.demux(stream):
        if not packet.size or len(packets) == min(_COMPARED, count):
            break
        packets.append(packet)
    if not packets or packets[0].pts is None or packets[0].is_corrupt:
        return None
    # Both sides begin where the edit list says, FFmpeg moves negative offsets besides.
    times += packets[0].pts - times[0]
    for number, packet in enumerate(packets):
        if (packet.pts, packet.is_keyframe) != (times[number], is_key[number]):
            return None
    return FrameIndex(times, is_key)


def _is_whole(file: BinaryIO, size: int) -> bool:
    """Says whether boxes follow on each other to the end, none with more frames."""
    kinds = [(kind, end) for kind, _, end in _boxes(file, 0, size)]
    return bool(kinds) and kinds[-1][1] == size and all(k in _BOXES for k, _ in kinds)


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yields the kind of each box, and where its content begins and ends."""
    for _ in range(_MOST_BOXES):
        if end - start < 8:
            return
        file.seek(start)
        head = file.read(16)
        length, kind, begin = int.from_bytes(head[:4], "big"), head[4:8], start + 8
        if length == 1:
            length, begin = int.from_bytes(head[8:], "big"), start + 16
        elif length == 0:  # to the end of the file
            length = end - start
        if length < begin - start or start + length > end:
            return
        yield kind, begin, start + length
        start += length


def _offsets(file: BinaryIO, size: int, track: int, count: int) -> np.ndarray | None:
    """Returns how much later than it is decoded each frame of a track is shown."""
    for movie in _inside(file, (0, size), b"moov"):
        for one in _inside(file, movie, b"trak"):
            heads = _inside(file, one, b"tkhd")
            if len(heads) != 1 or _track_number(file, heads[0][0]) != track:
                continue
            tables = [one]
            for kind in (b"mdia", b"minf", b"stbl"):
                tables = [box for outer in tables for box in _inside(file, outer, kind)]
            return _table(file, tables[0], count) if len(tables) == 1 else None
    return None


def _inside(file: BinaryIO, outer: Span, kind: bytes) -> list[Span]:
    """Returns where the content of each box of a kind begins and ends."""
    return [(begin, end) for name, begin, end in _boxes(file, *outer) if name == kind]


def _track_number(file: BinaryIO, begin: int) -> int:
    file.seek(begin)
    head = file.read(24)
    place = 20 if head[:1] == b"\1" else 12  # after two times, which may be longer
    return int.from_bytes(head[place : place + 4], "big")


def _table(file: BinaryIO, samples: Span, count: int) -> np.ndarray | None:
    tables = _inside(file, samples, b"ctts")
    if not tables:
        return np.zeros(count, np.int64)
    [(begin, stop), *more] = tables
    file.seek(begin)
    content = file.read(stop - begin)
    rows = int.from_bytes(content[4:8], "big")
    if more or len(content) < 8 + 8 * rows:
        return None
    pairs = np.frombuffer(content, ">i4", 2 * rows, 8).reshape(-1, 2).astype(np.int64)
    if (pairs[:, 0] < 0).any() or pairs[:, 0].sum() != count:
        return None
    return np.repeat(pairs[:, 1], pairs[:, 0])
