"""Means, deviations and the Gram matrix of features, summed chunk by chunk."""

import dataclasses
from typing import Self

import numpy as np

from keras_pe.probing.feature_store import Samples


@dataclasses.dataclass(frozen=True)
class Standardization:
    """Brings every channel to mean 0 and deviation 1 of the training samples.

    Layers differ in scale by orders of magnitude: after this one range of regularisers
    suits them all.

    Attributes:
        mean: `(channels,)`.
        deviation: `(channels,)`; 1 for constant channels.
    """

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, samples: Samples) -> Self:
        """Returns that of some samples, in two passes: exact where means are large."""
        total = sum(f.sum(axis=0, dtype="float64") for f, _ in samples.chunks())
        mean = np.asarray(total) / len(samples)
        squares = sum(
            np.square(f.astype("float64") - mean).sum(axis=0)
            for f, _ in samples.chunks()
        )
        deviation = np.sqrt(np.asarray(squares) / len(samples))
        # Constant but for rounding.
        still = deviation <= 1e-7 * np.maximum(np.abs(mean), 1e-12)
        return cls(mean, np.where(still, 1.0, deviation))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Returns float64 `(samples, channels)`."""
        return np.asarray((features - self.mean) / self.deviation)
