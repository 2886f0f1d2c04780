"""Rounded weights: the nearest values with so many bits."""

import numpy as np
import pytest

from projects.emoji.rounding import rounded

pytestmark = [pytest.mark.quick, pytest.mark.once]


def slowly(value: float, bits: int) -> float:
    """Returns the nearest value with so many bits behind the point, ties to even."""
    if value == 0:
        return 0.0
    step = 2.0 ** (np.floor(np.log2(abs(value))) - bits)
    return float(np.round(value / step) * step)


@pytest.mark.parametrize("bits", [1, 6, 7, 10, 22])
def test_values_are_the_nearest_with_so_many_bits(bits: int) -> None:
    rng = np.random.default_rng(bits)
    values = (rng.normal(size=500) * 10.0 ** rng.integers(-6, 6, 500)).astype("float32")
    values = np.concatenate([values, np.float32([0, 1, -1, 1.5, 1.75, 3.9999998])])
    expected = [slowly(float(value), bits) for value in values]
    np.testing.assert_array_equal(rounded(values, bits), np.float32(expected))


def test_ten_bits_are_those_of_float16() -> None:
    values = np.random.default_rng(0).normal(size=1000).astype("float32")
    np.testing.assert_array_equal(rounded(values, 10), values.astype("float16"))


def test_other_bits_and_values_are_refused() -> None:
    with pytest.raises(ValueError, match="bits must be 1 to 22, got 23"):
        rounded(np.ones(2, "float32"), 23)
    with pytest.raises(ValueError, match="not finite"):
        rounded(np.array([np.nan], "float32"), 7)
