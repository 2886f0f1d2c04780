"""Images and videos of a data set to embeddings, once for each resize mode."""

import dataclasses
import functools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_pe.arrays import check_finite
from keras_pe.models.core import FrameAverage, PECore
from keras_pe.models.embedding import embed_in_batches
from keras_pe.preprocessing.batches import load_batches
from keras_pe.preprocessing.frame_choice import frame_indices
from keras_pe.preprocessing.image import RESIZE_MODES, PEImageConverter
from keras_pe.preprocessing.image_errors import SkipReport
from keras_pe.preprocessing.tokenizer import PETokenizer
from keras_pe.preprocessing.video import PEVideoConverter


@dataclasses.dataclass(frozen=True)
class VideoProtocol:
    """How a video becomes one embedding.

    Attributes:
        num_frames: frames of each. The paper says 8; upstream's code takes 32 of
            ActivityNet.
        frame_rule: "benchmark", "notebook" or "time", see `frame_indices`.
        frame_average: "raw" averages frame embeddings as they come, "normalized"
            after each got unit length. None: what upstream does in the task, "raw" in
            classification, "normalized" in retrieval.
        unit_length: whether the average gets unit length. None: what upstream does,
            yes in classification, no in retrieval.

    Source: upstream `CLIP.encode_video`, `zeroshot_classification.py` and
    `zeroshot_retrieval.py`.

    Example:
        >>> protocol = VideoProtocol(num_frames=32)    # upstream: of ActivityNet
        >>> protocol.frame_rule
        'benchmark'
    """

    num_frames: int = 8
    frame_rule: str = "benchmark"
    frame_average: FrameAverage | None = None
    unit_length: bool | None = None

    def __post_init__(self) -> None:
        frame_indices(1, self.num_frames, self.frame_rule)  # complains
        if self.frame_average not in (None, "normalized", "raw"):
            raise ValueError(
                f"frame_average={self.frame_average!r}: expected 'normalized', 'raw' "
                "or None, which is what upstream does."
            )

    def for_task(self, average: FrameAverage, unit_length: bool) -> "VideoProtocol":
        """Returns the protocol with a task's own values where it says None."""
        return VideoProtocol(
            self.num_frames,
            self.frame_rule,
            self.frame_average or average,
            unit_length if self.unit_length is None else self.unit_length,
        )


def video_of_task(
    video: Any, average: FrameAverage, unit_length: bool
) -> VideoProtocol | None:
    """Returns `for_task` of a protocol, None for images, or says what is neither."""
    if video is None or video is False:
        return None
    if not isinstance(video, VideoProtocol):
        raise ValueError(
            f"video={video!r:.60}: expected a VideoProtocol, such as "
            f"VideoProtocol(num_frames=8), or None for images."
        )
    return video.for_task(average, unit_length)


