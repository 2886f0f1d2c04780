"""Does the order of frames say more than the frames? A probe that can see order.

The average of frame embeddings is the same for a video and for the same video
backwards, so nothing that is computed of it can tell. Here a linear head reads the
average together with two weighted sums of the frames, one that grows and one that is
bent along the video, and is compared with the same head on the average alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from keras_pe.arrays import checked_embeddings
from keras_pe.evaluation.intervals import NUM_RESAMPLES, Score, mean_value

MIN_PER_CLASS = 4
NUM_FOLDS, NUM_REPEATS = 5, 3
_STRENGTHS = 10.0 ** np.arange(-4, 4)  # of the ridge, in units of a video's mean square


@dataclass(frozen=True)
class OrderProbe:
    """What a head makes of frames in order, and of their average alone.

    Attributes:
        ordered: accuracy of the head that sees order, on videos that it was not fitted
            to.
        average: that of the same head on the average alone, in the same folds.
        gain: the first less the second, video by video.
        shuffled: accuracy of the first where frames are shuffled when it is tested.
        backwards: and where they are reversed.
        chance: share of the largest class.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> labels = np.arange(40) % 2
        >>> way = np.where(labels, 1, -1)[:, None] * np.linspace(-1, 1, 8)
        >>> frames = rng.normal(size=(40, 8, 4)) * 0.1
        >>> frames[:, :, 0] += way    # the class is which way the clip runs
        >>> probe = order_probe(frames, labels)
        >>> isinstance(probe, OrderProbe), probe.order_matters, probe.ordered.value
        (True, True, 1.0)
    """

    ordered: Score
    average: Score
    gain: Score
    shuffled: Score
    backwards: Score
    chance: float

    @property
    def order_matters(self) -> bool:
        """Whether order says more, and enough to be better than a guess.

        The second keeps out sets in which a video and its copy have different classes:
        there the average does worse than a guess.
        """
        return self.gain.low > 0 and self.ordered.low > self.chance


def order_probe(
    frames: np.ndarray,
    labels: np.ndarray,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> OrderProbe:
    """Fits the two heads, by cross-validation over videos.

    Args:
        frames: embeddings of frames, `(videos, frames, channels)`, at least three
            frames.
        labels: the class of each video, int `(videos,)`; at least two classes of
            `MIN_PER_CLASS` videos.
        seed: of folds, shuffles and intervals.
        num_resamples: draws of the bootstrap over videos.

    Returns:
        Accuracies with their intervals.

    Raises:
        ValueError: if shapes do not fit, or a class has too few videos.
        NonFiniteError: if an embedding is NaN or infinite.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> still = np.repeat(rng.normal(size=(40, 1, 4)), 8, axis=1)
        >>> probe = order_probe(still, np.arange(40) % 2)
        >>> probe.order_matters, abs(probe.gain.value) < 1e-9
        (False, True)
    """
    labels = np.asarray(labels)
    shape = np.shape(frames)
    if len(shape) != 3 or shape[1] < 3 or labels.shape != shape[:1]:
        raise ValueError(
            f"frames has shape {shape} and labels {labels.shape}; expected (videos, "
            "frames, channels) of three frames or more, and one label a video."
        )
    flat = checked_embeddings(np.reshape(frames, (shape[0], -1)), "frames", "video")
    videos = np.asarray(flat, "float64").reshape(shape)
    _, labels, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(counts) < 2 or counts.min() < MIN_PER_CLASS:
        raise ValueError(
            f"The classes have {counts.tolist()[:10]} videos; expected at least two "
            f"classes of at least {MIN_PER_CLASS}, to fit a head and to test it."
        )
    rng = np.random.default_rng(seed)
    hits = np.zeros((4, len(labels)))  # ordered, average, shuffled, backwards
    for _ in range(NUM_REPEATS):
        places = rng.permuted(np.tile(np.arange(shape[1]), (shape[0], 1)), axis=1)
        mixed = np.take_along_axis(videos, places[..., None], axis=1)
        for train, test in _folds(labels, rng):
            scale = _Scale(videos[train])
            head = _Head(scale.features(videos[train]), labels[train])
            for row, given in ((0, videos), (2, mixed), (3, videos[:, ::-1])):
                found = head.predict(scale.features(given[test]))
                hits[row, test] += found == labels[test]
            plain = _Head(scale.average(videos[train]), labels[train])
            found = plain.predict(scale.average(videos[test]))
            hits[1, test] += found == labels[test]
    hits /= NUM_REPEATS
    ordered, average, shuffled, backwards = (
        mean_value(row, None, seed, num_resamples) for row in hits
    )
    gain = mean_value(hits[0] - hits[1], None, seed, num_resamples, (-1.0, 1.0))
    chance = float(counts.max() / counts.sum())
    return OrderProbe(ordered, average, gain, shuffled, backwards, chance)


class _Scale:
    """The parts of a video that a head reads, each as wide as the others."""

    def __init__(self, videos: np.ndarray) -> None:
        # Orthogonal to the average and to each other: a line, and a bow.
        at = np.linspace(-1, 1, videos.shape[1])
        bow = at**2 - (at**2).mean()
        self.weights = [np.full(len(at), 1 / len(at)), at, bow]
        parts = [np.einsum("vfc,f->vc", videos, weight) for weight in self.weights]
        self.means = [part.mean(axis=0) for part in parts]
        widths = [
            float(np.sqrt(((part - mean) ** 2).sum(axis=1).mean()))
            for part, mean in zip(parts, self.means, strict=True)
        ]
        # Rounding is no signal: still clips have no line and no bow.
        least = 1e-5 * max(float(np.abs(videos).max()), 1e-12)
        self.scales = [1 / width if width > least else 0.0 for width in widths]

    def _part(self, videos: np.ndarray, which: int) -> np.ndarray:
        part = np.einsum("vfc,f->vc", videos, self.weights[which])
        return np.asarray((part - self.means[which]) * self.scales[which])

    def average(self, videos: np.ndarray) -> np.ndarray:
        return self._part(videos, 0)

    def features(self, videos: np.ndarray) -> np.ndarray:
        return np.concatenate([self._part(videos, i) for i in range(3)], axis=1)


class _Head:
    """Least squares on one-hot labels, as strong as leaving one out says."""

    def __init__(self, features: np.ndarray, labels: np.ndarray) -> None:
        targets = np.eye(labels.max() + 1)[labels]
        self.bias = targets.mean(axis=0)
        targets = targets - self.bias
        left, values, right = np.linalg.svd(features, full_matrices=False)
        squares = values**2
        best = np.inf
        for strength in _STRENGTHS * max(float(squares.sum()) / len(labels), 1e-12):
            kept = squares / (squares + strength)
            fitted = (left * kept) @ (left.T @ targets)
            # What is left of each when it is not fitted; the bias takes 1 / n more.
            own = (left**2 * kept).sum(axis=1) + 1 / len(labels)
            left_out = (targets - fitted) / (1 - np.minimum(own, 0.999))[:, None]
            error = float((left_out**2).mean())
            if error <= best:  # of equals the strongest
                best = error
                shrunk = values / (squares + strength)
                self.weights = (right.T * shrunk) @ (left.T @ targets)

    def predict(self, features: np.ndarray) -> np.ndarray:
        return np.asarray((features @ self.weights + self.bias).argmax(axis=1))


def _folds(
    labels: np.ndarray, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields places to fit to and to test on; each class is in every fold alike."""
    fold = np.empty(len(labels), "int64")
    for label in range(labels.max() + 1):
        places = rng.permutation(np.flatnonzero(labels == label))
        fold[places] = np.arange(len(places)) % NUM_FOLDS
    for number in range(NUM_FOLDS):
        if (fold == number).any():
            yield np.flatnonzero(fold != number), np.flatnonzero(fold == number)
