"""Bad numbers are named, good ones pass; freed memory is given back, values stay."""

import keras
import ml_dtypes
import numpy as np
import pytest

from keras_pe import arrays
from keras_pe.arrays import NonFiniteError, check_finite
from keras_pe.training.trainers.chunks import map_chunks, merge_rows

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
    with pytest.raises(NonFiniteError, match=r"image 2 \(c\.png\) of 4.*1 of 3.*1 m"):
        check_finite(array, "embeddings", "image", ["a.png", "b.png", "c.png", "d"])


def test_a_single_number() -> None:
    with pytest.raises(NonFiniteError, match=r"loss: the value is nan\. Look at it\."):
        check_finite(float("nan"), "loss", hint="Look at it.")


def test_no_rows_are_fine() -> None:
    assert check_finite(np.ones((0, 3)), "embeddings").shape == (0, 3)


ON_TORCH = keras.backend.backend() == "torch"


@pytest.fixture
def trims(monkeypatch):
    calls = []

    def trim(padding):
        calls.append(padding)
        return 0  # as glibc does when there was nothing to give back

    monkeypatch.setattr(arrays, "malloc_trim", lambda: trim)
    return calls


def squares(x, num_chunks=3):
    chunks = map_chunks(lambda rows: (rows["x"] ** 2, rows["x"]), {"x": x}, num_chunks)
    return merge_rows(chunks[0])


def test_memory_is_given_back_after_each_chunk(trims):
    x = np.arange(6.0, dtype="float32")
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(squares(keras.ops.convert_to_tensor(x))), x**2
    )
    assert len(trims) == (3 if ON_TORCH else 0)


@pytest.mark.skipif(not ON_TORCH, reason="PyTorch alone keeps freed memory")
def test_gradients_are_those_without_it_and_memory_is_given_back_again(trims):
    import torch

    x = torch.arange(6.0, requires_grad=True)
    squares(x).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), 2 * np.arange(6.0))
    assert len(trims) == 2 * 3


@pytest.mark.skipif(not ON_TORCH, reason="PyTorch alone keeps freed memory")
def test_other_devices_and_systems_are_left_alone(trims, monkeypatch):
    import torch

    arrays.release_freed_memory([torch.zeros(2, device="meta")])
    assert trims == []
    monkeypatch.setattr(arrays, "malloc_trim", lambda: None)
    arrays.release_freed_memory([torch.zeros(2)])
