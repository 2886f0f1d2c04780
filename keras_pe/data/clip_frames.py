"""What training does to a clip: a few of its frames, all varied alike."""

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from keras_pe.arrays import check_sizes
from keras_pe.data.sample_errors import SampleError
from keras_pe.data.shard_files import Sample
from keras_pe.preprocessing import image_decoding
from keras_pe.preprocessing.frame_choice import FrameChoice
from keras_pe.preprocessing.image_errors import (
    DAMAGED_VIDEO,
    DEFAULT_MAX_FRAMES,
    VideoError,
)
from keras_pe.preprocessing.video_source import Frames, open_frames

NO_CLIP = "no clip"
# In the order in which a sample's clip is looked for; animations last, as a still
# image may lie beside a video.
CLIP_EXTENSIONS = (
    *("mp4", "m4v", "mov", "webm", "mkv", "avi", "mpg", "mpeg", "ts", "flv", "ogv"),
    *("gif", "webp", "apng", "png"),
)


class ClipFrames:
    """Makes an array of a clip: frames spread evenly over it, each varied alike.

    A function of the clip and the generator alone: what a transform draws for one frame
    it draws for all of them, so that a crop or a mirror does not jump.

    Args:
        transform: of one frame, such as `TrainAugmentation`.
        num_frames: frames of a clip; some come twice where there are fewer.
        frame_rule: which, as of `PEVideoConverter`.

    Source: Perception Encoder, section 2.4 and table 19: eight frames, augmented as
    images are.

    Example:
        >>> from keras_pe.data import TrainAugmentation
        >>> make = ClipFrames(TrainAugmentation(32), num_frames=4)
        >>> frames = np.zeros((9, 40, 50, 3), "uint8")
        >>> make.of_frames(open_frames(frames, "clip", 10**4, 10), "clip",
        ...                np.random.default_rng(0)).shape
        (4, 32, 32, 3)
    """

    reads_clip = True  # `ImageTextDataset` hands over the sample, no image

    def __init__(
        self,
        transform: Callable[[Image.Image, np.random.Generator], np.ndarray],
        num_frames: int = 8,
        frame_rule: str = "benchmark",
    ) -> None:
        check_sizes(num_frames=num_frames)
        self.transform = transform
        self.choice = FrameChoice(num_frames, frame_rule)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> np.ndarray:
        """Returns `(num_frames, height, width, 3)` of a sample's clip.

        Raises:
            SampleError: if it has none.
            ImageError: if it can't be read.
        """
        ending = next((name for name in CLIP_EXTENSIONS if name in sample), None)
        if ending is None:
            raise SampleError(
                NO_CLIP,
                f"Its files are {sorted(x for x in sample if x[:2] != '__')}; expected "
                f"one of {CLIP_EXTENSIONS}.",
            )
        opened = open_frames(
            bytes(sample[ending]),
            ending,
            image_decoding.DEFAULT_MAX_PIXELS,
            DEFAULT_MAX_FRAMES,
        )
        return self.of_frames(opened, ending, rng)

    def of_frames(
        self, frames: Frames, name: str, rng: np.random.Generator
    ) -> np.ndarray:
        """Returns `(num_frames, height, width, 3)` of an opened clip.

        Raises:
            VideoError: if it holds fewer frames than it says, twice.
        """
        seed = int(rng.integers(1 << 63))
        timeline = frames.timeline() if self.choice.needs_times else None
        for _ in range(2):  # again if the file holds fewer frames than it declares
            wanted = self.choice.numbers(frames.count, timeline, name)
            found: dict[int, np.ndarray] = {}
            for number, frame in frames.read(sorted(set(wanted))):
                drawn = np.random.default_rng(seed)  # anew: the same for each frame
                found[number] = self.transform(_image(frame), drawn)
            if all(number in found for number in wanted):
                return np.stack([found[number] for number in wanted])
            if frames.count < 1:
                break
        raise VideoError(
            name, DAMAGED_VIDEO, "It ends early; copy it again or re-encode it."
        )


def _image(frame: Any) -> Any:
    """Returns a frame as what transforms take: they know images and arrays."""
    return frame if isinstance(frame, Image.Image) else np.asarray(frame)
