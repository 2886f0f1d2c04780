"""k-nearest-neighbour probe: no training, only votes."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from keras_pe.arrays import checked_embeddings
from keras_pe.evaluation.ranks import Gallery
from keras_pe.probing.feature_store import Samples
from keras_pe.probing.probe import ClassificationProbe, FittedClassifier, count_labels

TEMPERATURE = 0.07  # DINO's


class NearestNeighbours(ClassificationProbe):
    """Classifies by the votes of the k training images of highest cosine.

    Args:
        ks: numbers of neighbours to choose from, on the validation images. Numbers
            above the count of training images are left out.
        temperature: a neighbour's vote weighs exp(cosine / temperature); None for
            equal votes.
        chunk_size: training images compared at once.

    Raises:
        ValueError: if a number is below 1, or the temperature not above 0.

    Source: Perception Encoder, table 8 ("as in DINOv2"); DINO, `eval_knn.py`.

    Example:
        >>> import numpy as np
        >>> from keras_pe import PEVisionEncoder
        >>> from keras_pe.probing import sweep
        >>> encoder = PEVisionEncoder(image_size=16, patch_size=8, hidden_dim=16,
        ...     num_layers=2, num_heads=2, intermediate_dim=32)
        >>> images = np.random.default_rng(0).uniform(-1, 1, (30, 16, 16, 3))
        >>> labels = (images.mean(axis=(1, 2, 3)) > 0).astype("int64")
        >>> probe = NearestNeighbours(ks=[1, 5])
        >>> result = sweep(encoder, (images, labels), probe=probe, layers=[2],
        ...     progress=False)
        >>> result.metric
        'accuracy'
    """

    name: ClassVar[str] = "knn"

    def __init__(
        self,
        ks: Sequence[int] = (1, 5, 10, 20, 50),
        temperature: float | None = TEMPERATURE,
        chunk_size: int = 8192,
    ) -> None:
        self.ks = tuple(sorted({int(k) for k in ks}))
        if not self.ks or self.ks[0] < 1:
            raise ValueError(f"ks={ks!r}: expected at least one number from 1.")
        if temperature is not None and not 0 < temperature < np.inf:
            raise ValueError(
                f"temperature={temperature}: expected a number above 0, or None for "
                "equal votes."
            )
        self.temperature = temperature
        self.chunk_size = chunk_size

    def fit(self, train: Samples, validation: Samples, seed: int) -> "FittedNeighbours":
        ks = [k for k in self.ks if k <= len(train)] or [len(train)]
        num_classes = count_labels(train).num_classes
        fitted = FittedNeighbours(self, train, num_classes, ks[-1])
        if len(ks) > 1 and len(validation):
            correct = np.zeros(len(ks))
            for features, targets in validation.chunks():
                votes = fitted.neighbours(features)
                correct += [(fitted.vote(*votes, k) == targets).sum() for k in ks]
            fitted.k = ks[int(correct.argmax())]
        else:
            fitted.k = ks[0]
        fitted.most = fitted.k  # more need not be found from here on
        fitted.setting = {"k": fitted.k}
        return fitted


class FittedNeighbours(FittedClassifier):
    """The training images, to be asked."""

    setting: dict[str, Any]

    def __init__(
        self, probe: NearestNeighbours, train: Samples, num_classes: int, most: int
    ) -> None:
        self.probe, self.train = probe, train
        self.num_classes, self.k = num_classes, most
        self.most = most

    def predict(self, features: np.ndarray) -> np.ndarray:
        return self.vote(*self.neighbours(features), self.k)

    def neighbours(  # features: (samples, channels)
        self, features: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns cosines and labels of the nearest, `(samples, most)` each.

        Nearest first; of equal cosines the earlier training image.
        """
        queries = unit(features)
        cosines = np.zeros((len(queries), 0), "float32")
        labels = np.zeros((len(queries), 0), "int64")
        for chunk, targets in self.train.chunks(self.probe.chunk_size):
            similarity = Gallery(unit(chunk)).products(queries)  # (samples, chunk)
            cosines = np.concatenate([cosines, similarity], axis=1)
            repeated = np.broadcast_to(targets, similarity.shape)
            labels = np.concatenate([labels, repeated.astype("int64")], axis=1)
            # Only the best of the chunks so far are kept, and only these are sorted.
            if cosines.shape[1] > self.most:
                best = best_places(cosines, self.most)
                cosines = np.take_along_axis(cosines, best, axis=1)
                labels = np.take_along_axis(labels, best, axis=1)
        order = np.argsort(-cosines, axis=1, kind="stable")
        return (
            np.take_along_axis(cosines, order, axis=1),
            np.take_along_axis(labels, order, axis=1),
        )

    def vote(self, cosines: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
        """Returns the class with most votes among the k nearest."""
        weights = np.ones(cosines[:, :k].shape)
        if self.probe.temperature is not None:
            # The nearest weighs 1: with a low temperature all others may vanish.
            below = cosines[:, :k].astype("float64") - cosines[:, :1]
            weights = np.exp(below / self.probe.temperature)
        votes = np.zeros((len(cosines), self.num_classes))
        rows = np.arange(len(cosines))[:, None]
        np.add.at(votes, (rows, labels[:, :k]), weights)
        return np.asarray(votes.argmax(axis=1))


def best_places(values: np.ndarray, count: int) -> np.ndarray:
    """Returns the places of the largest of each row, ascending; of equals the first.

    Args:
        values: `(rows, columns)`, more columns than `count`.
        count: how many of each row.

    Returns:
        int64 `(rows, count)`.

    Example:
        >>> best_places(np.array([[1.0, 3.0, 1.0, 2.0, 1.0]]), 3)
        array([[0, 1, 3]])
    """
    place = values.shape[1] - count
    least = np.partition(values, place, axis=1)[:, place, None]
    better, equal = values > least, values == least
    missing = count - better.sum(axis=1, keepdims=True)
    taken = better | (equal & (np.cumsum(equal, axis=1) <= missing))
    return np.asarray(np.nonzero(taken)[1].reshape(len(values), count))


def unit(features: np.ndarray) -> np.ndarray:  # (samples, channels)
    """Returns rows of unit length in float32; zeros stay zero.

    Raises:
        ValueError: if features are no floating-point numbers.
        NonFiniteError: naming the first row that is NaN or infinite.
    """
    features = checked_embeddings(features, "features")
    # Squares are beyond float16 from 256 on, and beyond float32 from 2e19 on.
    squares = np.einsum("ij,ij->i", features, features, dtype="float64")
    lengths = np.maximum(np.sqrt(squares), 1e-12)[:, None]
    return np.asarray((features / lengths).astype("float32"))
