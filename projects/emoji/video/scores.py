"""What a model knows of clips: names, motions, by all frames and by the first alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_pe import PECore, PETokenizer, PEVideoConverter
from keras_pe.data_engine import clips_of_folder
from keras_pe.evaluation.frame_orders import frame_orders, mean_of_frames
from keras_pe.models.embedding import embed_images, embed_texts
from projects.emoji.video.motions import BACKWARDS, MOTIONS

FRAMES = 8
MOTION_NAMES = tuple(MOTIONS)
# Motions that are each other's reverse count as one: 0 stands still, 1 moves across...
_GROUP = {name: place for place, pair in enumerate(BACKWARDS) for name in pair}
GROUPS = tuple(_GROUP.get(name, len(BACKWARDS)) for name in MOTION_NAMES)


class TestClips:
    """The clips of a folder, decoded once for all models.

    Args:
        folder: clips, each with its JSON.
        image_size: side of a frame, pixels.
    """

    __test__ = False  # no test of pytest's

    def __init__(self, folder: Path, image_size: int) -> None:
        rows = clips_of_folder(folder)
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
