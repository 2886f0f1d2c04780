"""What a data set of clips asks of a model: one frame, several, or their order?"""

import dataclasses
import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_pe.arrays import check_finite, checked_embeddings
from keras_pe.evaluation.accuracy import label_ranks
from keras_pe.evaluation.evaluation_result import package_versions
from keras_pe.evaluation.frame_orders import BLIND, frame_orders, mean_of_frames
from keras_pe.evaluation.hashes import data_hash, weights_hash
from keras_pe.evaluation.intervals import NUM_RESAMPLES, Score, mean_value
from keras_pe.evaluation.order_probe import MIN_PER_CLASS, OrderProbe, order_probe
from keras_pe.evaluation.sample_embedder import sample_name
from keras_pe.evaluation.zero_shot import checked_class_names
from keras_pe.files import write_atomically
from keras_pe.models.compiled import padded_batch
from keras_pe.models.core import FrameAverage, PECore
from keras_pe.models.embedding import class_vectors
from keras_pe.preprocessing.batches import load_batches
from keras_pe.preprocessing.image import PEImageConverter
from keras_pe.preprocessing.image_errors import SkippedImage
from keras_pe.preprocessing.prompts import prompt_templates
from keras_pe.preprocessing.tokenizer import PETokenizer
from keras_pe.preprocessing.video import PEVideoConverter


