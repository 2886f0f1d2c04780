"""Exact intervals for outcomes that are all alike, where resampling shows no width.

Drawing again from ten hits always gives ten hits: the bootstrap says "100 % to 100 %"
of ten images as of ten thousand. What n equal outcomes do exclude is known exactly:
others with a share of more than 1 - (0.05 / 2)^(1 / n), the limit of Clopper and
Pearson.
"""

import numpy as np

LEVEL = 0.95


def constant_limits(
    value: float,
    count: int,
    bounds: tuple[float, float] = (0.0, 1.0),
    level: float = LEVEL,
) -> tuple[float, float]:
    """Returns the interval of a mean of which every outcome seen was the same.

    Args:
        value: what was seen each time.
        count: how often, independently; at least 1.
        bounds: the least and the greatest that an outcome can be.
        level: share of such intervals that hold the mean.

    Source: Clopper and Pearson 1934, for outcomes of 0 and 1. For others the unseen
    share is taken to lie at the bounds.

    Example:
        >>> [round(100 * end, 1) for end in constant_limits(0.0, 130)]
        [0.0, 2.8]
        >>> [round(100 * end, 1) for end in constant_limits(1.0, 5)]
        [47.8, 100.0]
    """
    same = ((1 - level) / 2) ** (1 / count)  # the least share of what was seen
    low, high = bounds
    return same * value + (1 - same) * low, same * value + (1 - same) * high


def class_mean_limits(
    recalls: np.ndarray, counts: np.ndarray, level: float = LEVEL
) -> tuple[float, float]:
    """Returns the interval of a mean over classes, each of them all right or all wrong.

    Each end is the mean of the class probabilities that are as low (or high) as they
    can be while what was seen keeps a probability of half of 1 - level.

    Args:
        recalls: `(classes,)`, 0 or 1 each.
        counts: `(classes,)`, the samples of each, at least 1.
        level: share of such intervals that hold the mean.

    Example:
        >>> [round(x, 3) for x in class_mean_limits(np.array([1]), np.array([5]))]
        [0.478, 1.0]
        >>> [round(x, 3) for x in class_mean_limits(np.array([1, 0]), np.full(2, 50))]
        [0.464, 0.536]
    """
    right = recalls == 1
    least = -_largest_loss(counts[right], level) / len(recalls)
    most = _largest_loss(counts[~right], level) / len(recalls)
    value = float(right.mean())
    return value + least, value + most


def _largest_loss(counts: np.ndarray, level: float) -> float:
    """Returns by how much probabilities that look like 1 can miss it, summed.

    It is the largest sum of 1 - p with prod p^count = (1 - level) / 2. There p is
    proportional to the count, but at most 1.
    """
    if not len(counts):
        return 0.0
    wanted = np.log((1 - level) / 2)

    def shares(log_factor: float) -> np.ndarray:  # log p
        return np.asarray(np.minimum(0.0, log_factor + np.log(counts)))

    low = wanted - np.log(counts.max()) - 1.0
    high = -float(np.log(counts.min()))
    for _ in range(100):
        middle = (low + high) / 2
        if (counts * shares(middle)).sum() < wanted:
            low = middle
        else:
            high = middle
    return float((1 - np.exp(shares(high))).sum())
