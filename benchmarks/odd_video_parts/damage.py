"""Ways to spoil a file, and files that are no videos at all."""

import struct
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.odd_video_parts.encoding import (
    CONTAINERS,
    Codec,
    Container,
    encode,
    photographed,
)
from benchmarks.odd_video_parts.whole import EITHER, READ, REFUSED, Made

DRAWS = 4  # files of each kind of damage, in each container
_ASF_FILE = uuid.UUID("8cabdca1-a947-11cf-8ee4-00c00c205365").bytes_le


def damaged(box: Container, seed: int = 0) -> Iterator[Made]:
    """Yields spoiled videos of a container; the same for the same seed."""
    rng = np.random.default_rng([seed, sum(box.name.encode())])
    plain = encode(box, photographed(24), **({"g": "8"} if box.sound else {}))
    sounding = encode(box, photographed(24), sound=2.4) if box.sound else plain
    size = len(plain)
    for number in range(DRAWS):
        content = sounding if number % 2 else plain
        end = int(rng.integers(1, len(content)))
        yield Made("cut short", content[:end], EITHER)
        yield Made(
            "bytes overwritten", _overwritten(content, rng, 1 + 8 * number), EITHER
        )
        yield Made("blocks of zeros", _zeroed(content, rng, number), EITHER)
        begin = int(rng.integers(1, len(content) // 2))
        yield Made("the beginning missing", content[begin:], EITHER)
    yield Made("cut short by a byte", plain[:-1], EITHER)
    yield Made("the header alone", plain[: min(600, size // 4)], EITHER)
    half = size // 2
    yield Made("halves swapped", plain[half:] + plain[:half], EITHER)
    content = plain[: size // 3] + plain[2 * size // 3 :]
    yield Made("the middle missing", content, EITHER)
    yield Made("one byte of a hundred turned over", _everywhere(plain, rng), EITHER)
    yield Made("joined with itself", plain + plain, EITHER)
    neighbour = CONTAINERS["avi" if box.name != "avi" else "mkv"]
    other = encode(neighbour, photographed(8))
    yield Made("joined with another container", plain + other, EITHER)
    yield Made("another container in front", other + plain, EITHER)
    yield Made("noise behind it", plain + rng.bytes(5000), EITHER)
    yield Made("noise before it", rng.bytes(500) + plain, EITHER)
    yield from _absurd(box, plain)
    yield from _endless(box)


def _overwritten(content: bytes, rng: np.random.Generator, count: int) -> bytes:
    found = bytearray(content)
    # Containers keep what matters in the first and the last kilobytes.
    ends = [0, max(len(content) - 1000, 0), int(rng.integers(0, len(content)))]
    for number in range(count):
        at = ends[number % 3] + int(rng.integers(0, 1000))
        if at < len(found):
            found[at] = int(rng.integers(0, 256))
    return bytes(found)


def _zeroed(content: bytes, rng: np.random.Generator, number: int) -> bytes:
    found, length = bytearray(content), (512, 64, 2048, 8)[number % 4]
    at = int(rng.integers(0, max(len(content) - length, 1)))
    found[at : at + length] = bytes(min(length, len(found) - at))
    return bytes(found)


def _everywhere(content: bytes, rng: np.random.Generator) -> bytes:
    found = np.frombuffer(content, "uint8").copy()
    found[rng.random(len(found)) < 0.01] ^= 0xFF
    return found.tobytes()


# === Headers that lie ===
def _absurd(box: Container, plain: bytes) -> Iterator[Made]:
    """Yields files whose headers speak of sizes and counts that no memory holds."""
    most, huge = struct.pack("<I", 0xFFFF_FFFF), struct.pack("<I", 60_000)
    large = b"\x7f\xff\xff\xff"
    of_mp4 = [  # what, the word before a number, how far behind it, another number
        ("an absurd number of times", b"stts", 8, large),
        ("an absurd number of frames", b"stsz", 12, large),
        ("an absurd number of pieces", b"stsc", 8, large),
        ("an absurd size of a frame", b"stsz", 8, large),
        ("an absurd length of a part", b"moov", -4, large),
        ("no unit of time", b"mdhd", 16, bytes(4)),
    ]
    of_matroska = [
        ("an absurd size", b"\xb0\x81", 0, b"\xb0\x84\x7f\xff\xff\xff"),
        ("an absurd duration", b"\x44\x89\x88", 3, struct.pack(">d", 1e300)),
        ("a duration that is no number", b"\x44\x89\x88", 3, b"\x7f\xf8" * 4),
        ("an absurd unit of time", b"\x2a\xd7\xb1\x83", 4, b"\xff\xff\xff"),
        ("an absurd length of a part", b"\x1f\x43\xb6\x75", 4, b"\1" + b"\xff" * 7),
    ]
    lies = {
        "mp4": of_mp4,
        "mov": of_mp4,
        "3gp": of_mp4,
        "mkv": of_matroska,
        "webm": of_matroska,
        "avi": [
            ("an absurd number of frames", b"avih", 24, most),
            ("an absurd size", b"avih", 40, huge + huge),
            ("an absurd size of a frame", b"strf", 12, huge + huge),
            ("no time per frame", b"strh", 28, bytes(8)),
            ("an absurd length of a part", b"movi", -4, most),
        ],
        "flv": [
            ("an absurd duration", b"duration\0", 9, struct.pack(">d", 1e300)),
            ("an absurd rate", b"framerate\0", 10, struct.pack(">d", 1e-300)),
            ("an absurd size", b"width\0", 6, struct.pack(">d", 1e12)),
        ],
        "wmv": [
            ("an absurd duration", _ASF_FILE, 64, b"\xff" * 7 + b"\x7f"),
            ("an absurd number of packets", _ASF_FILE, 56, b"\xff" * 7 + b"\x7f"),
        ],
        "gif": [("an absurd size", b"GIF89a", 6, most)],
        "png": [
            ("an absurd size", b"IHDR", 4, large + large),
            ("an absurd number of frames", b"acTL", 4, large),
        ],
        "webp": [
            ("an absurd size", b"VP8X", 12, b"\xff" * 6),
            ("an absurd length of a part", b"ANMF", 4, most),
        ],
    }
    for kind, word, behind, number in lies.get(box.name, []):
        at = plain.index(word) + behind
        content = plain[:at] + number + plain[at + len(number) :]
        if box.name == "png":
            content = _summed(content, content.index(word))
        yield Made(kind, content, EITHER)


def _summed(content: bytes, at: int) -> bytes:
    """Returns a PNG whose part at a place has the checksum of what is in it now."""
    end = at + 4 + int.from_bytes(content[at - 4 : at], "big")
    total = zlib.crc32(content[at:end]).to_bytes(4, "big")
    return content[:end] + total + content[end + 4 :]


# === Files that keep a parser busy ===
def _endless(box: Container) -> Iterator[Made]:
    """Yields a file of millions of empty parts, for which there is half a second."""
    of_mp4 = b"\0\0\0\x08free"
    gif = encode(CONTAINERS["gif"], photographed(1, 2, 2)) if box.name == "gif" else b""
    dot = gif.find(b",")
    matroska = b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\1" + b"\xff" * 7
    parts = {
        "mp4": (b"\0\0\0\x18ftypisom\0\0\2\0isommp42", of_mp4, 1),
        "mov": (b"\0\0\0\x14ftypqt  \0\0\2\0qt  ", of_mp4, 1),
        "mkv": (matroska, b"\xec\x80", 2),
        "avi": (b"RIFF\0\0\0\x7fAVI ", b"JUNK\0\0\0\0", 1),
        "flv": (b"FLV\1\1\0\0\0\x09" + bytes(4), b"\x09" + bytes(14), 1),
        "mpg": (b"\0\0\1\xba\x44\0\4\0\4\1\0\1\1\xf8", b"\0\0\1\xbe\0\0", 1),
        "gif": (gif[:dot], gif[dot:-1], 1),
    }  # fmt: skip
    if box.name not in parts:
        return
    head, part, times = parts[box.name]
    content = head + part * (times * 2_000_000)
    yield Made("millions of empty parts", content, EITHER, max_seconds=0.5)


# === What is no video ===
def strangers(folder: Path, seed: int = 0) -> Iterator[tuple[str, Made, Path]]:
    """Yields files, folders and names in a folder that hold no readable video.

    Args:
        folder: where they are made.
        seed: of the noise.

    Yields:
        What it is, what is expected of it, and where it is.
    """
    rng, plain = np.random.default_rng(seed), encode(CONTAINERS["mp4"], photographed())
    texts = {
        "empty": b"",
        "one byte": b"\0",
        "text": b"This is no video.\n" * 40,
        "a page of the web": b"<!DOCTYPE html><html><body>404</body></html>",
        "zeros": bytes(4000),
        "noise": rng.bytes(20_000),
        "an archive": b"PK\3\4" + rng.bytes(3000),
        "a playlist": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        "a list of files": b"ffconcat version 1.0\nfile /etc/passwd\n",
        "an answer of Git LFS": b"version https://git-lfs.github.com/spec/v1\n",
    }
    for kind, content in texts.items():
        path = folder / f"{kind.replace(' ', '-')}.mp4"
        path.write_bytes(content)
        yield "none", Made(kind, content, REFUSED), path
    yield "none", Made("missing", b"", REFUSED), folder / "missing.mp4"
    inside = folder / "a-folder.mp4"
    inside.mkdir()
    yield "none", Made("an empty folder", b"", REFUSED), inside
    (inside / "frame1.png").write_bytes(b"no image")
    other = folder / "another-folder"
    other.mkdir()
    (other / "clip.mp4").write_bytes(plain)
    yield "none", Made("a folder of videos", b"", REFUSED), other
    link = folder / "a-link.mp4"
    link.symlink_to(folder / "nowhere.mp4")
    yield "none", Made("a link to nowhere", b"", REFUSED), link
    below = folder / "empty.mp4" / "clip.mp4"
    yield "none", Made("a file in a file", b"", REFUSED), below
    for name in CONTAINERS:
        wrong = folder / f"a-{name}.{'jpg' if name == 'mp4' else 'mp4'}"
        content = encode(CONTAINERS[name], photographed())
        wrong.write_bytes(content)
        made = Made("another ending", content, READ, photographed())
        yield name, made, wrong
    h264 = CONTAINERS["mp4"].codec
    for muxer, codec in (
        ("mxf", Codec("mpeg2video")),
        ("ivf", CONTAINERS["webm"].codec),
        ("swf", Codec("flv")),
        ("h264", h264),
        ("yuv4mpegpipe", Codec("rawvideo")),
        ("wtv", Codec("mpeg2video")),
    ):
        box = Container(muxer, muxer, codec, None, rate=25)
        path = folder / f"clip.{muxer}"
        path.write_bytes(encode(box, photographed()))
        yield muxer, Made("a container that is not read", b"", REFUSED), path
