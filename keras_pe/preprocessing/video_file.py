"""The frames of one video, wherever they are, without trusting the file.

Sizes are checked before pixels are decoded, and only frames that are asked for are
ever in memory. PyAV is imported when the first video file is opened.
"""

from __future__ import annotations

import bisect
import contextlib
import os
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from keras_pe.preprocessing import image_file
from keras_pe.preprocessing.image_file import PictureError
from keras_pe.preprocessing.picture_files import list_files

# Two hours at 30 frames a second.
DEFAULT_MAX_FRAMES = 216_000
# The values of `VideoError.reason`, beside those of `image_file.REASONS`.
NO_FRAMES = "no frames"
TOO_MANY_FRAMES = "too many frames"
DAMAGED = "damaged video"

# Containers that hold their own pictures. Playlists and lists of files are left out
# on purpose: FFmpeg would open whatever paths and addresses a hostile one names.
CONTAINERS = "mov,matroska,avi,mpegts,mpeg,flv,ogg,asf"
# How the files begin that Pillow reads, animated or not.
_PICTURE = re.compile(rb"GIF8|\x89PNG|\xff\xd8|RIFF....WEBP", re.DOTALL)


class VideoError(PictureError):
    """A video that cannot be used; `name`, `reason` and `detail` say why."""


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
        video: path or bytes of a file, a folder, an array (frames, height, width,
            channels) or a list of frames.
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
        >>> frames = open_frames(np.zeros((3, 4, 4, 3), "uint8"), "clip", 16, 10)
        >>> [number for number, frame in frames.read([0, 2])]
        [0, 2]
    """
    frames: Frames
    limits = max_pixels, max_frames, formats, max_side
    if isinstance(video, bytes | bytearray | memoryview):
        frames = _open_file(bytes(video), name, *limits)
    elif isinstance(video, str | os.PathLike):
        path = Path(video)
        if path.is_dir():
            frames = ListedFrames(_frame_files(path))
        else:
            frames = _open_file(path, name, *limits)
    elif isinstance(video, list | tuple):
        frames = ListedFrames(video)
    elif getattr(video, "ndim", 0) == 4:
        frames = ListedFrames(np.asarray(video))
    else:
        shape = getattr(video, "shape", None)
        raise VideoError(
            name,
            image_file.BAD_TYPE,
            f"A {type(video).__name__}{f' of shape {shape}' if shape else ''}; "
            "expected a path, bytes, a folder, an array (frames, height, width, 3) "
            "or a list of frames.",
        )
    if frames.count < 1:
        raise VideoError(name, NO_FRAMES, "Expected at least one frame or picture.")
    check_count(frames.count, name, max_frames)
    return frames


def check_count(count: int, name: str, max_frames: int) -> None:
    """Raises VideoError if there are too many frames."""
    if count > max_frames:
        raise VideoError(
            name,
            TOO_MANY_FRAMES,
            f"It has {count:,} frames or more; expected at most {max_frames:,}. Cut "
            "it, or raise `max_frames` if you trust it.",
        )


class ListedFrames:
    """Frames in memory, or pictures in files: each opened by whoever uses it."""

    def __init__(self, frames: Any) -> None:
        self.frames = frames
        self.count = len(frames)

    def read(self, numbers: Sequence[int]) -> Iterator[tuple[int, Any]]:
        for number in numbers:
            yield number, self.frames[number]


class AnimationFrames:
    """Frames of a GIF, WebP or PNG. A still picture has one."""

    def __init__(
        self,
        source: Path | bytes,
        name: str,
        max_pixels: int,
        formats: Collection[str],
        max_side: int = image_file.DEFAULT_MAX_SIDE,
    ) -> None:
        self.source, self.name, self.formats = source, name, formats
        self.limits = max_pixels, max_side
        with image_file._stream(source, name) as stream:
            picture = self._header(stream)
            try:
                self.count = int(getattr(picture, "n_frames", 1))
            except Exception as error:  # decoders raise nearly anything
                raise damaged(name, error) from error

    def read(self, numbers: Sequence[int]) -> Iterator[tuple[int, Any]]:
        with image_file._stream(self.source, self.name) as stream:
            picture = self._header(stream)
            for number in numbers:
                try:
                    if self.count > 1:
                        picture.seek(number)
                    frame = picture.convert("RGBA" if _transparent(picture) else "RGB")
                except Exception as error:
                    raise damaged(self.name, error) from error
                yield number, frame

    def _header(self, stream: Any) -> Image.Image:
        picture = image_file._read_header(stream, self.name, self.formats)
        check_pixels(*picture.size, self.name, *self.limits)
        return picture


class VideoFileFrames:
    """Frames of a video file, decoded by FFmpeg through PyAV."""

    def __init__(
        self,
        source: Path | bytes,
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
        keys: set[int] = set()  # ... and where decoding can begin
        with self._opened() as (container, stream):
            for packet in container.demux(stream):
                if not packet.size or packet.is_discard:
                    continue
                times.append(packet.pts)
                check_count(len(times), name, max_frames)
                if packet.is_keyframe and packet.pts is not None:
                    keys.add(packet.pts)
        self.count = len(times)
        known = [time for time in times if time is not None]
        unique = len(set(known)) == len(times)
        self.times = sorted(known) if unique else []  # empty: no seeking
        self.keys = sorted(keys)

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
        failed = _pyav().error.FFmpegError
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
                        decoder = container.decode(stream)
                    frame = next((x for x in decoder if (x.pts or 0) >= time), None)
                except failed:
                    return
                if frame is None or frame.pts != time:
                    return
                reached = time
                yield number, self._picture(frame)

    def _in_order(self, numbers: Sequence[int]) -> Iterator[tuple[int, Image.Image]]:
        """Decodes from the beginning; corrects `count` if the file ends early."""
        wanted, decoded = set(numbers), 0
        with self._opened() as (container, stream):
            for number, frame in enumerate(container.decode(stream)):
                decoded = number + 1
                if number in wanted:
                    yield number, self._picture(frame)
                    if number == numbers[-1]:
                        return
        self.count = decoded

    def _picture(self, frame: Any) -> Image.Image:
        check_pixels(frame.width, frame.height, self.name, *self.limits)
        picture: Image.Image = frame.to_image()
        turn = frame.rotation % 360  # of a phone held upright; counter-clockwise
        return picture.rotate(turn, expand=True) if turn else picture

    @contextlib.contextmanager
    def _opened(self) -> Iterator[tuple[Any, Any]]:
        """Opens the file; whatever goes wrong inside comes out as a VideoError."""
        av = _pyav()
        with image_file._stream(self.source, self.name) as file:
            try:
                options = {"format_whitelist": CONTAINERS}
                with av.open(file, options=options) as container:
                    stream = container.streams.best("video")
                    if stream is None:
                        raise VideoError(self.name, NO_FRAMES, "It holds no video.")
                    size = stream.codec_context.width, stream.codec_context.height
                    check_pixels(*size, self.name, *self.limits)
                    yield container, stream
            except (av.error.FFmpegError, MemoryError) as error:
                raise damaged(self.name, error) from error


def check_pixels(
    width: int, height: int, name: str, max_pixels: int, max_side: int
) -> None:
    """Raises VideoError if frames are too large."""
    for value, limit, argument, unit in (
        (width * height, max_pixels, "max_pixels", "pixels"),
        (max(width, height), max_side, "max_side", "pixels along a side"),
    ):
        if value > limit:
            raise VideoError(
                name,
                image_file.TOO_LARGE,
                f"Its frames are {width} x {height}: {value:,} {unit}; expected at "
                f"most {limit:,}. Scale it down, or raise `{argument}` if you "
                "trust it.",
            )


def damaged(name: str, error: Exception) -> VideoError:
    """Returns the error for a file that no decoder reads."""
    return VideoError(
        name,
        DAMAGED,
        f"The decoder says: {image_file._describe(error)}. Expected a complete video "
        f"({CONTAINERS}) or a GIF, WebP or PNG: copy it again, or re-encode it as MP4.",
    )


def _open_file(
    source: Path | bytes,
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
        raise VideoError(name, image_file.EMPTY, "It has no bytes: copy it again.")
    if _PICTURE.match(beginning):
        return AnimationFrames(source, name, max_pixels, formats, max_side)
    return VideoFileFrames(source, name, max_pixels, max_frames, max_side)


def _frame_files(folder: Path) -> list[Path]:
    """Lists the pictures of a folder, `frame2` before `frame10`."""

    def order(path: Path) -> list[tuple[int, str]]:
        pieces = re.split(r"(\d+)", path.name)
        return [
            (int(piece), "") if i % 2 else (-1, piece) for i, piece in enumerate(pieces)
        ]

    return sorted(list_files(folder), key=order)


def _transparent(picture: Image.Image) -> bool:
    return picture.mode in ("RGBA", "LA") or "transparency" in picture.info


def _pyav() -> Any:
    try:
        import av
    except ImportError as error:
        raise ImportError(
            'Video files are read with PyAV: pip install "keras-pe[video]". Animated '
            "GIF and WebP, folders of frames and arrays work without."
        ) from error
    return av
