"""Videos that are odd but sound: each is to be read, and its frames are known."""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.odd_video_parts.encoding import (
    COUNT,
    HEIGHT,
    ROTATABLE,
    WIDTH,
    Codec,
    Container,
    encode,
    photographed,
    repackaged,
)

READ, REFUSED, EITHER = "read", "refused", "read or refused"
UNEVEN = (0, 1, 2, 5, 6, 7, 15, 16, 17, 18, 30, 31, 32, 33, 60, 61)
_ONE = 1 << 16
_STILL_IMAGES = ("gif", "webp", "png")  # what Pillow reads
_SIZES = {"1 x 1": (1, 1), "5 x 3": (3, 5), "2048 x 8": (8, 2048), "2 x 512": (512, 2)}


@dataclass(frozen=True)
class Made:
    """A file's content and what is known of it.

    Attributes:
        kind: what is odd about it.
        content: its bytes.
        expected: `READ`, `REFUSED` or `EITHER`.
        frames: what is to be seen, where that is known.
        times: when each frame comes, in any unit; None for even steps.
        looks: whether frames are told apart; small ones aren't.
        container: as its files end.
        max_seconds: that reading it may take.
    """

    kind: str
    content: bytes
    expected: str = READ
    frames: np.ndarray | None = None
    times: Sequence[int] | None = None
    looks: bool = True
    container: str = ""
    max_seconds: float = 5.0


