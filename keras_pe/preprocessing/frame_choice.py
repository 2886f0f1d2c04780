"""Which frames of a video are taken: by their number, or by when they are shown."""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from keras_pe.arrays import is_number
from keras_pe.preprocessing.image_errors import NO_FRAMES, NO_TIMES, VideoError

FRAME_RULES = ("benchmark", "notebook", "time")


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
            `"time"` is the middles of n equal parts, `int((i + 1/2) * T / n)`, if each
            frame is shown equally long; of a file, the converter goes by its time
            stamps.

    Returns:
        `num_frames` positions, ascending.

    Raises:
        ValueError: for no frames, numbers that are not whole, or another rule.

    Source: `video_retrieval_dataset.py` and `pe_demo.ipynb` of
    https://github.com/facebookresearch/perception_models.

    Example:
        >>> frame_indices(100, 4), frame_indices(100, 4, rule="notebook")
        ([0, 33, 66, 99], [0, 25, 50, 75])
        >>> frame_indices(100, 4, rule="time")
        [12, 37, 62, 87]
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
    if rule == "time":
        return [(2 * i + 1) * total // (2 * count) for i in range(count)]
    if rule == "notebook":
        return [int(i * (total / count)) for i in range(count)]
    if count == 1:
        return [total // 2]
    return [i * (total - 1) // (count - 1) for i in range(count)]


@dataclass(frozen=True)
class Timeline:
    """When the frames of a video are shown.

    Args:
        times: when each frame comes, ascending, in units of the file.
        end: when the last one goes.
        unit: seconds of a unit.

    Example:
        >>> Timeline([0, 40, 120], end=160, unit=Fraction(1, 1000)).seconds
        0.16
    """

    times: Sequence[int]
    end: int
    unit: Fraction

    @property
    def seconds(self) -> float:
        """How long the video is, from its first frame on."""
        return float((self.end - self.times[0]) * self.unit)

    def shown_at(self, time: Fraction | int) -> int:
        """Returns the number of the frame that is seen at a time, in units."""
        return max(bisect.bisect_right(self.times, time) - 1, 0)

    def cut(self, count: int) -> "Timeline":
        """Returns the timeline of the first frames."""
        if count >= len(self.times):
            return self
        return Timeline(self.times[:count], self.times[count], self.unit)


@dataclass(frozen=True)
class FrameChoice:
    """Which frames are taken of each video.

    Args:
        num_frames: how many.
        rule: see `frame_indices`.
        start: seconds from the first frame at which the clip begins.
        end: seconds at which it ends; None for the end of the video.

    Raises:
        ValueError: if these are no times, or another rule.

    Example:
        >>> timeline = Timeline([0, 10, 20, 90], end=100, unit=Fraction(1, 100))
        >>> FrameChoice(2, "time").numbers(4, timeline, "clip.mp4")    # at 25 and 75
        [2, 2]
        >>> FrameChoice(2, start=0.5).numbers(4, timeline, "clip.mp4")
        [3, 3]
    """

    num_frames: int
    rule: str = "benchmark"
    start: float = 0.0
    end: float | None = None

    def __post_init__(self) -> None:
        if self.rule not in FRAME_RULES:
            raise ValueError(
                f"frame_rule={self.rule!r}: expected one of {FRAME_RULES}."
            )
        for argument, value in (("start", self.start), ("end", self.end)):
            if value is None:
                continue
            if not is_number(value) or value < 0:
                raise ValueError(
                    f"{argument}={value!r}: expected seconds from the first frame on."
                )
            if isinstance(value, np.generic):  # which JSON does not know
                object.__setattr__(self, argument, value.item())
        if self.start is None or (self.end is not None and self.end <= self.start):
            raise ValueError(
                f"start={self.start!r}, end={self.end!r}: expected a start, and an end "
                "after it (None for the end of the video)."
            )

    @property
    def needs_times(self) -> bool:
        """Whether when frames are shown makes a difference."""
        return self.rule == "time" or self.is_clip

    @property
    def is_clip(self) -> bool:
        """Whether only a part of the video counts."""
        return self.start > 0 or self.end is not None

    def numbers(self, count: int, timeline: Timeline | None, name: str) -> list[int]:
        """Chooses the frames of one video.

        Args:
            count: frames that it has.
            timeline: when they are shown; None if nobody knows, as of frames in memory,
                which count as shown equally long.
            name: of the video, for errors.

        Returns:
            `num_frames` numbers, ascending.

        Raises:
            VideoError: if a clip is asked for and there are no times, or it begins
                after the end.
        """
        if not self.needs_times or (timeline is None and not self.is_clip):
            return frame_indices(count, self.num_frames, self.rule)
        if timeline is None:
            raise VideoError(
                name,
                NO_TIMES,
                f"start={self.start:g} and end={self.end} are seconds, and frames in "
                "memory or in a folder have none: cut them yourself.",
            )
        timeline = timeline.cut(count)
        first = timeline.times[0]
        start, end = (
            first + _exact(self.start) / timeline.unit,
            Fraction(timeline.end),
        )
        if self.end is not None:
            end = min(end, first + _exact(self.end) / timeline.unit)
        if start >= end:
            raise VideoError(
                name,
                NO_FRAMES,
                f"The clip begins at {self.start:g} s, and the video ends at "
                f"{timeline.seconds:.3f} s.",
            )
        if self.rule == "time":
            n = 2 * self.num_frames
            instants = (
                start + (end - start) * Fraction(2 * i + 1, n)
                for i in range(self.num_frames)
            )
            return [timeline.shown_at(instant) for instant in instants]
        low = bisect.bisect_left(timeline.times, start)
        high = bisect.bisect_left(timeline.times, end)
        if low == high:  # none comes within: the one that is still shown
            low, high = low - 1, low
        chosen = frame_indices(high - low, self.num_frames, self.rule)
        return [low + number for number in chosen]


def _exact(seconds: float) -> Fraction:
    """Returns 1/5 for 0.2, which as a float is a little more.

    Else a clip from 0.2 s on would begin behind the frame that comes at 0.2 s.
    """
    return Fraction(seconds).limit_denominator(10**9)
