"""Scores with bootstrap intervals: how much would other images have changed them?

Drawing n images with replacement is drawing from a multinomial distribution over
*kinds* of images, where images are of one kind if they count alike. There are few
kinds, so thousands of draws cost milliseconds and no memory. Where all images score
alike, draws show no width and the interval is the exact one.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from keras_pe.arrays import check_finite
from keras_pe.exact_interval import LEVEL, class_mean_limits, constant_limits

NUM_RESAMPLES = 2000
ROUNDING = 1e-9
_CHUNK = 1 << 22  # counts drawn at once


@dataclasses.dataclass(frozen=True)
class Score:
    """A share or a mean, with its interval.

    Attributes:
        value: the share, 0 to 1, or the mean.
        low: lower end of the 95 % interval over images: by bootstrap, or exact where
            all of them score alike.
        high: upper end.
        count: how many images or texts it is a share of.

    Example:
        >>> print(Score(0.785, low=0.76, high=0.81, count=1000))
        78.5 [76.0, 81.0]
    """

    value: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        value, low, high = (100 * x for x in (self.value, self.low, self.high))
        return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def mean_score(
    hits: np.ndarray,
    images: np.ndarray | None = None,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> Score:
    """Returns the share of hits.

    Args:
        hits: bool `(count,)`.
        images: int `(count,)`, the image that each one belongs to: images are
            drawn with all that is theirs. None: each is its own.
        seed: of the draws.
        num_resamples: number of draws.

    Returns:
        The share with its interval.

    Raises:
        ValueError: if there is nothing to score, hits are neither bool nor 0 and 1, or
            images are not one whole number a hit.

    Example:
        >>> print(mean_score(np.array([True] * 60 + [False] * 40)))
        60.0 [50.0, 70.0]
        >>> print(mean_score(np.zeros(130, bool)))
        0.0 [0.0, 2.8]
    """
    return mean_value(_checked_hits(hits), images, seed, num_resamples)


def mean_value(
    values: np.ndarray,
    images: np.ndarray | None = None,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Score:
    """Returns the mean of scores that may lie between right and wrong.

    Args:
        values: `(count,)`, such as edit similarities.
        images: as of `mean_score`.
        seed: of the draws.
        num_resamples: number of draws.
        bounds: the least and the greatest value there can be.

    Returns:
        The mean with its interval.

    Raises:
        ValueError: if there is nothing to score, a value is out of bounds, or images
            are not one whole number a value.
        NonFiniteError: naming the first value that is NaN or infinite.

    Example:
        >>> print(mean_value(np.array([0.5, 1.0, 0.75, 0.75] * 25)))
        75.0 [71.5, 78.5]
    """
    values = np.asarray(check_finite(values, "values", "sample"), "float64")
    if values.ndim != 1:
        raise ValueError(f"values has shape {values.shape}; expected (samples,).")
    _check(len(values), num_resamples)
    least, most = bounds
    if values.min() < least - ROUNDING or values.max() > most + ROUNDING:
        raise ValueError(
            f"values go from {values.min():g} to {values.max():g}; expected {least:g} "
            f"to {most:g}. Give the bounds of the metric."
        )
    places = np.arange(len(values))
    if images is not None:
        places = _checked_numbers(images, "images", len(values))
    _, owner = np.unique(places, return_inverse=True)
    of_image = np.stack([np.bincount(owner, values), np.bincount(owner)], axis=1)
    mean_of_image = of_image[:, 0] / of_image[:, 1]
    value = float(values.mean())
    if (mean_of_image == mean_of_image[0]).all():
        return Score(value, *constant_limits(value, len(of_image), bounds), len(values))
    kinds, counts = np.unique(of_image, axis=0, return_counts=True)
    shares = [
        (drawn @ kinds[:, 0]) / (drawn @ kinds[:, 1])
        for drawn in _draws(counts, seed, num_resamples)
    ]
    return _score(value, shares, len(values))


def class_mean_score(
    hits: np.ndarray,
    labels: np.ndarray,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> Score:
    """Returns the mean over classes of the share of hits (mean per-class recall).

    Args:
        hits: bool `(count,)`.
        labels: int `(count,)`, the class of each. A class without any does not count.
        seed: of the draws.
        num_resamples: number of draws.

    Returns:
        The mean with its interval.

    Raises:
        ValueError: if there is nothing to score, hits are neither bool nor 0 and 1, or
            labels are not one whole number a hit.

    Example:
        >>> hits = np.array([True, True, True, False])
        >>> class_mean_score(hits, np.array([0, 0, 0, 1])).value
        0.5
    """
    hits = _checked_hits(hits)
    _check(len(hits), num_resamples)
    labels = _checked_numbers(labels, "labels", len(hits))
    classes, place = np.unique(labels, return_inverse=True)
    sizes = np.bincount(place)
    recalls = np.bincount(place, hits) / sizes
    if np.isin(recalls, (0.0, 1.0)).all():  # all images of a class score alike
        limits = class_mean_limits(recalls, sizes)
        return Score(float(recalls.mean()), *limits, len(hits))
    # Kinds: the misses of all classes, then the hits of all classes.
    counts = np.bincount(place + len(classes) * hits, minlength=2 * len(classes))

    def mean_of(drawn: np.ndarray) -> np.ndarray:  # (draws, 2 * classes) -> (draws,)
        missed, hit = drawn[:, : len(classes)], drawn[:, len(classes) :]
        total = missed + hit
        recall = hit / np.maximum(total, 1)
        return np.asarray(recall.sum(axis=1) / (total > 0).sum(axis=1))

    shares = [mean_of(drawn) for drawn in _draws(counts, seed, num_resamples)]
    return _score(float(mean_of(counts[None])[0]), shares, len(hits))


def _draws(counts: np.ndarray, seed: int, num_resamples: int) -> Iterator[np.ndarray]:
    """Yields how many of each kind are drawn, `(draws, kinds)` a time."""
    rng = np.random.default_rng(seed)
    total = int(counts.sum())
    step = max(1, _CHUNK // len(counts))
    for start in range(0, num_resamples, step):
        number = min(step, num_resamples - start)
        yield rng.multinomial(total, counts / total, number)


def _score(value: float, shares: list[np.ndarray], count: int) -> Score:
    ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    low, high = np.quantile(np.concatenate(shares), ends)
    return Score(value, float(low), float(high), count)


def _checked_hits(hits: np.ndarray) -> np.ndarray:
    """Returns hits as int64 `(count,)` of 0 and 1."""
    hits = np.asarray(hits)
    if hits.ndim != 1 or hits.dtype.kind not in "biuf":
        raise ValueError(
            f"hits has shape {hits.shape} and dtype {hits.dtype}; expected (samples,), "
            "True where a sample is right."
        )
    hits = check_finite(hits, "hits", "sample")
    wrong = np.flatnonzero((hits != 0) & (hits != 1))
    if len(wrong):
        raise ValueError(
            f"hits: sample {wrong[0]} of {len(hits)} is {hits[wrong[0]]}, and "
            f"{len(wrong) - 1} more are wrong; expected True or False, or 1 and 0. For "
            "ranks give ranks < k, for scores scores > threshold."
        )
    return hits.astype("int64")


def _checked_numbers(numbers: np.ndarray, what: str, count: int) -> np.ndarray:
    """Returns whole numbers `(count,)`."""
    numbers = np.asarray(numbers)
    if numbers.shape != (count,) or numbers.dtype.kind not in "biu":
        raise ValueError(
            f"{what} has shape {numbers.shape} and dtype {numbers.dtype}; expected one "
            f"whole number for each of {count} hits."
        )
    return numbers


def _check(count: int, num_resamples: int) -> None:
    if not count:
        raise ValueError("There is nothing to score: no image could be used.")
    if num_resamples < 1:
        raise ValueError(f"num_resamples={num_resamples}: expected at least 1.")
