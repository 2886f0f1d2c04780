"""Exact intervals against SciPy, and against a search over all probabilities."""

import itertools

import numpy as np
import pytest
from scipy.stats import binomtest

from keras_pe.exact_interval import class_mean_limits, constant_limits

pytestmark = [pytest.mark.quick, pytest.mark.once]


@pytest.mark.parametrize("count", [1, 2, 18, 130, 5000])
@pytest.mark.parametrize("value", [0, 1])
def test_clopper_and_pearson(value, count):
    wanted = binomtest(value * count, count).proportion_ci(method="exact")
    found = constant_limits(float(value), count)
    assert found == pytest.approx((wanted.low, wanted.high), abs=1e-12)
    # All classes of one: the same.
    ones = np.full(1, value), np.full(1, count)
    assert class_mean_limits(*ones) == pytest.approx(found, abs=1e-12)


def test_other_bounds_and_levels():
    same = 0.05 ** (1 / 7)
    low, high = constant_limits(1.0, 7, (-1.0, 1.0), level=0.9)
    assert (low, high) == pytest.approx((same - (1 - same), 1.0))


@pytest.mark.parametrize("counts", [(5, 5), (20, 3), (100, 1)])
def test_classes_against_a_search(counts):
    grid = np.linspace(0, 1, 401)
    for right in ([1, 1], [1, 0], [0, 0]):
        values = []
        for p in itertools.product(grid, grid):
            seen = [x if r else 1 - x for x, r in zip(p, right, strict=True)]
            if seen[0] ** counts[0] * seen[1] ** counts[1] >= 0.025:
                values.append(sum(p) / 2)
        found = class_mean_limits(np.array(right), np.array(counts))
        assert found == pytest.approx((min(values), max(values)), abs=2e-3)
