"""Videos to the arrays that the vision tower reads: a few frames of each."""

import contextlib
import functools
import os
from collections import Counter
from collections.abc import (
    Collection,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
    Set,
)
from typing import Any, Self

import keras
import numpy as np
from PIL import Image

from keras_pe.arrays import check_sizes
from keras_pe.preprocessing import image_decoding
from keras_pe.preprocessing.converter_configs import Converter, check_changes
from keras_pe.preprocessing.frame_choice import FrameChoice
from keras_pe.preprocessing.given_images import (
    image_name,
    is_file,
    listed,
    to_array,
)
from keras_pe.preprocessing.image import PEImageConverter
from keras_pe.preprocessing.image_errors import (
    DAMAGED_VIDEO,
    DEFAULT_MAX_FRAMES,
    SkipReport,
    VideoError,
)
from keras_pe.preprocessing.time_limit import TimeLimit, check_max_seconds
from keras_pe.preprocessing.video_source import open_frames
from keras_pe.preprocessing.video_workers import (
    Result,
    check_workers,
    convert_in_processes,
)
from keras_pe.presets.from_preset import load_video_converter
from keras_pe.presets.save_part import save_part


@keras.saving.register_keras_serializable("keras_pe")
class PEVideoConverter(Converter):
    """Turns videos of any kind into float32 arrays in [-1, 1].

    A video is the path or bytes of a video file (read with PyAV: `pip install
    "keras-pe[video]"`) or of an animated GIF, WebP or PNG; a folder of frame
    images, taken in the order of the numbers in their names; an array (frames,
    height, width, 3) of uint8, or floats in [0, 1]; or a list of frames, each
    anything a `PEImageConverter` takes. Only the frames that are needed are kept,
    and sizes are checked before anything is decoded.

    Frames are turned and mirrored as the file says, colours follow its matrix and
    range (BT.601 if it says none), animations are composed, what an edit list cuts off
    or an animated PNG hides is left out. Frames are counted, not timed (but by
    `frame_rule="time"`, `start` and `end`): uneven steps and a late start change
    nothing. Pixels are taken as square, and cropping that only
    the container (not the codec) asks for is left to players, as in the reference.

    Args:
        image_size: side of the output in pixels, or (height, width).
        num_frames: frames to take of each video. Perception Encoder uses 8.
        frame_rule: which frames: `"benchmark"` or `"notebook"`, see
            `frame_indices`; or `"time"`, the frames that are seen at `num_frames`
            instants, each in the middle of an equal part of the duration, which differs
            where frames are shown unequally long. Frames in memory count as equally
            long.
        resize_mode: `"squash"` or `"center_crop"`.
        interpolation: as of `PEImageConverter`.
        mean: subtracted per RGB channel, after scaling pixels to [0, 1].
        std: divided by, per RGB channel. The defaults give [-1, 1].
        max_pixels: width times height of a frame above which a video is refused.
        max_side: width or height of a frame above which it is refused.
        formats: Pillow's names of the formats of frame images and animations.
        background: RGB colour (0-255) to lay transparent frames on. `None` drops the
            alpha channel.
        max_frames: frames above which a video is refused before it is decoded.
        on_error: `"raise"` stops at the first bad video, `"skip"` leaves it out of
            the result, with a warning; `last_report` says which.
        start: seconds from the first frame at which the clip begins that is taken of
            each video; see also `convert`.
        end: seconds at which it ends; None, or more than there is, for the end.
        max_seconds: on the clock after which a video is refused that is not done, with
            the reason "over the time limit". None sets no limit, so that what is read
            does not depend on how busy the machine is; `max_frames` does.

    Example:
        >>> clip = np.zeros((30, 48, 64, 3), "uint8")
        >>> PEVideoConverter(image_size=32, num_frames=8)(clip).shape
        (1, 8, 32, 32, 3)
    """

    def __init__(
        self,
        image_size: int | Sequence[int] = 224,
        num_frames: int = 8,
        frame_rule: str = "benchmark",
        resize_mode: str = "squash",
        interpolation: str = "bilinear",
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
        max_pixels: int = image_decoding.DEFAULT_MAX_PIXELS,
        formats: Collection[str] = image_decoding.DEFAULT_FORMATS,
        background: Sequence[int] | None = None,
        max_frames: int = DEFAULT_MAX_FRAMES,
        on_error: str = "raise",
        max_side: int = image_decoding.DEFAULT_MAX_SIDE,
        start: float = 0.0,
        end: float | None = None,
        max_seconds: float | None = None,
    ) -> None:
        self.image_converter = PEImageConverter(
            image_size=image_size,
            resize_mode=resize_mode,
            interpolation=interpolation,
            mean=mean,
            std=std,
            max_pixels=max_pixels,
            formats=formats,
            background=background,
            on_error=on_error,
            max_side=max_side,
        )
        for argument, value in (("num_frames", num_frames), ("max_frames", max_frames)):
            whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
            if not whole or value < 1:
                raise ValueError(f"{argument}={value!r}: expected a positive integer.")
        check_max_seconds(max_seconds)
        self.choice = FrameChoice(int(num_frames), frame_rule, start, end)
        self.num_frames = int(num_frames)
        self.max_frames = int(max_frames)
        self.frame_rule = frame_rule
        self.start, self.end = self.choice.start, self.choice.end
        self.max_seconds = None if max_seconds is None else float(max_seconds)
        self.on_error = on_error
        self.last_report = SkipReport()

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the output, in pixels."""
        return self.image_converter.image_size

    def __call__(
        self, videos: Any, *, workers: int = 0, progress: bool = False
    ) -> np.ndarray:
        """Converts one video or many.

        Args:
            videos: one video or a sequence of them. PIL images or arrays (height,
                width, channels) in a list, or from an iterator, are one video; paths,
                lists or arrays with a frame axis are several.
            workers: processes that decode files, each one at a time; 0 decodes here.
                The result is the same. A script needs `if __name__ == "__main__":`.
            progress: whether a progress bar is shown.

        Returns:
            float32 array (videos, num_frames, height, width, 3).

        Raises:
            ImageError: naming the first video that cannot be used (a
                `VideoError`) or its bad frame, if `on_error="raise"`.
            ImportError: if a video file needs PyAV, which is not installed.
            ValueError: if `workers` is no such number.
            RuntimeError: if a process that decodes was killed.

        Example:
            >>> frames = [Image.new("L", (8, 8), i) for i in range(4)]
            >>> PEVideoConverter(8, num_frames=2)([frames, frames]).shape
            (2, 2, 8, 8, 3)
        """
        check_workers(workers)
        listed = as_videos(videos)
        items = [(v, image_name(v, index, "video")) for index, v in enumerate(listed)]
        workers = min(workers, len(items))
        results: Generator[Result, None, None]
        if workers:
            results = convert_in_processes(self, items, workers)
        else:
            results = (functools.partial(self.convert, *item) for item in items)
        with contextlib.closing(results):
            bar = keras.utils.Progbar(len(items), unit_name="video")
            rows = self._gather(_shown(results, bar) if progress else results)
        if not rows:
            return np.zeros((0, self.num_frames, *self.image_size, 3), "float32")
        return np.stack(rows)

    def convert(
        self,
        video: Any,
        name: str | None = None,
        *,
        start: float | None = None,
        end: float | None = None,
    ) -> np.ndarray:
        """Converts exactly one video, or a clip of it.

        Args:
            video: see the class.
            name: what to call it in an error; by default its path or kind.
            start: seconds at which the clip begins; None takes the converter's.
            end: seconds at which it ends; None takes the converter's.

        Returns:
            float32 array (num_frames, height, width, 3).

        Raises:
            ImageError: if it cannot be used, whatever `on_error` says.
            ImportError: if a video file needs PyAV, which is not installed.
            ValueError: if the end is not after the start.

        Example:
            >>> frames = [Image.new("L", (8, 8), 30 * i) for i in range(4)]
            >>> frames[0].save("a.gif", save_all=True, append_images=frames[1:],
            ...     duration=500)
            >>> clip = PEVideoConverter(8, num_frames=1).convert("a.gif", start=1.5)
            >>> round((float(clip.mean()) + 1) * 127.5)    # the last one
            90
        """
        result = np.empty((self.num_frames, *self.image_size, 3), "float32")
        for place, some in self.convert_parts(video, 16, name, start=start, end=end):
            result[place : place + len(some)] = some
        return result

    def convert_parts(
        self,
        video: Any,
        part_size: int,
        name: str | None = None,
        *,
        start: float | None = None,
        end: float | None = None,
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Converts one video a few frames at a time, so that memory stays small.

        Args:
            video: see the class.
            part_size: frames at a time.
            name: as of `convert`.
            start: as there.
            end: as there.

        Yields:
            The place of the first frame, from 0 to `num_frames` - 1, and float32
            (up to `part_size`, height, width, 3). Place 0 comes again if a file turns
            out to hold fewer frames than it declares: what came before is then void.

        Raises:
            ImageError, ImportError, ValueError: as `convert`.

        Example:
            >>> converter = PEVideoConverter(8, num_frames=5)
            >>> clip = np.zeros((9, 8, 8, 3), "uint8")
            >>> [(i, len(some)) for i, some in converter.convert_parts(clip, 2)]
            [(0, 2), (2, 2), (4, 1)]
        """
        check_sizes(part_size=part_size)
        name = image_name(video, None, "video") if name is None else name
        images = self.image_converter
        choice, limit = self._choice(start, end), TimeLimit(name, self.max_seconds)
        limits = images.max_pixels, self.max_frames, images.formats, images.max_side
        frames = open_frames(video, name, *limits, limit)
        timeline = frames.timeline() if choice.needs_times else None
        for _ in range(2):  # again if the file holds fewer frames than it declares
            if frames.count < 1:
                break
            numbers = choice.numbers(frames.count, timeline, name)
            place, some = 0, []
            times = Counter(numbers)
            for number, frame in frames.read(sorted(set(numbers))):
                image = images.convert(frame, f"{name}, frame {number}")
                limit.check()
                for _ in range(times[number]):
                    some.append(image)
                    if len(some) == part_size:
                        yield place, np.stack(some)
                        place, some = place + len(some), []
            if some:
                yield place, np.stack(some)
            if place + len(some) == len(numbers):
                return
        raise VideoError(
            name, DAMAGED_VIDEO, "It ends early; copy it again or re-encode it."
        )

    def _choice(self, start: float | None, end: float | None) -> FrameChoice:
        if start is None and end is None:
            return self.choice
        return FrameChoice(
            self.num_frames,
            self.frame_rule,
            self.start if start is None else start,
            self.end if end is None else end,
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, ready for JSON."""
        return {
            **self.image_converter.get_config(),
            "num_frames": self.num_frames,
            "frame_rule": self.frame_rule,
            "max_frames": self.max_frames,
            "start": self.start,
            "end": self.end,
            "max_seconds": self.max_seconds,
        }

    @classmethod
    def from_preset(cls, preset: str | os.PathLike[str], **changes: Any) -> Self:
        """Builds the video converter of a preset.

        One that was not saved with any prepares frames as it prepares images. As of
        images, a preset may narrow formats and limits, never widen them, and does not
        decide `on_error`.

        Args:
            preset: name, alias, directory, `hf://owner/repo[@revision]` or
                `kaggle://...`.
            changes: arguments of this class that are to differ.

        Returns:
            The converter, for the preset's image size.

        Raises:
            CheckpointError: if there is no such preset, or it has no converter.
            TypeError: if there is no such argument.

        Example:
            >>> PEVideoConverter.from_preset("PE-Core-L14-336").image_size
            (336, 336)
        """
        check_changes(cls, changes)
        converter: Self = load_video_converter(cls, PEImageConverter, preset)
        return cls(**{**converter.get_config(), **changes}) if changes else converter

    def save_to_preset(self, directory: str | os.PathLike[str]) -> None:
        """Writes this into a preset, whose rest stays, or a new one of its own.

        Args:
            directory: of a preset, or a new one.

        Raises:
            CheckpointError: if the directory holds something else.

        Example:
            >>> PEVideoConverter(32, num_frames=16).save_to_preset("clips")
            >>> PEVideoConverter.from_preset("clips").num_frames
            16
        """
        save_part(self, directory)


def as_videos(videos: Any) -> Sequence[Any]:
    """Lists the videos of a call: one video becomes a list of one."""
    one = str | os.PathLike | bytes | bytearray | memoryview
    if isinstance(videos, one) or is_file(videos):
        return [videos]
    if hasattr(videos, "__array__") and not isinstance(videos, Image.Image):
        array = to_array(videos, image_name(videos, None, "video"))
        if array.dtype.kind in "UOT" and array.ndim <= 1:  # an array of paths
            return as_videos(array.ravel().tolist())
        return list(array) if array.ndim == 5 else [array]
    # Neither has an order in which rows could be told apart.
    unordered = isinstance(videos, Mapping | Set)
    if isinstance(videos, Iterable) and not unordered | isinstance(videos, Image.Image):
        items = videos if isinstance(videos, list | tuple) else listed(videos)
        return [items] if items and all(map(is_frame, items)) else items
    return [videos]  # which `convert` refuses, saying what it is


def _shown(results: Iterable[Result], bar: keras.utils.Progbar) -> Iterator[Result]:
    for result in results:
        yield result
        bar.add(1)


def is_frame(item: Any) -> bool:
    """Returns whether this is one image, not a video of several."""
    return isinstance(item, Image.Image) or 2 <= getattr(item, "ndim", 0) <= 3
