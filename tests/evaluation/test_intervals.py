"""Bootstrap intervals against drawing pictures one by one."""

import numpy as np
import pytest

from keras_pe.evaluation.intervals import class_mean_score, mean_score

pytestmark = pytest.mark.quick


def interval(statistic, count, num_resamples=4000, seed=1):
    """Draws pictures with replacement, as the textbook does."""
    rng = np.random.default_rng(seed)
    values = [statistic(rng.integers(0, count, count)) for _ in range(num_resamples)]
    return np.quantile(values, [0.025, 0.975])


def test_a_mean():
    hits = np.arange(80) % 3 == 0
    score = mean_score(hits, num_resamples=4000)
    assert score.value == pytest.approx(hits.mean())
    assert score.count == 80
    expected = interval(lambda drawn: hits[drawn].mean(), 80)
    np.testing.assert_allclose((score.low, score.high), expected, atol=0.02)


def test_texts_are_drawn_with_their_picture():
    # All five captions of a picture are found or none is: five times fewer facts.
    hits = np.repeat(np.arange(40) % 2 == 0, 5)
    pictures = np.repeat(np.arange(40), 5)
    score = mean_score(hits, pictures, num_resamples=4000)
    by_picture = hits.reshape(40, 5)
    expected = interval(lambda drawn: by_picture[drawn].mean(), 40)
    np.testing.assert_allclose((score.low, score.high), expected, atol=0.02)
    alone = mean_score(hits, num_resamples=4000)
    assert score.high - score.low > 1.8 * (alone.high - alone.low)
    assert score.count == 200


def test_the_mean_over_classes():
    labels = np.repeat([0, 1, 2, 7], [50, 20, 8, 2])
    hits = np.arange(80) % 5 < 3
    score = class_mean_score(hits, labels, num_resamples=4000)

    def recall(drawn):
        there = [hits[drawn][labels[drawn] == c] for c in (0, 1, 2, 7)]
        return np.mean([found.mean() for found in there if len(found)])

    assert score.value == pytest.approx(recall(np.arange(80)))
    expected = interval(recall, 80)
    np.testing.assert_allclose((score.low, score.high), expected, atol=0.03)


def test_seeds_and_limits():
    hits = np.arange(30) % 2 == 0
    assert mean_score(hits, seed=3) == mean_score(hits, seed=3)
    assert mean_score(hits, seed=3) != mean_score(hits, seed=4)
    assert str(mean_score(np.ones(5, bool))) == "100.0 [100.0, 100.0]"
    for score in (mean_score, lambda x: class_mean_score(x, x)):
        with pytest.raises(ValueError, match="nothing to score"):
            score(np.zeros(0, bool))
    with pytest.raises(ValueError, match="num_resamples"):
        mean_score(hits, num_resamples=0)