def whole(box: Container) -> Iterator[Made]:
    """Yields the sound videos of a container."""
    frames = photographed()
    yield Made("plain", encode(box, frames), frames=frames)
    for codec in box.others:
        some = photographed(COUNT, *codec.size)
        name = f"another codec, {codec.name}"
        yield Made(name, encode(box, some, codec), frames=some)
    yield from _lengths(box)
    yield from _sizes(box)
    if box.sound:
        # Shorter than the frames, and longer.
        for seconds in (0.5, 3.0):
            content = encode(box, frames, sound=seconds)
            yield Made("with sound", content, frames=frames)
        yield Made("sound alone", encode(box, None, sound=1.0), REFUSED)
    if box.timed and box.name != "gif":
        content = encode(box, frames, times=UNEVEN)
        yield Made("uneven steps", content, frames=frames, times=UNEVEN)
    if box.name not in _STILL_IMAGES:
        yield from _groups(box)
        late = [900 + number for number in range(COUNT)]
        content = encode(box, frames, times=late)
        # An AVI says when a frame comes by how many come before it: the first does.
        times = [0, *late[1:]] if box.name == "avi" else None
        yield Made("a late start", content, frames=frames, times=times)
        yield from _stamped(box)
        yield from _written(box)
        yield from _changing(box)
    if box.name in ROTATABLE:
        yield from _turned(box)
    if box.see_through:
        opaque = np.full((*frames.shape[:3], 1), 255, "uint8")
        opaque[:, :, WIDTH // 2 :] = 0
        some = np.concatenate([frames, opaque], axis=-1)
        content = encode(box, some, box.see_through)
        yield Made("transparent", content, frames=some)


def _lengths(box: Container) -> Iterator[Made]:
    for count, name in ((1, "one frame"), (2, "two frames"), (3, "three frames")):
        some = photographed(count)
        yield Made(name, encode(box, some), frames=some)
    some = photographed(120)
    yield Made("120 frames", encode(box, some), frames=some)


def _sizes(box: Container) -> Iterator[Made]:
    for name, size in _SIZES.items():
        some = photographed(COUNT, *size)
        try:
            content = encode(box, some, box.tiny)
        except Exception:  # an encoder that knows no such size
            continue
        yield Made(name, content, frames=some, looks=False)


def _groups(box: Container) -> Iterator[Made]:
    frames, name = photographed(), box.codec.name
    if name == "libx264":
        groups = "keyint=6:min-keyint=6:bframes=3:scenecut=0"
        yield Made(
            "frames shown in another order",
            encode(box, frames, **{"x264-params": groups}),
            frames=frames,
        )
        yield Made(
            "open groups",
            encode(box, frames, **{"x264-params": f"open-gop=1:{groups}"}),
            frames=frames,
        )
    elif name in ("mpeg4", "mpeg1video", "mpeg2video"):
        content = encode(box, frames, bf="2", g="6")
        yield Made("frames shown in another order", content, frames=frames)
    yield Made("key frames alone", encode(box, frames, g="1"), frames=frames)
    some = photographed(100)
    content = encode(box, some, g="1000", keyint_min="1000")
    yield Made("one key frame, the first", content, frames=some)


# === Times that no camera writes ===
def _stamped(box: Container) -> Iterator[Made]:
    def backwards(packet: Any, number: int) -> None:
        packet.pts, packet.dts = packet.pts + 2 * (COUNT - number) * step, packet.dts

    def same(packet: Any, number: int) -> None:
        packet.pts = first

    def huge(packet: Any, number: int) -> None:
        later = (1 << 40) if number else 0
        packet.pts, packet.dts = packet.pts + later, packet.dts + later

    step, first = 1, COUNT
    options = {"bf": "0"} if box.codec.name == "libx264" else {}
    for kind, change in (
        ("times go backwards", backwards),
        ("all at the same time", same),
        ("a gap of years", huge),
    ):
        try:
            content = encode(box, photographed(), stamped=change, **options)
        except Exception:  # a muxer that refuses them
            continue
        yield Made(kind, content, EITHER)


# === What containers may leave out ===
def _written(box: Container) -> Iterator[Made]:
    frames = photographed()
    ways = {
        "mp4": {
            "fragments": {"movflags": "frag_keyframe+empty_moov"},
            "fragments, each with its base": {
                "movflags": "frag_every_frame+empty_moov+default_base_moof"
            },
            "the index first": {"movflags": "faststart"},
        },
        "mov": {"fragments": {"movflags": "frag_keyframe+empty_moov"}},
        "3gp": {"fragments": {"movflags": "frag_keyframe+empty_moov"}},
        "mkv": {"no index and no duration": {"live": "1"}},
        "webm": {"no index and no duration": {"live": "1"}},
        "flv": {"no duration": {"flvflags": "no_duration_filesize+no_metadata"}},
        "ts": {"as on a Blu-ray disc": {"mpegts_m2ts_mode": "1"}},
        "ogv": {"a page for each frame": {"page_duration": "1"}},
        "wmv": {"small packets": {"packet_size": "1024"}},
        "mpg": {"small packets": {"packetsize": "1024"}},
    }
    for kind, muxing in ways.get(box.name, {}).items():
        content = encode(box, frames, muxing=muxing, g="6")
        yield Made(kind, content, frames=frames)
    if box.name in ("mkv", "webm", "flv", "avi", "ogv", "ts", "mpg", "wmv"):
        content = encode(box, frames, seekable=False)
        yield Made("written into a pipe", content, EITHER, frames)
    if box.name == "avi":
        plain = encode(box, frames)
        yield Made("no index", plain[: plain.rindex(b"idx1")], EITHER, frames)
    if box.name in ROTATABLE[:3]:  # MP4 and its like
        yield from _patched(encode(box, frames), frames)


def _patched(plain: bytes, frames: np.ndarray) -> Iterator[Made]:
    """Durations that are none, or absurd, which nobody needs to count frames."""
    for kind, value in (("no duration", 0), ("an absurd duration", 0xFFFF_FFFE)):
        content = bytearray(plain)
        for box, place in ((b"mvhd", 20), (b"mdhd", 20), (b"tkhd", 24)):
            at = plain.index(box) + place
            content[at : at + 4] = struct.pack(">I", value)
        yield Made(kind, bytes(content), EITHER, frames)
    content = bytearray(plain)
    at = plain.index(b"tkhd") + 80
    content[at : at + 8] = struct.pack(">2I", 0xFFFF_0000, 0xFFFF_0000)
    yield Made("an absurd size in the track's header", bytes(content), READ, frames)


# === What changes inside ===
def _changing(box: Container) -> Iterator[Made]:
    """Yields recordings that go on at another size, or in another pixel format."""
    first = encode(box, photographed(8))
    smaller = encode(box, photographed(8, HEIGHT // 2, WIDTH // 2))
    other = Codec(box.codec.name, "yuv444p", box.codec.options)
    for kind, size, codec in (
        ("another size inside", smaller, None),
        ("another pixel format inside", None, other),
    ):
        try:
            rest = size or encode(box, photographed(8), codec)
            content = repackaged([first, rest], box)
        except Exception:  # the codec has one pixel format, or the muxer refuses
            continue
        yield Made(kind, content, EITHER)


# === How frames lie ===
def _turned(box: Container) -> Iterator[Made]:
    frames = photographed()
    for degrees in (90, 180, 270):
        content = encode(box, frames, rotation=degrees)
        turned = np.rot90(frames, degrees // 90, axes=(1, 2))
        yield Made(f"turned by {degrees} degrees", content, frames=turned)
    if box.name == "mkv":  # which has angles, not a matrix
        return
    plain = encode(box, frames)
    straight = struct.pack(">9i", _ONE, 0, 0, 0, _ONE, 0, 0, 0, 1 << 30)
    at = plain.index(straight, plain.index(b"tkhd"))
    for kind, (a, d), seen in (
        ("mirrored", (-_ONE, _ONE), frames[:, :, ::-1]),
        ("upside down", (_ONE, -_ONE), frames[:, ::-1]),
    ):
        matrix = struct.pack(">9i", a, 0, 0, 0, d, 0, 0, 0, 1 << 30)
        content = plain[:at] + matrix + plain[at + len(matrix) :]
        yield Made(kind, content, frames=seen)
