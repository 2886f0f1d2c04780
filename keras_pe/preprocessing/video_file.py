"""The frames of one video, wherever they are, without trusting the file.

Sizes are checked before pixels are decoded, and only frames that are asked for are
ever in memory. PyAV is imported when the first video file is opened.
"""

from __future__ import annotations

import bisect
import contextlib
import functools
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from PIL import Image

from keras_pe.preprocessing import bad_pictures, image_file
from keras_pe.preprocessing.animation_file import AnimationFrames
from keras_pe.preprocessing.bad_pictures import PictureError
from keras_pe.preprocessing.container_rules import check_container
from keras_pe.preprocessing.decoder_reports import DamageReported, errors_raised
from keras_pe.preprocessing.image_modes import check_unit
from keras_pe.preprocessing.mpeg_streams import check_mpeg_stream
from keras_pe.preprocessing.picture_files import list_files
from keras_pe.preprocessing.picture_inputs import (
    check_distinct,
    file_content,
    is_file,
    to_array,
)
from keras_pe.preprocessing.video_error import (
    CONTAINERS,
    NO_FRAMES,
    UNKNOWN_CODEC,
    VideoError,
    check_count,
    check_pixels,
    damaged,
)
from keras_pe.preprocessing.video_frame import frame_picture

# Decoders that read the alpha channel of WebM, by those that don't.
_ALPHA_CODECS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
# Checksums are compared, what a codec's rules forbid and what ends too early is an
# error. FFmpeg has more such flags; they refuse what DivX and Xvid wrote.
_STRICT = "crccheck+bitstream+buffer+explode"
# MPEG-1 and 2 say where a group of pictures begins: with one that needs no other. At a
# constant rate they fill pictures up with zeros, which "bitstream" takes for damage.
_GROUPED, _GROUP = ("mpeg1video", "mpeg2video"), b"\0\0\1\xb8"
_SEQUENCE = b"\0\0\1\xb3"  # sizes and rates: they may come again, with any group
_GROUPED_STRICT = "crccheck+buffer+explode"
# What FFmpeg calls the readers of `CONTAINERS`.
_MOV, _TS, _PS = "mov,mp4,m4a,3gp,3g2,mj2", "mpegts", "mpeg"
_DEMUXERS = (_MOV, "matroska,webm", "avi", _TS, _PS, "flv", "ogg", "asf")
# How the files begin that Pillow reads, animated or not.
_PICTURE = re.compile(rb"GIF8|\x89PNG|\xff\xd8|RIFF....WEBP", re.DOTALL)


