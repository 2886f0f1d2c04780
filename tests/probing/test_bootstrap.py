"""Intervals that hold what they promise."""

import numpy as np
import pytest

from keras_pe.probing.bootstrap import bootstrap_scores, interval, sure_interval

pytestmark = [pytest.mark.quick, pytest.mark.once]


def first(means):
    return means[..., 0]


def test_width_is_that_of_the_mean():
    correct = (np.arange(400) % 4 == 0).astype("float64")[:, None]
    low, high = interval(bootstrap_scores(correct, first, repeats=4000))
    error = 1.96 * np.sqrt(0.25 * 0.75 / 400)
    assert low == pytest.approx(0.25 - error, abs=0.004)
    assert high == pytest.approx(0.25 + error, abs=0.004)


def test_equal_samples_have_the_exact_interval():
    ones = np.ones((50, 1))
    scores = bootstrap_scores(ones, first)
    assert interval(scores) == (1.0, 1.0)
    low, high = sure_interval(scores, ones[:, 0], (0.0, 1.0))
    assert (low, high) == pytest.approx((0.025 ** (1 / 50), 1.0))
    # An error has no greatest value: nothing is known of those not seen.
    assert sure_interval(scores, ones[:, 0], None) == (1.0, 1.0)
    # Alike samples of a score that is no mean of theirs.
    mixed = np.arange(1000) / 1000
    assert sure_interval(mixed, ones[:, 0], (0.0, 1.0)) == interval(mixed)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_draw_of_nothing_is_no_score_of_0(count):
    scores = bootstrap_scores(np.full((count, 1), 7.0), first)
    np.testing.assert_allclose(scores, 7.0)


def test_differences_are_paired():
    rng = np.random.default_rng(0)
    correct = rng.integers(0, 2, (300, 1)).astype("float64")
    better = correct.copy()
    better[:5] = 1.0
    gain = bootstrap_scores(better, first) - bootstrap_scores(correct, first)
    assert gain.min() >= 0  # far narrower than either score's own interval
    assert np.ptp(gain) < 0.05


def test_chunks_give_the_same_kind_of_interval():
    correct = (np.arange(300) % 3 == 0).astype("float64")[:, None]
    whole = interval(bootstrap_scores(correct, first, chunk_size=300))
    parts = interval(bootstrap_scores(correct, first, chunk_size=7))
    np.testing.assert_allclose(whole, parts, atol=0.02)
