"""Weights that are assigned piece by piece, in place, or taken over as they are."""

import keras
import ml_dtypes
import numpy as np
import pytest

from keras_pe.arrays import adopted, aligned_empty
from keras_pe.presets.assign import assign_rows

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


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow alone copies so"
)
def test_a_weight_that_was_assigned_by_rows_is_not_copied_by_each_use() -> None:
    variable = keras.Variable(np.zeros((64, 32)), dtype="float32")
    assign_rows(variable, slice(0, 64), np.ones((64, 32), "float32"))
    first, second = (variable.value.read_value() for _ in range(2))
    places = [np.asarray(memoryview(tensor)).ctypes.data for tensor in (first, second)]
    assert places[0] == places[1]


@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow", reason="TensorFlow takes arrays itself"
)
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_a_weight_is_taken_over_without_a_copy(dtype: type) -> None:
    array = aligned_empty((64, 32), dtype)
    array[...] = np.arange(32)
    place = array.ctypes.data
    variable = keras.Variable(
        lambda shape, dtype: adopted(array), shape=(64, 32), dtype=np.dtype(dtype).name
    )
    value = variable.value
    if keras.backend.backend() == "jax":
        assert value.unsafe_buffer_pointer() == place
    else:
        assert value.data_ptr() == place
    found = keras.ops.convert_to_numpy(keras.ops.cast(value, "float32"))
    np.testing.assert_array_equal(found, np.tile(np.arange(32.0), (64, 1)))
