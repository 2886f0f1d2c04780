"""The frames of one video, wherever they are: in memory, images, files."""

import os
import re
from collections.abc import Collection, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from keras_pe.preprocessing import image_decoding
from keras_pe.preprocessing.frame_choice import Timeline
from keras_pe.preprocessing.given_images import (
    check_distinct,
    file_content,
    is_file,
    to_array,
)
from keras_pe.preprocessing.image_errors import (
    BAD_TYPE,
    EMPTY,
    NO_FRAMES,
    UNREADABLE,
    ImageError,
    VideoError,
    check_count,
    check_pixels,
    damaged,
    described,
)
from keras_pe.preprocessing.image_modes import (
    check_unit,
    eight_bits,
    has_alpha,
    is_wide,
)
from keras_pe.preprocessing.media_folders import list_files
from keras_pe.preprocessing.time_limit import TimedFile, TimeLimit
from keras_pe.preprocessing.video_file import VideoFileFrames

# How the files begin that Pillow reads, animated or not.
_IMAGE = re.compile(rb"GIF8|\x89PNG|\xff\xd8|RIFF....WEBP", re.DOTALL)
# Milliseconds of a frame of which an animation does not say how long it is shown, as
# in browsers.
_UNTIMED = 100


class Frames(Protocol):
    """The frames of one video.

    Attributes:
        count: how many there are. A file may declare more than it holds, which
            `read` notices and corrects.
    """

    count: int

    def read(self, numbers: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Yields (number, frame) for ascending numbers, as far as there are any."""

    def timeline(self) -> Timeline | None:
        """Returns when each frame is shown; None of frames that nobody has timed."""


def open_frames(
    video: Any,
    name: str,
    max_pixels: int,
    max_frames: int,
    formats: Collection[str] = image_decoding.DEFAULT_FORMATS,
    max_side: int = image_decoding.DEFAULT_MAX_SIDE,
    limit: TimeLimit | None = None,
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
        limit: how long it may take; None for ever.

    Returns:
        Its `Frames`.

    Raises:
        ImageError: if it is missing, too large or no video.
        ImportError: if it needs PyAV, which is not installed.

    Example:
        >>> import numpy as np
        >>> frames = open_frames(np.zeros((3, 4, 4, 3), "uint8"), "clip", 16, 10)
        >>> [number for number, frame in frames.read([0, 2])]
        [0, 2]
    """
    frames: Frames
    limits = max_pixels, max_frames, formats, max_side, limit or TimeLimit(name)
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
            BAD_TYPE,
            f"A {type(video).__name__}{f' of shape {shape}' if shape else ''}; "
            "expected a path, bytes, an open file, a folder, an array (frames, height, "
            f"width, 3) or a list of frames.{hint}",
        )
    if frames.count < 1:
        raise VideoError(
            name,
            NO_FRAMES,
            "Nothing in it is ever shown; expected at least one frame or image: copy "
            "it again, or leave it out.",
        )
    check_count(frames.count, name, max_frames)
    return frames


class ListedFrames:
    """Frames in memory, or images in files: each opened by whoever uses it."""

    def __init__(self, frames: Any) -> None:
        self.frames = frames
        self.count = len(frames)

    def read(self, numbers: Sequence[int]) -> Iterator[tuple[int, Any]]:
        for number in numbers:
            yield number, self.frames[number]

    def timeline(self) -> None:
        return None


class AnimationFrames:
    """Frames of a GIF, WebP or PNG. A still image has one."""

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes,
        name: str,
        max_pixels: int,
        formats: Collection[str],
        max_side: int = image_decoding.DEFAULT_MAX_SIDE,
        limit: TimeLimit | None = None,
    ) -> None:
        self.source, self.name, self.formats = source, name, formats
        self.limits = max_pixels, max_side
        self.limit = limit or TimeLimit(name)
        with image_decoding.open_stream(source, name) as stream:
            image = self._header(stream)
            try:
                # More images behind a photo (MPO) are other views, no frames.
                still = image.format == "MPO"
                self.count = 1 if still else int(getattr(image, "n_frames", 1))
                self.first = int(image_decoding.hides_first_frame(image))
            except ImageError:  # the time is over
                raise
            except Exception as error:  # decoders raise nearly anything
                raise damaged(name, error) from error
        self.count -= self.first

    def read(self, numbers: Sequence[int]) -> Iterator[tuple[int, Any]]:
        with image_decoding.open_stream(self.source, self.name) as stream:
            image = self._header(stream)
            for number in numbers:
                self.limit.check()
                try:
                    if self.count + self.first > 1:
                        image.seek(number + self.first)
                    # A copy: the next frame may be drawn upon this one.
                    image.load()
                    frame = image.copy()
                    if is_wide(image):
                        frame = eight_bits(image)
                    elif frame.mode == "P":
                        frame = frame.convert("RGBA" if has_alpha(frame) else "RGB")
                except ImageError:
                    raise
                except Exception as error:
                    raise damaged(self.name, error) from error
                yield number, frame

    def timeline(self) -> Timeline:
        """Returns when each frame is shown; that takes a look at every frame."""
        times = [0]
        with image_decoding.open_stream(self.source, self.name) as stream:
            image = self._header(stream)
            for number in range(self.count):
                self.limit.check()
                try:
                    if self.count + self.first > 1:
                        image.seek(number + self.first)
                    image.load()  # WebP says it with the pixels
                    shown = round(float(image.info.get("duration", 0)))
                except ImageError:
                    raise
                except Exception as error:
                    raise damaged(self.name, error) from error
                times.append(times[-1] + (shown if shown > 0 else _UNTIMED))
        return Timeline(times[:-1], times[-1], Fraction(1, 1000))

    def _header(self, stream: Any) -> Image.Image:
        timed: Any = TimedFile(stream, self.limit)
        image = image_decoding.read_header(timed, self.name, self.formats)
        check_pixels(*image.size, self.name, *self.limits)
        return image


def _open_file(
    source: str | os.PathLike[str] | bytes,
    name: str,
    max_pixels: int,
    max_frames: int,
    formats: Collection[str],
    max_side: int,
    limit: TimeLimit,
) -> Frames:
    """The content decides who decodes a file, not its name."""
    with image_decoding.open_stream(source, name) as stream:
        beginning = stream.read(16)
    if not beginning:
        raise VideoError(name, EMPTY, "It has no bytes: copy it again.")
    if _IMAGE.match(beginning):
        return AnimationFrames(source, name, max_pixels, formats, max_side, limit)
    return VideoFileFrames(source, name, max_pixels, max_frames, max_side, limit)


def _path_of(video: str | os.PathLike, name: str) -> str | bytes:
    try:
        return os.fspath(video)
    except Exception as error:
        raise VideoError(name, UNREADABLE, f"{described(error)}.") from error


def _frame_files(folder: Path, name: str) -> list[Path]:
    """Lists the images of a folder, `frame2` before `frame10`."""

    def order(path: Path) -> list[tuple[int, str]]:
        pieces = re.split(r"(\d+)", path.name)
        return [
            (int(piece), "") if i % 2 else (-1, piece) for i, piece in enumerate(pieces)
        ]

    try:
        return sorted(list_files(folder), key=order)
    except OSError as error:
        raise VideoError(name, UNREADABLE, f"{described(error)}.") from error
