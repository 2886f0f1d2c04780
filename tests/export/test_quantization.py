"""How ranges become steps, and which matrices are taken for sensitive."""

import numpy as np
import pytest

from keras_pe.export.quantization import (
    attempts,
    calibrate,
    error_of,
    most_sensitive_last,
    steps,
)

pytestmark = [pytest.mark.quick, pytest.mark.once]


@pytest.mark.parametrize(("low", "high"), [(-1.0, 3.0), (0.0, 2.0), (-4.0, 0.0)])
def test_steps_cover_the_range_and_zero(low, high):
    how = steps(low, high)
    ends = [(place - how.zero) * how.scale for place in (0, 255)]
    np.testing.assert_allclose(ends, [low, high], atol=how.scale)
    assert 0 <= how.zero <= 255


def test_an_outlier_makes_a_matrix_sensitive():
    """One channel of a thousand leaves the others a few steps: it is kept longest."""
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(16, 8)).astype("float32")
    even = rng.normal(size=(64, 16)).astype("float32")
    spiky = even.copy()
    spiky[0, 0] = 1000.0
    inputs = {"even": "a", "spiky": "b"}
    found = calibrate(
        lambda batch: {"a": even[batch], "b": spiky[batch]},
        [np.arange(32), np.arange(32, 64)],
        inputs,
        {"even": kernel, "spiky": kernel},
    )
    assert most_sensitive_last(found) == ["even", "spiky"]
    assert found["even"].error < 0.05
    assert found["even"].how == steps(float(even.min()), float(even.max()))
    tried = attempts(found)
    assert [set(plan) for plan in tried] == [{"even", "spiky"}, {"even"}]


def test_error_is_that_of_rounded_products():
    kernel = np.eye(2, dtype="float32")
    how = steps(0.0, 255.0)
    assert error_of(np.array([[3.0, 4.0]], "float32"), kernel, how) < 1e-6
    assert error_of(np.array([[0.4, 0.4]], "float32"), kernel, how) == pytest.approx(1)
