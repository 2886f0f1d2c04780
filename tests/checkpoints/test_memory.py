"""A large weight that is assigned piece by piece."""

import keras
import numpy as np
import pytest

from keras_pe.checkpoints.memory import assign_rows

pytestmark = pytest.mark.quick


@pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="JAX's arrays are replaced as a whole"
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rows_are_replaced_and_others_stay(dtype: str) -> None:
    start = np.arange(12.0).reshape(4, 3)
    variable = keras.Variable(start, dtype=dtype)
    assign_rows(variable, slice(1, 3), -np.ones((2, 3), "float32"))
    expected = start.copy()
    expected[1:3] = -1.0
    found = keras.ops.convert_to_numpy(keras.ops.cast(variable.value, "float32"))
    np.testing.assert_array_equal(found, expected)