class SampleEmbedder:
    """Embeds images, or videos if there is a `VideoProtocol`.

    Args:
        model: makes the embeddings.
        image_converter: how images and frames are prepared, but for the resize
            mode; None makes one of the model's size.
        video: how videos are embedded, complete; None for images.
        batch_size: images or frames a forward pass.
        max_skipped_share: share of unreadable samples that stops the run.
        progress: whether a progress bar is shown.
    """

    def __init__(
        self,
        model: PECore,
        image_converter: PEImageConverter | None = None,
        video: VideoProtocol | None = None,
        batch_size: int = 32,
        max_skipped_share: float = 0.01,
        progress: bool = False,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
        converter = image_converter or PEImageConverter(model.vision_encoder.image_size)
        self.config = converter.get_config()
        self.video = video
        self.max_skipped_share = max_skipped_share
        self.progress = progress
        self.model_name, self.output_dim = model.name, model.output_dim
        self.encode: Any = model.encode_image
        self.batch_size = batch_size
        if video is not None:
            if video.frame_average is None or video.unit_length is None:
                raise ValueError(f"{video} leaves settings open: call for_task first.")
            self.encode = functools.partial(
                model.encode_video,
                normalize=video.unit_length,
                frame_average=video.frame_average,
            )
            self.batch_size = max(1, batch_size // video.num_frames)
            self.config["num_frames"] = video.num_frames
            self.config["frame_rule"] = video.frame_rule

    @property
    def settings(self) -> dict[str, Any]:
        """How samples are prepared, in all resize modes."""
        left_out = ("resize_mode", "on_error")
        return {k: v for k, v in self.config.items() if k not in left_out}

    def embed(
        self, samples: Sequence[Any], resize_mode: str
    ) -> tuple[np.ndarray, np.ndarray, SkipReport]:
        """Embeds all samples that can be read.

        Args:
            samples: what the converter takes, or objects with `filename` and
                `read()`, which gives the bytes of a file.
            resize_mode: "squash" or "center_crop".

        Returns:
            Places of those in `samples` `(kept,)`, their embeddings
            `(kept, output_dim)` float32, and which were skipped.

        Raises:
            NonFiniteError: naming the first sample whose embedding is none.
        """
        config = {**self.config, "resize_mode": resize_mode}
        make = PEImageConverter if self.video is None else PEVideoConverter
        size = min(self.batch_size, max(1, len(samples)))
        batches = load_batches(
            list(samples),  # of an array too, whatever its shape: one sample a row
            _Reading(make(**config)),  # type: ignore[arg-type]
            size,
            max_skipped_share=self.max_skipped_share,
            progress=self.progress,
        )
        kept = [np.empty(0, "int64")]
        embeddings = [np.empty((0, self.output_dim), "float32")]
        for places, inputs in batches:
            kept.append(places)
            rows = embed_in_batches(self.encode, inputs, size, self.output_dim)
            what = f"{resize_mode} embeddings of {self.model_name}"
            names = [sample_name(samples[place], place) for place in places]
            embeddings.append(check_finite(rows, what, "sample", names))
        return np.concatenate(kept), np.concatenate(embeddings), batches.report

    def embed_modes(
        self, samples: Sequence[Any], resize_modes: Sequence[str]
    ) -> tuple[np.ndarray, dict[str, np.ndarray], SkipReport]:
        """Embeds all samples in several resize modes; see `embed`."""
        embeddings: dict[str, np.ndarray] = {}
        places, report = np.empty(0, "int64"), SkipReport()
        for mode in resize_modes:
            kept, embeddings[mode], report = self.embed(samples, mode)
            if len(embeddings) > 1 and not np.array_equal(kept, places):
                raise ValueError(
                    f"{len(kept)} samples could be read this time and {len(places)} "
                    "before: the files changed meanwhile. Start again."
                )
            places = kept
        return places, embeddings, report


def sample_name(sample: Any, place: int) -> str:
    """Returns the path of a sample, where it has one, or its place in the data."""
    path = getattr(sample, "filename", sample)
    return str(path) if isinstance(path, str | os.PathLike) else f"number {place}"


def check_modes(resize_modes: Sequence[str]) -> tuple[str, ...]:
    """Returns resize modes as a tuple; raises ValueError for others than we have."""
    modes = (resize_modes,) if isinstance(resize_modes, str) else tuple(resize_modes)
    if not modes or not set(modes) <= set(RESIZE_MODES) or len(set(modes)) < len(modes):
        raise ValueError(
            f"resize_modes={resize_modes!r}: expected one or both of {RESIZE_MODES}."
        )
    return modes


def shared_protocol(
    model: PECore,
    tokenizer: PETokenizer,
    num_images: int,
    batch_size: int,
    num_resamples: int,
    max_skipped_share: float,
    hash_contents: bool,
) -> dict[str, Any]:
    """Returns what the protocols of all evaluations say, as JSON values."""
    return {
        "context_length": tokenizer.context_length,
        "num_images": num_images,
        "dtype": model.vision_encoder.dtype_policy.name,
        "batch_size": int(batch_size),
        "num_resamples": int(num_resamples),
        "max_skipped_share": float(max_skipped_share),
        "data_hash_of": "contents" if hash_contents else "names and sizes",
    }


class _Reading:
    """A converter that also takes files which are still to be read from a shard."""

    def __init__(self, converter: PEImageConverter | PEVideoConverter) -> None:
        self.converter = converter

    def convert(self, sample: Any, name: str) -> np.ndarray:
        if hasattr(sample, "read") and hasattr(sample, "filename"):
            sample = sample.read()
        return self.converter.convert(sample, name)