@dataclasses.dataclass(frozen=True)
class VideoCard:
    """Which frames a data set needs, as far as a model can tell.

    Attributes:
        accuracy: zero-shot top-1 by what is embedded: "first frame", "all frames",
            "shuffled", "reversed", "middle frame repeated".
        gain: "all frames" less each of the others, video by video.
        order: what a head that can see order adds; None where classes are too small.
        num_videos: how many were scored.
        num_frames: of each.
        skipped: those that could not be read.
        protocol: every setting, hashes and versions; JSON values.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> labels = np.arange(40) % 2
        >>> frames = rng.normal(size=(40, 8, 4)).astype("float32")
        >>> frames[:, 1:, 0] += 9 * labels[:, None] - 4.5    # not in the first
        >>> classes = np.array([[-1.0, 0, 0, 0], [1.0, 0, 0, 0]], "float32")
        >>> card = card_of_frames(frames, labels, classes)
        >>> isinstance(card, VideoCard), card.more_frames_help, card.order_matters
        (True, True, False)
    """

    accuracy: dict[str, Score]
    gain: dict[str, Score]
    order: OrderProbe | None
    num_videos: int
    num_frames: int
    skipped: tuple[SkippedImage, ...] = ()
    protocol: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def more_frames_help(self) -> bool:
        """Whether all frames are better than the first, beyond chance."""
        return self.gain["first frame"].low > 0

    @property
    def order_matters(self) -> bool | None:
        """Whether order says more than the frames; None if it could not be asked."""
        return None if self.order is None else self.order.order_matters

    @property
    def sentences(self) -> tuple[str, ...]:
        """The answers in words."""
        gain = self.gain["first frame"]
        help_ = "Yes" if self.more_frames_help else "No, as far as these clips show"
        found = [
            f"Do more frames help? {help_}: {self.num_frames} frames are "
            f"{_points(gain)} points better than the first one."
        ]
        if self.order is None:
            found.append(
                "Does order matter? It was not asked: that takes two classes of at "
                f"least {MIN_PER_CLASS} clips."
            )
        else:
            order = self.order
            answer = "Yes" if order.order_matters else "No, as far as these clips show"
            found.append(
                f"Does order matter? {answer}: a head that sees the order of frames is "
                f"{_points(order.gain)} points better than the same head on their "
                f"average ({100 * order.average.value:.1f}; a guess "
                f"{100 * order.chance:.1f})."
            )
        return (*found, BLIND)

    def __str__(self) -> str:
        lines = [f"{self.num_videos} clips, {len(self.skipped)} skipped"]
        lines += [f"{'zero-shot top-1':24}accuracy            all frames less this"]
        for name, score in self.accuracy.items():
            less = _points(self.gain[name]) if name in self.gain else ""
            lines.append(f"  {name:22}{score!s:20}{less}".rstrip())
        if self.order is not None:
            lines.append("linear head, on clips it was not fitted to")
            for name, score in (
                ("average of frames", self.order.average),
                ("frames in order", self.order.ordered),
                ("... shuffled", self.order.shuffled),
                ("... reversed", self.order.backwards),
            ):
                lines.append(f"  {name:22}{score}")
        return "\n".join([*lines, *self.sentences])

    def __repr__(self) -> str:
        return str(self)

    def to_dict(self) -> dict[str, Any]:
        """Returns all of it as JSON values."""
        return {
            **dataclasses.asdict(self),
            "more_frames_help": self.more_frames_help,
            "order_matters": self.order_matters,
            "sentences": list(self.sentences),
        }

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Writes all of it to a JSON file, whole or not at all."""
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        write_atomically(path, text + "\n")


def card_of_frames(
    frames: np.ndarray,
    labels: np.ndarray,
    class_vectors: np.ndarray,
    frame_average: FrameAverage = "raw",
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> VideoCard:
    """Makes the card of embeddings.

    Args:
        frames: of the frames of each video, as the model gives them without unit
            length, `(videos, frames, channels)`.
        labels: int `(videos,)`, places in the class vectors.
        class_vectors: `(classes, channels)`, unit length.
        frame_average: as of `PECore.encode_video`; "raw" is upstream's in
            classification.
        seed: of shuffles, folds and the bootstrap.
        num_resamples: draws of the bootstrap over videos.

    Raises:
        ValueError: if shapes do not fit together.
        NonFiniteError: if an embedding is NaN or infinite.

    Example:
        >>> labels = np.arange(40) % 2
        >>> frames = np.random.default_rng(0).normal(size=(40, 8, 4)).astype("float32")
        >>> frames[:, :, 0] += 9 * labels[:, None] - 4.5    # the class is in all
        >>> classes = np.array([[-1.0, 0, 0, 0], [1.0, 0, 0, 0]], "float32")
        >>> card = card_of_frames(frames, labels, classes)
        >>> card.accuracy["first frame"].value, card.more_frames_help
        (1.0, False)
    """
    shape, labels = np.shape(frames), np.asarray(labels)
    if len(shape) != 3 or shape[1] < 3 or not shape[0] or not shape[2]:
        raise ValueError(
            f"frames has shape {shape}; expected (videos, frames, channels), at least "
            "one video of three frames or more."
        )
    if np.ndim(class_vectors) != 2 or np.shape(class_vectors)[1] != shape[2]:
        raise ValueError(
            f"class_vectors has shape {np.shape(class_vectors)}; expected (classes, "
            f"channels) of {shape[2]} channels, as the frames have."
        )
    if frame_average not in ("raw", "normalized"):
        raise ValueError(
            f"frame_average={frame_average!r}: expected 'raw' or 'normalized'."
        )
    flat = checked_embeddings(np.reshape(frames, (shape[0], -1)), "frames", "video")
    given = np.asarray(flat, "float32").reshape(shape)
    unit = given / np.maximum(np.linalg.norm(given, axis=2, keepdims=True), 1e-12)
    if frame_average == "normalized":
        given = unit
    middle = np.repeat(given[:, shape[1] // 2, None], shape[1], axis=1)
    conditions = {**dict(frame_orders(given, seed)), "middle frame repeated": middle}
    hits = {
        name: (label_ranks(mean_of_frames(some), class_vectors, labels) < 1).astype(
            float
        )
        for name, some in conditions.items()
    }
    options = None, seed, num_resamples
    accuracy = {name: mean_value(hit, *options) for name, hit in hits.items()}
    gain = {
        name: mean_value(hits["all frames"] - hit, *options, (-1.0, 1.0))
        for name, hit in hits.items()
        if name != "all frames"
    }
    counts = np.bincount(labels)
    enough = np.isin(labels, np.flatnonzero(counts >= MIN_PER_CLASS))
    order = None
    if len(np.unique(labels[enough])) > 1:
        order = order_probe(unit[enough], labels[enough], seed, num_resamples)
    return VideoCard(accuracy, gain, order, shape[0], shape[1])


def video_card(
    model: PECore,
    tokenizer: PETokenizer,
    videos: Sequence[Any],
    labels: Sequence[int] | np.ndarray,
    class_names: Sequence[str],
    templates: str | Sequence[str] = "kinetics",
    image_converter: PEImageConverter | None = None,
    num_frames: int = 8,
    frame_rule: str = "benchmark",
    frame_average: FrameAverage = "raw",
    batch_size: int = 32,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
    max_skipped_share: float = 0.01,
    hash_contents: bool = True,
    progress: bool = False,
) -> VideoCard:
    """Says whether a set of clips needs more than one frame, and their order.

    Args:
        model: a `PECore`.
        tokenizer: the model's `PETokenizer`.
        videos: what a `PEVideoConverter` takes.
        labels: `(videos,)`, places in `class_names`.
        class_names: names of the classes.
        templates: as of `evaluate_zero_shot`.
        image_converter: how frames are prepared; None makes one of the model's size.
        num_frames: of each video, at least three.
        frame_rule: which, see `frame_indices`.
        frame_average: as of `card_of_frames`.
        batch_size: frames or texts a forward pass.
        seed: of shuffles, folds and the bootstrap.
        num_resamples: draws of the bootstrap over videos.
        max_skipped_share: share of unreadable videos that stops the run.
        hash_contents: as of `evaluate_zero_shot`.
        progress: whether a progress bar is shown.

    Returns:
        A `VideoCard`.

    Raises:
        ValueError: if arguments do not fit together.
        ImageError: if too many videos can't be read.
        NonFiniteError: naming the first video whose embedding is none.

    Example:
        >>> from keras_pe.evaluation import video_card
        >>> preset = "pe_core_emoji_small_patch8_64"
        >>> model = PECore.from_preset(preset)
        >>> tokenizer = PETokenizer.from_preset(preset)
        >>> rng = np.random.default_rng(0)
        >>> clips = [rng.integers(0, 255, (8, 64, 64, 3), "uint8") for _ in range(8)]
        >>> card = video_card(model, tokenizer, clips, [0, 1] * 4, ["owl", "guitar"])
        >>> card.num_videos, card.gain["reversed"].value
        (8, 0.0)
    """
    names, truth = checked_class_names(class_names), np.asarray(labels)
    prompts = prompt_templates(templates)
    if truth.shape != (len(videos),) or truth.dtype.kind not in "iu" or not truth.size:
        raise ValueError(
            f"labels has shape {truth.shape} and dtype {truth.dtype}; expected one "
            f"whole number for each of {len(videos)} videos."
        )
    if truth.min() < 0 or truth.max() >= len(names):
        raise ValueError(
            f"labels range from {truth.min()} to {truth.max()}; expected 0 to "
            f"{len(names) - 1}, places in class_names."
        )
    images = image_converter or PEImageConverter(model.vision_encoder.image_size)
    config = {**images.get_config(), "num_frames": num_frames, "frame_rule": frame_rule}
    converter = PEVideoConverter(**config)
    if num_frames < 3:
        raise ValueError(f"num_frames={num_frames}: expected at least three.")
    vectors, _ = class_vectors(model, tokenizer, names, prompts, batch_size)
    loaded: Any = load_batches(
        list(videos),
        converter,  # type: ignore[arg-type]
        max(1, batch_size // num_frames),
        max_skipped_share=max_skipped_share,
        progress=progress,
    )
    kept, found = [np.empty(0, "int64")], []
    for places, clips in loaded:
        kept.append(places)
        rows = [_embedded(model, clip, batch_size) for clip in clips]
        names_ = [sample_name(videos[place], place) for place in places]
        what = f"frame embeddings of {model.name}"
        found.append(check_finite(np.stack(rows), what, "video", names_))
    where = np.concatenate(kept)
    card = card_of_frames(
        np.concatenate(found),
        truth[where],
        vectors,
        frame_average,
        seed,
        num_resamples,
    )
    protocol = {
        "converter": converter.get_config(),
        "frame_average": frame_average,
        "templates": list(prompts),
        "class_names": names,
        "num_videos": len(videos),
        "seed": int(seed),
        "num_resamples": int(num_resamples),
        "weights_hash": weights_hash(model),
        "data_hash": data_hash(videos, [truth, names], hash_contents),
        "versions": package_versions(),
    }
    skipped = tuple(loaded.report.skipped)
    return dataclasses.replace(card, skipped=skipped, protocol=protocol)


def _embedded(model: PECore, clip: np.ndarray, batch_size: int) -> np.ndarray:
    """Returns raw embeddings of the frames of a clip, `(frames, channels)`."""
    rows = []
    for start in range(0, len(clip), batch_size):
        some = clip[start : start + batch_size]
        full = padded_batch(some, min(batch_size, len(clip)))
        found = ops.convert_to_numpy(model.encode_image(full, normalize=False))
        rows.append(np.asarray(found, "float32")[: len(some)])
    return np.concatenate(rows)


def _points(score: Score) -> str:
    value, low, high = (100 * x for x in (score.value, score.low, score.high))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"