class Frames(Protocol):
    """The frames of one video.

    Attributes:
        count: how many there are. A file may declare more than it holds, which
            `read` notices and corrects.
    """

    count: int

    def read(self, numbers: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Yields (number, frame) for ascending numbers, as far as there are any."""


def open_frames(
    video: Any,
    name: str,
    max_pixels: int,
    max_frames: int,
    formats: Collection[str] = image_file.DEFAULT_FORMATS,
    max_side: int = image_file.DEFAULT_MAX_SIDE,
) -> Frames:
    """Opens a video of any kind; no frame is decoded yet.

    Args:
        video: path or bytes of a file, an open file, a folder, an array (frames,
            height, width, channels) or a list of frames.
        name: what to call it in an error.
        max_pixels: width times height of a frame above which it is refused.
        max_frames: number of frames above which it is refused.
        formats: Pillow's names of the formats of animations.
        max_side: width or height of a frame above which it is refused.

    Returns:
        Its `Frames`.

    Raises:
        PictureError: if it is missing, too large or no video.
        ImportError: if it needs PyAV, which is not installed.

    Example:
        >>> import numpy as np
        >>> frames = open_frames(np.zeros((3, 4, 4, 3), "uint8"), "clip", 16, 10)
        >>> [number for number, frame in frames.read([0, 2])]
        [0, 2]
    """
    frames: Frames
    limits = max_pixels, max_frames, formats, max_side
    if isinstance(video, bytes | bytearray | memoryview):
        frames = _open_file(bytes(video), name, *limits)
    elif is_file(video):
        frames = _open_file(file_content(video, name), name, *limits)
    elif isinstance(video, str | os.PathLike):
        if os.path.isdir(_path_of(video, name)):
            frames = ListedFrames(_frame_files(Path(video), name))
        else:
            frames = _open_file(video, name, *limits)
    elif isinstance(video, list | tuple):
        check_distinct(video, name)
        frames = ListedFrames(video)
    elif getattr(video, "ndim", 0) == 4:
        array = to_array(video, name)
        if array.dtype.kind == "f" and array.size:
            check_unit(array, name)  # all: those that are taken may be dark ones
        frames = ListedFrames(array)
    else:
        shape = getattr(video, "shape", None)
        hint = ""
        if getattr(video, "ndim", 0) == 3:
            hint = " One frame goes into a list; grey frames are array[..., None]."
        raise VideoError(
            name,
            bad_pictures.BAD_TYPE,
            f"A {type(video).__name__}{f' of shape {shape}' if shape else ''}; "
            "expected a path, bytes, an open file, a folder, an array (frames, height, "
            f"width, 3) or a list of frames.{hint}",
        )
    if frames.count < 1:
        raise VideoError(name, NO_FRAMES, "Expected at least one frame or picture.")
    check_count(frames.count, name, max_frames)
    return frames


class ListedFrames:
    """Frames in memory, or pictures in files: each opened by whoever uses it."""

    def __init__(self, frames: Any) -> None:
        self.frames = frames
        self.count = len(frames)

    def read(self, numbers: Sequence[int]) -> Iterator[tuple[int, Any]]:
        for number in numbers:
            yield number, self.frames[number]


class VideoFileFrames:
    """Frames of a video file, decoded by FFmpeg through PyAV."""

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes,
        name: str,
        max_pixels: int,
        max_frames: int,
        max_side: int = image_file.DEFAULT_MAX_SIDE,
    ) -> None:
        self.source, self.name = source, name
        self.limits = max_pixels, max_side
        # Containers may not say how many frames they hold, or say it wrongly. Counting
        # packets reads the file but decodes nothing.
        times: list[int | None] = []  # when each frame is shown
        self.alpha_codec: str | None = None
        self._twin: Any = None  # a frame without alpha, which the stream describes
        keys: set[int] = set()  # ... and where decoding can begin
        held = 0
        self._check(check_container)
        with self._opened() as (container, stream):
            kind, pixels = container.format.name, stream.codec_context.pix_fmt
            self._check(functools.partial(check_mpeg_stream, kind=kind))
            for packet in self._packets(container, stream):
                held += packet.dts is not None or bool(packet.size)
                if packet.is_corrupt:
                    raise DamageReported("packets are lost, or recordings were joined")
                if not packet.size or packet.is_discard or _unseen(packet, stream):
                    continue
                times.append(packet.pts)
                check_count(len(times), name, max_frames)
                if packet.is_keyframe and packet.pts is not None:
                    keys.add(packet.pts)
            # AVI has a count too, but two of six sound files count frames that nobody
            # recorded.
            missing = held < stream.frames and kind == _MOV
        if missing:
            self._check_unedited()
        self.count = len(times)
        known = [time for time in times if time is not None]
        # Program streams have few times: after a seek, frames get those of others.
        # Palettes come once, with the first packet: after a seek, there is none.
        unique = len(set(known)) == len(times) and kind != _PS and pixels != "pal8"
        self.times = sorted(known) if unique else []  # empty: no seeking
        self.keys = sorted(keys)

    def _check(self, check: Callable[[BinaryIO], None]) -> None:
        with image_file._stream(self.source, self.name) as file:
            try:
                check(file)
            except ValueError as error:
                raise damaged(self.name, error) from error

    def _check_unedited(self) -> None:
        """Counts again what an edit list may have cut: a trimmed video is a sound one.

        FFmpeg leaves out the packets of frames that the list does not show.
        """
        with self._opened(ignore_editlist="1") as (container, stream):
            packets = self._packets(container, stream)
            held = sum(p.dts is not None or bool(p.size) for p in packets)
            if held < stream.frames:
                raise DamageReported(f"{held:,} of {stream.frames:,} frames are there")

    def read(self, numbers: Sequence[int]) -> Iterator[tuple[int, Any]]:
        done = -1
        for number, frame in self._seeking(numbers):
            done = number
            yield number, frame
        rest = [number for number in numbers if number > done]
        if rest:  # no seeking in this file, or it did not lead where it should
            yield from self._in_order(rest)

    def _seeking(self, numbers: Sequence[int]) -> Iterator[tuple[int, Image.Image]]:
        """Decodes from the key frame before each number; stops at any surprise."""
        surprises = _pyav().error.FFmpegError, DamageReported
        with self._opened() as (container, stream):
            reached: int | None = None
            decoder: Iterator[Any] = iter(())
            for number in numbers:
                if number >= len(self.times):
                    return
                time = self.times[number]
                before = bisect.bisect_right(self.keys, time)
                if not before:
                    return
                key = self.keys[before - 1]
                try:
                    if reached is None or key > reached:
                        container.seek(key, stream=stream)
                        decoder = self._expected(self._decoded(container, stream), key)
                    frame = next((x for x in decoder if x.pts == time), None)
                except surprises:
                    return
                if frame is None:
                    return
                reached = time
                yield number, self._picture(frame)

    def _expected(self, frames: Iterator[Any], key: int) -> Iterator[Any]:
        """Yields the frames from a key frame on, as long as each is the next in time.

        Each is held back until its successor is seen: a frame whose time is wrong
        would be taken for another.
        """
        number, held = bisect.bisect_left(self.times, key), None
        for frame in frames:
            if held is None and (frame.pts is None or frame.pts < key):
                continue  # it depends on the group before, and is shown before
            if number >= len(self.times) or frame.pts != self.times[number]:
                raise DamageReported("frames are out of order")
            if held is not None:
                yield held
            number, held = number + 1, frame
        if number != len(self.times):
            raise DamageReported("frames are missing")
        if held is not None:
            yield held

    def _in_order(self, numbers: Sequence[int]) -> Iterator[tuple[int, Image.Image]]:
        """Decodes from the beginning; corrects `count` if the file ends early."""
        wanted, decoded = set(numbers), 0
        with self._opened() as (container, stream):
            for number, frame in enumerate(self._decoded(container, stream)):
                decoded = number + 1
                if number in wanted:
                    yield number, self._picture(frame)
                    if number == numbers[-1]:
                        return
        self.count = decoded

    def _picture(self, frame: Any) -> Image.Image:
        check_pixels(frame.width, frame.height, self.name, *self.limits)
        return frame_picture(frame, self._twin)

    def _packets(self, container: Any, stream: Any) -> Iterator[Any]:
        """Yields packets from where the container stands."""
        packets, begun = container.demux(stream), False
        while True:
            with errors_raised(_pyav(), _DEMUXERS):
                packet = next(packets, None)
            if packet is None:
                return
            # Broadcasts are recorded from any moment on: what comes before the first
            # key frame cannot be decoded.
            begun = begun or not packet.size or _begins(packet, container, stream)
            if begun or container.format.name != _TS:
                yield packet
            elif stream.codec_context.name in _GROUPED and _GROUP in bytes(packet):
                raise DamageReported("a group's first picture is damaged")

    def _decoded(self, container: Any, stream: Any) -> Iterator[Any]:
        """Yields frames in the order of showing, from where the container stands.

        A frame that is damaged spoils those after it, so it need not be one that is
        asked for to end this.
        """
        decoder = stream.codec_context
        if self.alpha_codec is not None:
            # FFmpeg's own decoders of WebM leave the alpha channel out.
            decoder = _pyav().CodecContext.create(self.alpha_codec, "r")
            decoder.thread_count = 1
        for packet in self._packets(container, stream):
            with errors_raised(_pyav(), [decoder.name]):
                if self.alpha_codec is not None and self._twin is None:
                    self._twin = next(iter(stream.decode(packet)), None)
                frames = decoder.decode(packet)
            for frame in frames:
                if frame.is_corrupt:
                    raise DamageReported("parts of a frame are made up")
                yield frame

    @contextlib.contextmanager
    def _opened(self, **more: str) -> Iterator[tuple[Any, Any]]:
        """Opens the file, with more options of FFmpeg; any fault is a VideoError."""
        av = _pyav()
        with image_file._stream(self.source, self.name) as file:
            try:
                options = {"format_whitelist": CONTAINERS, "err_detect": _STRICT}
                options |= more
                with errors_raised(av, _DEMUXERS):
                    # Titles in Latin-1 or worse are no reason to refuse frames.
                    container = av.open(
                        file, options=options, metadata_errors="replace"
                    )
                with container:
                    stream = self._stream(container)
                    codec = stream.codec_context
                    size = codec.width, codec.height
                    check_pixels(*size, self.name, *self.limits)
                    codec.thread_count = 1  # see `errors_raised`
                    strict = _GROUPED_STRICT if codec.name in _GROUPED else _STRICT
                    codec.options = {"err_detect": strict}
                    tags = {key.lower(): tag for key, tag in stream.metadata.items()}
                    if tags.get("alpha_mode") == "1":  # a copied tag is in capitals
                        self.alpha_codec = _ALPHA_CODECS.get(codec.name)
                    yield container, stream
            except PictureError:
                raise
            except Exception as error:  # PyAV raises nearly anything on hostile bytes
                raise damaged(self.name, error) from error

    def _stream(self, container: Any) -> Any:
        """Returns the video among the streams of a file."""
        stream = container.streams.best("video")
        if stream is None:
            raise VideoError(self.name, NO_FRAMES, "It holds no video.")
        if stream.disposition & _pyav().stream.Disposition.attached_pic:
            raise VideoError(
                self.name, NO_FRAMES, "It holds a cover picture, but no video."
            )
        if stream.codec_context is None:
            raise VideoError(
                self.name,
                UNKNOWN_CODEC,
                "This FFmpeg has no decoder for it: re-encode it, as H.264 or AV1.",
            )
        return stream


def _begins(packet: Any, container: Any, stream: Any) -> bool:
    """Says whether decoding can begin with a packet."""
    kind = container.format.name
    # Elsewhere the container holds the header.
    headed = kind in (_TS, _PS) and stream.codec_context.name in _GROUPED
    if not packet.is_keyframe or not headed or _SEQUENCE in bytes(packet):
        return bool(packet.is_keyframe)
    if kind == _PS:  # decoders leave the group out without a word
        raise DamageReported("the first group has no sequence header")
    return False


def _unseen(packet: Any, stream: Any) -> bool:
    """Says whether a packet holds a frame that is only referred to, never shown."""
    if stream.codec_context.name not in ("vp8", "libvpx"):
        return False
    # RFC 6386, section 9.1: show_frame is bit 4 of the first byte.
    return not bytes(memoryview(packet)[:1])[0] >> 4 & 1


def _open_file(
    source: str | os.PathLike[str] | bytes,
    name: str,
    max_pixels: int,
    max_frames: int,
    formats: Collection[str],
    max_side: int,
) -> Frames:
    """The content decides who decodes a file, not its name."""
    with image_file._stream(source, name) as stream:
        beginning = stream.read(16)
    if not beginning:
        raise VideoError(name, bad_pictures.EMPTY, "It has no bytes: copy it again.")
    if _PICTURE.match(beginning):
        return AnimationFrames(source, name, max_pixels, formats, max_side)
    return VideoFileFrames(source, name, max_pixels, max_frames, max_side)


def _path_of(video: str | os.PathLike, name: str) -> str | bytes:
    try:
        return os.fspath(video)
    except Exception as error:
        raise VideoError(
            name, bad_pictures.UNREADABLE, f"{image_file._describe(error)}."
        ) from error


def _frame_files(folder: Path, name: str) -> list[Path]:
    """Lists the pictures of a folder, `frame2` before `frame10`."""

    def order(path: Path) -> list[tuple[int, str]]:
        pieces = re.split(r"(\d+)", path.name)
        return [
            (int(piece), "") if i % 2 else (-1, piece) for i, piece in enumerate(pieces)
        ]

    try:
        return sorted(list_files(folder), key=order)
    except OSError as error:
        raise VideoError(
            name, bad_pictures.UNREADABLE, f"{image_file._describe(error)}."
        ) from error


def _pyav() -> Any:
    try:
        import av
    except ImportError as error:
        raise ImportError(
            'Video files are read with PyAV: pip install "keras-pe[video]". Animated '
            "GIF and WebP, folders of frames and arrays work without."
        ) from error
    return av
