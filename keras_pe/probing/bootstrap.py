"""Intervals of scores by resampling samples, and of differences of two scores."""

from collections.abc import Callable

import numpy as np

# From means of the samples' statistics, (..., statistics), to scores (...,).
Score = Callable[[np.ndarray], np.ndarray]


def bootstrap_scores(  # statistics: (samples, statistics)
    statistics: np.ndarray,
    score: Score,
    seed: int = 0,
    repeats: int = 1000,
    chunk_size: int = 4096,
) -> np.ndarray:
    """Returns the score of many resampled sets.

    Each sample's weight is Poisson distributed with mean 1: the bootstrap for sets that
    are not held in memory at once. Equal seeds give equal weights, so that scores of
    two probes on the same samples may be subtracted, resample by resample.

    Args:
        statistics: `(samples, statistics)`, one row a sample, such as [correct].
        score: of the means over samples.
        seed: seed of the weights.
        repeats: number of resampled sets.
        chunk_size: samples whose weights are held at once.

    Returns:
        float64 `(repeats,)`.

    Example:
        >>> correct = np.array([[1.0], [0.0], [1.0], [1.0]])
        >>> bootstrap_scores(correct, lambda means: means[..., 0], repeats=3).shape
        (3,)
    """
    rng = np.random.default_rng(seed)
    sums = np.zeros((repeats, statistics.shape[1]))
    weight = np.zeros((repeats, 1))
    for start in range(0, len(statistics), chunk_size):
        chunk = statistics[start : start + chunk_size]
        weights = rng.poisson(1.0, (repeats, len(chunk))).astype("float64")
        sums += weights @ chunk
        weight += weights.sum(axis=1, keepdims=True)
    return np.asarray(score(sums / np.maximum(weight, 1.0)))


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Returns the middle share of values, such as 2.5 % to 97.5 %."""
    tail = (1 - level) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return float(low), float(high)
