"""What a model knows: names of clips, motions, by all or one frame; and of drawings."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_pe import PECore, PEImageConverter, PETokenizer, PEVideoConverter
from keras_pe.data_engine import clips_of_folder
from keras_pe.evaluation.frame_orders import frame_orders, mean_of_frames
from keras_pe.losses import softmax_contrastive_loss
from keras_pe.models.embedding import embed_images, embed_texts
from projects.emoji.evaluation import compare, name_classifier, plain_classes
from projects.emoji.video.motions import BACKWARDS, MOTIONS

Row = dict[str, Any]
FRAMES = 8
# Splits of drawings, and the vendor whose concepts are the classes; the last is the one
# that moves in the clips.
DRAWINGS = {
    "known vendors": ("val_seen", "noto"),
    "held-out concepts": ("heldout", "noto"),
    "vendor of the clips": ("test", "fluent-emoji-flat"),
}
MOTION_NAMES = tuple(MOTIONS)
# Motions that are each other's reverse count as one: 0 stands still, 1 moves across...
_GROUP = {name: place for place, pair in enumerate(BACKWARDS) for name in pair}
GROUPS = tuple(_GROUP.get(name, len(BACKWARDS)) for name in MOTION_NAMES)


class TestClips:
    """The clips of a folder, decoded once for all models.

    Args:
        folder: clips, each with its JSON.
        image_size: side of a frame, pixels.
        keep: which of its clips; default: all.
    """

    __test__ = False  # no test of pytest's

    def __init__(
        self, folder: Path, image_size: int, keep: Callable[[Row], bool] | None = None
    ) -> None:
        rows = [row for row in clips_of_folder(folder) if keep is None or keep(row)]
        self.metadata = [row["metadata"] for row in rows]
        converter = PEVideoConverter(image_size=image_size, num_frames=FRAMES)
        self.frames = converter([row["path"] for row in rows])  # (clips, 8, h, w, 3)

    def embeddings(self, model: PECore) -> np.ndarray:
        """Returns unit embeddings of all frames, `(clips, frames, channels)`."""
        flat = self.frames.reshape(-1, *self.frames.shape[2:])
        found = embed_images(model, flat, batch_size=128)
        return np.asarray(found).reshape(len(self.frames), FRAMES, -1)


def name_hits(
    model: PECore, tokenizer: PETokenizer, clips: TestClips
) -> dict[str, np.ndarray]:
    """Returns for each clip whether it is found by its title, and its title by it.

    Both among all clips of the test, by the mean of the frames, by the first frame, and
    by the frames backwards and in another order, which a mean cannot tell apart.
    """
    titles = [str(said["title"]) for said in clips.metadata]
    texts = np.asarray(embed_texts(model, tokenizer, titles))
    frames = clips.embeddings(model)
    called = {"all frames": "mean", "reversed": "backwards"}
    ways = {
        called.get(name, name): mean_of_frames(some)
        for name, some in frame_orders(frames)
    }
    same = np.array(titles)[:, None] == np.array(titles)[None]
    hits = {}
    for way, clip in ways.items():
        cosines = clip @ texts.T
        hits[f"text to clip, {way}"] = _first(cosines.T, same)
        hits[f"clip to text, {way}"] = _first(cosines, same)
    return hits


def motion_hits(
    model: PECore, tokenizer: PETokenizer, clips: TestClips
) -> dict[str, np.ndarray]:
    """Returns for each clip whether its motion is told, its drawing's name given.

    * among all motions, and among kinds of motions: what is a motion backwards is of
      one kind with it;
    * which of the two it is, where the kind is given: a guess is a half.
    """
    names = sorted({str(said["name"]) for said in clips.metadata})
    texts = [f"{name} {motion}" for name in names for motion in MOTION_NAMES]
    vectors = np.asarray(embed_texts(model, tokenizer, texts))
    vectors = vectors.reshape(len(names), len(MOTION_NAMES), -1)
    of_clip = vectors[[names.index(said["name"]) for said in clips.metadata]]
    right = np.array([MOTION_NAMES.index(said["motion"]) for said in clips.metadata])
    groups = np.array(GROUPS)
    frames = clips.embeddings(model)
    hits = {}
    for way, clip in (("mean", mean_of_frames(frames)), ("first frame", frames[:, 0])):
        cosines = np.einsum("nc,nmc->nm", clip, of_clip)
        told = cosines.argmax(1)
        hits[f"motion, {way}"] = told == right
        hits[f"kind of motion, {way}"] = groups[told] == groups[right]
        pairs = (groups[None] == groups[right][:, None]) & (
            np.arange(len(groups))[None] != right[:, None]
        )
        moving = pairs.any(1)
        other = np.where(pairs, cosines, -np.inf).max(1)
        own = cosines[np.arange(len(right)), right]
        hits[f"forwards or backwards, {way}"] = (own > other)[moving]
    return hits


def drawing_hits(
    model: PECore,
    tokenizer: PETokenizer,
    converter: PEImageConverter,
    data: Path,
    splits: Mapping[str, tuple[str, str]] = DRAWINGS,
) -> dict[str, np.ndarray]:
    """Returns for each drawing that does not move whether its name is the first.

    Names are of all concepts; held-out ones, which are hardly ever first among all, are
    told from each other.

    Args:
        model, tokenizer, converter: what is scored.
        data: output of `projects.emoji.data.prepare`.
        splits: of it, by what they are called: a split and the vendor whose concepts
            are the classes.
    """
    vendors = {vendor for _, vendor in splits.values()}
    classes = {vendor: plain_classes(data, vendor) for vendor in vendors}
    classifiers = {
        vendor: name_classifier(model, tokenizer, its)
        for vendor, its in classes.items()
    }
    hits = {}
    for name, (split, vendor) in splits.items():
        found = compare(classifiers[vendor], converter, data, split, classes[vendor])
        similarities, labels = found.similarities, found.labels
        if name == "held-out concepts":
            columns = np.flatnonzero(found.heldout_classes)
            similarities = similarities[:, columns]
            labels = np.searchsorted(columns, labels)
        right = np.arange(similarities.shape[1]) == labels[:, None]
        hits[f"drawings, {name}"] = _first(similarities, right)
    return hits


def clip_loss(model: PECore, tokenizer: PETokenizer, clips: TestClips) -> float:
    """Returns the contrastive loss of all clips against all titles, nats.

    It tells learning rates apart where there are too few clips for hits.
    """
    titles = [str(said["title"]) for said in clips.metadata]
    loss = softmax_contrastive_loss(
        mean_of_frames(clips.embeddings(model)),
        np.asarray(embed_texts(model, tokenizer, titles)),
        keras.ops.exp(model.logit_scale),
        caption_ids=np.unique(titles, return_inverse=True)[1],
        duplicates="ignore",
    )
    return float(keras.ops.convert_to_numpy(loss))


def _first(cosines: np.ndarray, same: np.ndarray) -> np.ndarray:
    """Returns for each row whether a match is above all that is none."""
    others = np.where(same, -np.inf, cosines).max(1)
    return np.asarray(np.where(same, cosines, -np.inf).max(1) > others)


def as_lists(hits: dict[str, np.ndarray]) -> dict[str, Any]:
    """Returns hits as JSON: 0 and 1 in a text, by name."""
    return {
        name: "".join("1" if one else "0" for one in found)
        for name, found in hits.items()
    }


def as_arrays(hits: dict[str, str]) -> dict[str, np.ndarray]:
    """Undoes `as_lists`."""
    return {
        name: np.array([one == "1" for one in found]) for name, found in hits.items()
    }


def gain(
    ours: Sequence[np.ndarray], others: Sequence[np.ndarray], seed: int = 0
) -> tuple[float, float, float]:
    """Returns a gain in shares with its 95 % interval over clips.

    Args:
        ours: hits of each seed, over the same clips.
        others: likewise; their mean is compared with.
        seed: of the draws.
    """
    difference = np.mean(ours, axis=0) - np.mean(others, axis=0)
    rng = np.random.default_rng(seed)
    places = rng.integers(len(difference), size=(4000, len(difference)))
    drawn = difference[places].mean(1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(difference.mean()), float(low), float(high)
