"""Bootstrap intervals against drawing images one by one."""

import numpy as np
import pytest

from keras_pe.arrays import NonFiniteError
from keras_pe.evaluation.intervals import class_mean_score, mean_score, mean_value

pytestmark = [pytest.mark.quick, pytest.mark.once]


def interval(statistic, count, num_resamples=4000, seed=1):
    """Draws images with replacement, as the textbook does."""
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


def test_texts_are_drawn_with_their_image():
    # All five captions of an image are found or none is: five times fewer facts.
    hits = np.repeat(np.arange(40) % 2 == 0, 5)
    images = np.repeat(np.arange(40), 5)
    score = mean_score(hits, images, num_resamples=4000)
    by_image = hits.reshape(40, 5)
    expected = interval(lambda drawn: by_image[drawn].mean(), 40)
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


def test_outcomes_that_are_all_alike_have_the_exact_interval():
    # By hand: 0.025 ** (1 / 5) is 0.478, and 1 - 0.025 ** (1 / 130) is 0.028.
    assert str(mean_score(np.ones(5, bool))) == "100.0 [47.8, 100.0]"
    assert str(mean_score(np.zeros(130, bool))) == "0.0 [0.0, 2.8]"
    # Five texts of each of two images are two facts: 0.025 ** (1 / 2) is 0.158.
    images = np.repeat([0, 1], 5)
    assert str(mean_score(np.ones(10, bool), images)) == "100.0 [15.8, 100.0]"
    # Two of five texts, of each image: other images might have all, or none.
    hits = np.tile([True, True, False, False, False], 2)
    low, high = 0.158 * 0.4, 0.158 * 0.4 + 0.842
    score = mean_score(hits, images)
    assert (score.low, score.high) == pytest.approx((low, high), abs=1e-3)
    # One image more or less makes no jump.
    almost = np.arange(130) > 0
    assert mean_score(almost).low <= mean_score(np.ones(130, bool)).low + 0.01


def test_classes_that_are_all_right_or_all_wrong_have_the_exact_interval():
    labels = np.repeat([0, 1], 50)
    for hits, value in ((labels >= 0, 1.0), (labels < 0, 0.0), (labels == 0, 0.5)):
        score = class_mean_score(hits, labels)
        assert score.value == value
        assert 0.02 < score.high - score.low < 0.1
        assert 0.0 <= score.low <= value <= score.high <= 1.0
    with_a_mixed_one = class_mean_score(np.arange(100) != 3, labels)
    assert with_a_mixed_one.low < with_a_mixed_one.high


@pytest.mark.parametrize("score", [mean_score, class_mean_score])
def test_outcomes_must_be_numbers(score):
    with pytest.raises(NonFiniteError, match="hits: sample 1 of 3"):
        score(np.array([1.0, np.nan, 0.0]), np.arange(3))


def test_seeds_and_limits():
    hits = np.arange(30) % 2 == 0
    assert mean_score(hits, seed=3) == mean_score(hits, seed=3)
    assert mean_score(hits, seed=3) != mean_score(hits, seed=4)
    for score in (mean_score, lambda x: class_mean_score(x, x)):
        with pytest.raises(ValueError, match="nothing to score"):
            score(np.zeros(0, bool))
    with pytest.raises(ValueError, match="num_resamples"):
        mean_score(hits, num_resamples=0)


@pytest.mark.parametrize("score", [mean_score, class_mean_score])
def test_what_is_no_hit_is_refused(score):
    numbers = np.arange(4)
    for hits, wanted in (
        ([5, 0, 1, 1], "hits: sample 0 of 4 is 5, and 0 more"),
        ([0, -1, 1, 1], "hits: sample 1 of 4 is -1, and 0 more"),
        ([1.0, 0.0, 0.9, 0.9], "hits: sample 2 of 4 is 0.9, and 1 more"),
        ([[1, 0, 1, 1]], r"hits has shape \(1, 4\)"),
        (["yes", "no", "no", "no"], "hits has shape .* and dtype <U3"),
        (np.ones(4, object), "dtype object"),
        (np.ones(4, complex), "dtype complex128"),
    ):
        with pytest.raises(ValueError, match=wanted):
            score(np.array(hits), numbers)
    half = np.array([True, False, True, False])
    assert score(half, numbers) == score(half.astype("float32"), numbers)
    for wrong in (
        np.array([0.0, np.nan, 1.0, 1.0]),
        np.arange(3),
        np.zeros((4, 1), int),
        np.array(["a", "a", "b", "b"]),
    ):
        with pytest.raises(ValueError, match="one whole number for each of 4 hits"):
            score(half, wrong)


def test_a_mean_of_values_between_right_and_wrong():
    values = np.random.default_rng(3).uniform(0, 1, 90)
    score = mean_value(values, num_resamples=4000)
    assert score.value == pytest.approx(values.mean())
    expected = interval(lambda drawn: values[drawn].mean(), 90)
    np.testing.assert_allclose((score.low, score.high), expected, atol=0.01)
    hits = values > 0.5
    assert mean_value(hits) == mean_score(hits)


def test_values_that_are_no_scores_are_refused():
    assert mean_value([4.0, 10.0, 7.0], bounds=(0, 10)).value == 7.0
    assert mean_value([10.0, 10.0], bounds=(0, 10)).high == pytest.approx(10)
    with pytest.raises(ValueError, match=r"go from 0\.5 to 2; expected 0 to 1"):
        mean_value([0.5, 2.0])
    with pytest.raises(NonFiniteError, match="sample 1"):
        mean_value([0.5, np.nan])
    with pytest.raises(ValueError, match="nothing to score"):
        mean_value([])
    with pytest.raises(ValueError, match="shape"):
        mean_value([[0.5]])
