"""Intervals of scores by resampling samples, and of differences of two scores.

`keras_pe.evaluation.intervals` draws kinds of samples, which is faster. Here a sample
has a weight of its own: two probes agree on samples, not on kinds.
"""

from collections.abc import Callable

import numpy as np

from keras_pe.arrays import check_finite
from keras_pe.exact_interval import constant_limits

# From means of the samples' statistics, (..., statistics), to scores (...,).
Score = Callable[[np.ndarray], np.ndarray]


ROUNDING = 1e-9


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

    Raises:
        NonFiniteError: naming the first sample whose statistics are none.

    Example:
        >>> correct = np.array([[1.0], [0.0], [1.0], [1.0]])
        >>> bootstrap_scores(correct, lambda means: means[..., 0], repeats=3).shape
        (3,)
    """
    statistics = check_finite(statistics, "statistics", "sample")
    rng = np.random.default_rng(seed)
    sums = np.zeros((repeats, statistics.shape[1]))
    weight = np.zeros((repeats, 1))
    for start in range(0, len(statistics), chunk_size):
        chunk = statistics[start : start + chunk_size]
        weights = rng.poisson(1.0, (repeats, len(chunk))).astype("float64")
        sums += weights @ chunk
        weight += weights.sum(axis=1, keepdims=True)
    # Of few samples a draw may hold none: that is no set, and the whole one stands in.
    empty = weight[:, 0] == 0
    sums[empty], weight[empty] = statistics.sum(axis=0), len(statistics)
    return np.asarray(score(sums / weight))


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Returns the middle share of values, such as 2.5 % to 97.5 %.

    Raises:
        NonFiniteError: if a value is NaN or infinite.
    """
    tail = (1 - level) / 2
    values = check_finite(values, "scores", "resampled set")
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def sure_interval(
    values: np.ndarray,
    of_samples: np.ndarray,
    bounds: tuple[float, float] | None,
) -> tuple[float, float]:
    """Returns the interval of resampled scores; the exact one if all samples are alike.

    Args:
        values: `(repeats,)` scores of resampled sets.
        of_samples: `(samples,)`, the score of each sample on its own.
        bounds: the least and the greatest score there can be; None if there are none,
            and then equal samples have an interval without width.

    Example:
        >>> ones = np.ones(10)
        >>> low, high = sure_interval(ones, ones, (0.0, 1.0))
        >>> round(low, 3), high
        (0.692, 1.0)
    """
    low, high = interval(values)
    if bounds is None or max(high - low, np.ptp(of_samples)) > ROUNDING:
        return low, high
    return constant_limits((low + high) / 2, len(of_samples), bounds)
