"""Rules of MPEG's two containers: in both, whole packets follow on each other.

FFmpeg looks for the next packet that it understands, wherever that is.
"""

import os
from typing import BinaryIO

import numpy as np

# Bytes of a packet of a transport stream: as broadcast, as on a Blu-ray disc (with 4
# bytes of time in front) and with the code that corrects transmission.
_LENGTHS = (188, 192, 204)
_SYNC = 0x47
_BLOCK = 1 << 14  # packets read at a time
_STREAMS = 1 << 13
_HEAD = 64  # packets by which it is seen where packets begin

_PACK, _SYSTEM, _END = 0xBA, 0xBB, 0xB9
_VIDEO, _ALL = 0xE0, 0xB9  # the first of sixteen videos, and all in a system header
_STILL = 1 << 16  # bytes read at a time where there are only zeros


def check_mpeg_stream(stream: BinaryIO, kind: str) -> None:
    """Checks a stream of packets, if it is one.

    Args:
        stream: of a video file, open for reading bytes.
        kind: FFmpeg's name of the container.

    Raises:
        ValueError: saying what is wrong, and where.
    """
    if kind == "mpegts":
        check_transport_stream(stream)
    elif kind == "mpeg":
        check_program_stream(stream)


def check_transport_stream(stream: BinaryIO) -> None:
    """Checks that packets are whole, and that frames and sound begin where they say.

    Each packet begins with the sync byte (ISO/IEC 13818-1, 2.4.3.2). A recording may
    begin within a packet, and may not end within one.

    Args:
        stream: of a transport stream, open for reading bytes.

    Raises:
        ValueError: naming the packet.
    """
    length, place = _layout(stream)
    whole = 188 if length == 192 else length  # Blu-ray's time is before the sync byte
    stream.seek(place)
    number = 0
    units = _Units()
    while block := stream.read(length * _BLOCK):
        # (packets, bytes); the last one is filled up with zeros
        rows = np.frombuffer(block + bytes(-len(block) % length), "uint8")
        rows = rows.reshape(-1, length)
        wrong = np.flatnonzero(rows[:, 0] != _SYNC)
        if wrong.size:
            raise ValueError(f"packet {number + wrong[0]:,} has no sync byte")
        if len(block) < length * _BLOCK and (len(block) - whole) % length:
            raise ValueError("the last packet is cut short")
        units.see(rows, number)
        number += len(rows)
    units.check()


class _Units:
    """Where units begin: a stream has packets of frames and sound, or tables.

    The first kind begins with a start code, each time (2.4.3.7); FFmpeg leaves out
    what does not.
    """

    def __init__(self) -> None:
        self.coded = np.zeros(_STREAMS, bool)  # streams in which a start code was seen
        self.other = np.full(_STREAMS, -1)  # the first packet that begins otherwise

    def see(self, rows: np.ndarray, number: int) -> None:
        """Takes packets, (packets, bytes); `number` is that of the first one."""
        begins = (rows[:, 1] & 0x40 > 0) & (rows[:, 3] & 0x10 > 0)
        which = np.flatnonzero(begins & (rows[:, 3] & 0xC0 == 0))  # not scrambled
        rows = rows[which]
        adapted = rows[:, 3] & 0x20 > 0
        place = 4 + np.where(adapted, 1 + rows[:, 4].astype(int), 0)
        fits = place < 186
        which, rows, place = which[fits], rows[fits], place[fits]
        start = np.take_along_axis(rows, place[:, None] + np.arange(3), 1)
        coded = (start == (0, 0, 1)).all(1)
        streams = (rows[:, 1] & 0x1F).astype(int) << 8 | rows[:, 2]
        self.coded[streams[coded]] = True
        first, places = np.unique(streams[~coded], return_index=True)
        unseen = self.other[first] < 0
        self.other[first[unseen]] = number + which[~coded][places[unseen]]

    def check(self) -> None:
        wrong = self.other[self.coded & (self.other >= 0)]
        if wrong.size:
            raise ValueError(f"packet {wrong.min():,} begins without a start code")


def _layout(stream: BinaryIO) -> tuple[int, int]:
    """Returns a packet's length, and where the first sync byte is.

    Both by majority: one packet that is damaged does not decide.
    """
    stream.seek(0)
    head = np.frombuffer(stream.read(max(_LENGTHS) * _HEAD), "uint8")
    best, which = 0.0, (_LENGTHS[0], 0)
    for length in _LENGTHS if head.size else ():
        rows = np.pad(head, (0, -len(head) % length)).reshape(-1, length)
        syncs = (rows == _SYNC).mean(0)
        if syncs.max() > best:
            best, which = float(syncs.max()), (length, int(syncs.argmax()))
    return which


def check_program_stream(stream: BinaryIO) -> None:
    """Checks that packs and packets follow on each other (ISO/IEC 13818-1, 2.5.3).

    What comes before the first pack is passed over, and so are zeros that fill a
    sector.

    Args:
        stream: of a program stream, open for reading bytes.

    Raises:
        ValueError: saying where no packet begins.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    head = stream.read(_STILL)
    place = head.find(bytes((0, 0, 1, _PACK)))
    if place < 0 or head[:4] == b"RIFF":  # a Video CD: sectors with heads of their own
        return
    videos: set[int] = set()  # that are declared
    while place < size:
        stream.seek(place)
        head = stream.read(14)
        if not head.startswith(b"\0\0\1") or head[3:4] < bytes((_END,)):
            after = _after_zeros(stream, place)
            if after == place:
                raise ValueError(f"no packet begins at {place:,}, where one ends")
            place = after
            continue
        code = head[3]
        if code == _END:
            place += 4
        elif code == _PACK and head[4:5] < b"\x40":  # as in MPEG-1
            place += 12
        elif code == _PACK:
            place += 14 + (head[13] & 7 if len(head) == 14 else 0)
        else:
            length = int.from_bytes(head[4:6], "big")
            if code == _SYSTEM:
                stream.seek(place + 12)
                # Three bytes a stream, beginning with its number; one stands for all.
                named = stream.read(max(length - 6, 0))[::3]
                videos |= {n for n in named if n == _ALL or n & 0xF0 == _VIDEO}
            elif code & 0xF0 == _VIDEO and videos and not videos & {code, _ALL}:
                raise ValueError(f"video {code & 15} at {place:,} was not declared")
            place += 6 + length
    if place > size:
        raise ValueError("the last packet is cut short")


def _after_zeros(stream: BinaryIO, place: int) -> int:
    """Returns where a start code follows on zeros, or they end the file.

    It is `place` itself if other bytes follow.
    """
    stream.seek(place)
    first = place
    while block := stream.read(_STILL):
        rest = block.lstrip(b"\0")
        if not rest:
            first += len(block)
            continue
        first += len(block) - len(rest)
        return first - 2 if rest[0] == 1 and first - 2 > place else place
    return first
