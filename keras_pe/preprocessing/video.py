"""Videos to the arrays that the vision tower reads: a few frames of each."""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from typing import Any, Self

import keras
import numpy as np
from PIL import Image

from keras_pe.preprocessing import image_decoding
from keras_pe.preprocessing.converter_configs import Converter, check_changes
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
from keras_pe.preprocessing.video_source import open_frames
from keras_pe.presets.from_preset import load_video_converter
from keras_pe.presets.save_part import save_part

FRAME_RULES = ("benchmark", "notebook")


def frame_indices(
    num_frames_of_video: int, num_frames: int, rule: str = "benchmark"
) -> list[int]:
    """Chooses frames spread evenly over a video.

    Args:
        num_frames_of_video: frames that there are, T.
        num_frames: frames to take, n; some come twice if there are fewer.
        rule: `"benchmark"` is `int(i * (T - 1) / (n - 1))`, first and last frame
            included (of one frame, the middle one), what published numbers use;
            `"notebook"` is `int(i * (T / n))`, the starts of n equal parts. It is
            rounded as there: some counts, such as 14 of 122, give a frame less.

    Returns:
        `num_frames` positions, ascending.

    Raises:
        ValueError: for no frames, numbers that are not whole, or another rule.

    Source: `video_retrieval_dataset.py` and `pe_demo.ipynb` of
    https://github.com/facebookresearch/perception_models.

    Example:
        >>> frame_indices(100, 4), frame_indices(100, 4, rule="notebook")
        ([0, 33, 66, 99], [0, 25, 50, 75])
    """
    if rule not in FRAME_RULES:
        raise ValueError(f"rule={rule!r}: expected one of {FRAME_RULES}.")
    for value in (num_frames_of_video, num_frames):
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise ValueError(f"{value!r} frames: expected a whole number.")
    total, count = int(num_frames_of_video), int(num_frames)
    if total < 1 or count < 1:
        raise ValueError(
            f"{num_frames} of {num_frames_of_video} frames: expected at least one each."
        )
    if rule == "notebook":
        return [int(i * (total / count)) for i in range(count)]
    if count == 1:
        return [total // 2]
    return [i * (total - 1) // (count - 1) for i in range(count)]


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
    or an animated PNG hides is left out. Frames are counted, not timed: uneven steps
    and a late start change nothing. Pixels are taken as square, and cropping that only
    the container (not the codec) asks for is left to players, as in the reference.

    Args:
        image_size: side of the output in pixels, or (height, width).
        num_frames: frames to take of each video. Perception Encoder uses 8.
        frame_rule: which frames: `"benchmark"` or `"notebook"`, see
            `frame_indices`.
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
        if frame_rule not in FRAME_RULES:
            raise ValueError(
                f"frame_rule={frame_rule!r}: expected one of {FRAME_RULES}."
            )
        self.num_frames = int(num_frames)
        self.max_frames = int(max_frames)
        self.frame_rule = frame_rule
        self.on_error = on_error
        self.last_report = SkipReport()

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the output, in pixels."""
        return self.image_converter.image_size

    def __call__(self, videos: Any) -> np.ndarray:
        """Converts one video or many.

        Args:
            videos: one video or a sequence of them. PIL images or arrays (height,
                width, channels) in a list, or from an iterator, are one video; paths,
                lists or arrays with a frame axis are several.

        Returns:
            float32 array (videos, num_frames, height, width, 3).

        Raises:
            ImageError: naming the first video that cannot be used (a
                `VideoError`) or its bad frame, if `on_error="raise"`.
            ImportError: if a video file needs PyAV, which is not installed.

        Example:
            >>> frames = [Image.new("L", (8, 8), i) for i in range(4)]
            >>> PEVideoConverter(8, num_frames=2)([frames, frames]).shape
            (2, 2, 8, 8, 3)
        """
        rows = self._convert_all(
            (video, image_name(video, index, "video"))
            for index, video in enumerate(as_videos(videos))
        )
        if not rows:
            return np.zeros((0, self.num_frames, *self.image_size, 3), "float32")
        return np.stack(rows)

    def convert(self, video: Any, name: str | None = None) -> np.ndarray:
        """Converts exactly one video.

        Args:
            video: see the class.
            name: what to call it in an error; by default its path or kind.

        Returns:
            float32 array (num_frames, height, width, 3).

        Raises:
            ImageError: if it cannot be used, whatever `on_error` says.
            ImportError: if a video file needs PyAV, which is not installed.
        """
        name = image_name(video, None, "video") if name is None else name
        images = self.image_converter
        frames = open_frames(
            video,
            name,
            images.max_pixels,
            self.max_frames,
            images.formats,
            images.max_side,
        )
        for _ in range(2):  # again if the file holds fewer frames than it declares
            if frames.count < 1:
                break
            numbers = frame_indices(frames.count, self.num_frames, self.frame_rule)
            found = {
                number: images.convert(frame, f"{name}, frame {number}")
                for number, frame in frames.read(sorted(set(numbers)))
            }
            if all(number in found for number in numbers):
                return np.stack([found[number] for number in numbers])
        raise VideoError(
            name, DAMAGED_VIDEO, "It ends early; copy it again or re-encode it."
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, ready for JSON."""
        return {
            **self.image_converter.get_config(),
            "num_frames": self.num_frames,
            "frame_rule": self.frame_rule,
            "max_frames": self.max_frames,
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
        return [items] if items and all(map(_is_frame, items)) else items
    return [videos]  # which `convert` refuses, saying what it is


def _is_frame(item: Any) -> bool:
    return isinstance(item, Image.Image) or 2 <= getattr(item, "ndim", 0) <= 3
