"""Retrieval pair by pair, so that two models are compared on the same ones."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from keras_pe.evaluation.ranks import Matches
from keras_pe.evaluation.retrieval import KS, both_ranks
from keras_pe.probing.bootstrap import bootstrap_scores, sure_interval
from keras_pe.training.run.retrieval_scores import PairEmbeddings

SCORE = "recall_at_1"  # the mean of both directions, in points


def pair_hits(embeddings: PairEmbeddings) -> dict[str, np.ndarray]:
    """Returns which pairs are found, for each recall.

    Args:
        embeddings: `(pairs, channels)` of images and texts, with captions.

    Returns:
        By `image_to_text_recall_at_1` and so on: bool `(pairs,)`. `recall_at_1` is the
        mean of both directions: float, `(pairs,)`.

    Example:
        >>> pairs = PairEmbeddings(np.eye(2), np.eye(2)[::-1], [b"a", b"b"])
        >>> pair_hits(pairs)["recall_at_1"]
        array([0., 0.])
    """
    count = len(embeddings.captions)
    matches = Matches(count, np.arange(count), embeddings.captions)
    ranks = both_ranks(embeddings.images, embeddings.texts, matches)
    hits = {f"{name}_recall_at_{k}": r < k for name, r in ranks.items() for k in KS}
    both = [hits[f"{name}_{SCORE}"] for name in ranks]
    return {**hits, SCORE: np.mean(both, axis=0)}


def points(hits: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns scores in points, 0 to 100.

    Example:
        >>> points({"recall_at_1": np.array([1.0, 0.5])})
        {'recall_at_1': 75.0}
    """
    return {name: 100 * float(found.mean()) for name, found in hits.items()}


@dataclasses.dataclass(frozen=True)
class Change:
    """A score before and after, on the same pairs.

    Attributes:
        before: points, 0 to 100.
        after: likewise.
        gain: points won; below 0 for lost.
        low: lower end of the gain's 95 % interval over pairs.
        high: upper end.
    """

    before: float
    after: float
    gain: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.gain:+.1f} [{self.low:+.1f}, {self.high:+.1f}]"


def change(before: np.ndarray, after: np.ndarray, seed: int = 0) -> Change:
    """Returns how a score changed, with a paired bootstrap interval.

    Args:
        before: `(pairs,)`, 0 to 1, what each pair scored.
        after: likewise, of the same pairs.
        seed: of the draws.

    Example:
        >>> hits = np.arange(100) < 60
        >>> print(change(hits, hits | (np.arange(100) < 70)))
        +10.0 [+4.7, +16.3]
    """
    gains = after.astype("float64") - before.astype("float64")
    drawn = bootstrap_scores(gains[:, None], lambda means: means[..., 0], seed)
    low, high = sure_interval(drawn, gains, (-1.0, 1.0))
    of_all = (before.mean(), after.mean(), gains.mean(), low, high)
    return Change(*(100 * float(value) for value in of_all))


def mean_cosine(before: np.ndarray, after: np.ndarray) -> float:
    """Returns how alike embeddings are that two models give the same images.

    Args:
        before: `(images, channels)`, unit length.
        after: likewise.

    Returns:
        The mean cosine: 1 for embeddings that did not move.

    Example:
        >>> mean_cosine(np.eye(2), np.eye(2)[::-1])
        0.0
    """
    return float((before.astype("float64") * after).sum(axis=1).mean())
