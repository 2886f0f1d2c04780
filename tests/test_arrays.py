"""Bad numbers are named; good ones pass unchanged."""

import ml_dtypes
import numpy as np
import pytest

from keras_pe.arrays import NonFiniteError, check_finite

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", ml_dtypes.bfloat16])
def test_finite_arrays_pass_unchanged(dtype: str) -> None:
    array = np.arange(6).reshape(3, 2).astype(dtype)
    assert check_finite(array, "numbers") is array


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float16", ml_dtypes.bfloat16])
def test_the_first_bad_row_is_named(bad: float, dtype: str) -> None:
    array = np.ones((4, 3), dtype)
    array[2, 1] = array[3, :] = bad
    with pytest.raises(NonFiniteError, match=r"picture 2 \(c\.png\) of 4.*1 of 3.*1 m"):
        check_finite(array, "embeddings", "picture", ["a.png", "b.png", "c.png", "d"])


def test_a_single_number() -> None:
    with pytest.raises(NonFiniteError, match=r"loss: the value is nan\. Look at it\."):
        check_finite(float("nan"), "loss", hint="Look at it.")


def test_no_rows_are_fine() -> None:
    assert check_finite(np.ones((0, 3)), "embeddings").shape == (0, 3)
