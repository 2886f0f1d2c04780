"""What a probe is: a small head on frozen features, and its score."""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from keras_pe.probing.feature_store import Samples
from keras_pe.probing.layer_outputs import Reading


class FittedProbe(abc.ABC):
    """A probe that has seen its training samples.

    Attributes:
        setting: what was chosen on the validation samples.

    Example:
        >>> class Guess(FittedProbe):
        ...     setting = {"class": 0}
        ...     def statistics(self, samples):
        ...         return np.concatenate([(targets == 0).astype("float64")[:, None]
        ...             for targets in samples.targets()])
        >>> Guess().setting
        {'class': 0}
    """

    setting: dict[str, Any]

    @abc.abstractmethod
    def statistics(self, samples: Samples) -> np.ndarray:
        """Returns float64 `(samples, statistics)`: what the score is made of."""


class Scored(abc.ABC):
    """What all probes say of their score.

    Attributes:
        name: of the probe.
        metric: what its score is called.
        higher_is_better: whether a larger score is a better one.
        bounds: the least and the greatest score there can be; None if there are none.
    """

    name: ClassVar[str]
    metric: ClassVar[str]
    higher_is_better: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float] | None] = None

    @abc.abstractmethod
    def score(self, means: np.ndarray) -> np.ndarray:  # (..., statistics) -> (...)
        """Returns the score of the statistics' means over samples or items."""

    def gain(self, ours: Any, theirs: Any) -> Any:
        """Returns by how much one score is better than another."""
        return ours - theirs if self.higher_is_better else theirs - ours


class Probe(Scored):
    """Fits a head to the features of one layer.

    Attributes:
        readings: what it can read of a layer, its default first.

    Example:
        >>> from keras_pe.probing import NearestNeighbours
        >>> probe = NearestNeighbours()    # "knn"
        >>> isinstance(probe, Probe), probe.metric, probe.readings[0]
        (True, 'accuracy', 'average')
    """

    readings: ClassVar[tuple[Reading, ...]]

    def image_columns(self, images: Any) -> dict[str, np.ndarray]:
        """Returns what is kept of prepared images beside features, one row each."""
        return {}

    def check(self, train: Samples, validation: Samples, test: Samples) -> None:
        """Says what can't be probed, before anything is fitted.

        Called for each seed, and for layers of each shape.

        Raises:
            ValueError: saying what is wrong.
        """
        return

    @abc.abstractmethod
    def fit(self, train: Samples, validation: Samples, seed: int) -> FittedProbe:
        """Fits to the training samples; settings are chosen on the others."""

    @abc.abstractmethod
    def baseline(self, train: Samples, test: Samples) -> np.ndarray:
        """Returns the statistics of a guess that never looks at an image."""

    def shuffled(self, samples: Samples, seed: int) -> Samples:
        """Returns samples with each other's targets, in a random order."""
        return samples.shuffled(seed)

    def blind(
        self, train: Samples, validation: Samples, test: Samples, seed: int
    ) -> np.ndarray | None:
        """Returns the test statistics of a head that learned without the right images.

        None where nothing could be learned that `baseline` does not know.
        """
        return None

    def target_protocol(self, train: Samples, test: Samples) -> dict[str, Any]:
        """Returns what the targets mean for the score, for the sweep's protocol."""
        return {}


# === Classification ===
MAX_CLASSES = 1_000_000


@dataclasses.dataclass(frozen=True)
class Labels:
    """The classes of a classification task.

    Attributes:
        counts: images of each class, int64 `(classes,)`.
    """

    counts: np.ndarray

    @property
    def num_classes(self) -> int:
        """Largest label plus one."""
        return len(self.counts)


def count_labels(samples: Samples) -> Labels:
    """Counts the labels of the training samples.

    Raises:
        ValueError: if they are no class numbers.
    """
    counts = np.zeros(0, "int64")
    for targets in samples.targets():
        if targets.ndim != 1 or targets.dtype.kind not in "iu":
            raise ValueError(
                f"Classification needs one whole number an image as its target, got "
                f"{targets.dtype} {targets.shape[1:]} each."
            )
        if targets.min() < 0:
            raise ValueError(f"Labels count from 0, got {targets.min()}.")
        if targets.max() >= MAX_CLASSES:  # a count a class would take all memory
            raise ValueError(
                f"Labels reach {targets.max()}, expected less than {MAX_CLASSES:,}. "
                "Number the classes from 0 on: np.unique(labels, return_inverse=True)."
            )
        found = np.bincount(targets.astype("int64"))
        size = max(len(found), len(counts))
        counts = np.pad(counts, (0, size - len(counts)))
        counts += np.pad(found, (0, size - len(found)))
    return Labels(counts)


class ClassificationProbe(Probe):
    """A probe whose score is the share of images it names rightly."""

    metric = "accuracy"
    bounds = (0.0, 1.0)
    readings: ClassVar[tuple[Reading, ...]] = (
        "average",
        "class_token",
        "average_and_class_token",
    )

    def baseline(self, train: Samples, test: Samples) -> np.ndarray:
        most_frequent = int(count_labels(train).counts.argmax())
        return np.concatenate(
            [(t == most_frequent).astype("float64")[:, None] for t in test.targets()]
        )

    def score(self, means: np.ndarray) -> np.ndarray:
        return np.asarray(means[..., 0])


class FittedClassifier(FittedProbe):
    """A classifier of feature vectors."""

    @abc.abstractmethod
    def predict(self, features: np.ndarray) -> np.ndarray:
        """Returns int64 `(samples,)` classes of float32 `(samples, channels)`."""

    def statistics(self, samples: Samples) -> np.ndarray:
        return np.concatenate(
            [
                (self.predict(features) == targets).astype("float64")[:, None]
                for features, targets in samples.chunks()
            ]
        )


# === Probes that train nothing: they compare images with each other ===
# From prepared images (batch, height, width, 3) to the maps of all layers,
# (batch, rows, columns, channels) each.
Maps = Callable[[np.ndarray], list[np.ndarray]]


class TrainingFreeProbe(Scored):
    """Measures each layer on items of several images, such as clips or pairs.

    Example:
        >>> from keras_pe.probing import Tracking
        >>> probe = Tracking()
        >>> isinstance(probe, TrainingFreeProbe), probe.higher_is_better
        (True, True)
    """

    @abc.abstractmethod
    def measure(self, item: Any, maps: Maps) -> list[np.ndarray]:
        """Returns the statistics `(statistics,)` of an item, one array a layer."""

    @abc.abstractmethod
    def baseline(self, item: Any) -> np.ndarray:
        """Returns the statistics of a guess that never looks at an image."""
