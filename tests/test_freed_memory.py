"""Giving freed memory back between chunks: when it happens, and that values stay."""

import keras
import numpy as np
import pytest

from keras_pe import freed_memory
from keras_pe.training.stages.chunks import map_chunks, merge_rows

pytestmark = pytest.mark.quick
ON_TORCH = keras.backend.backend() == "torch"


@pytest.fixture
def trims(monkeypatch):
    calls = []

    def trim(padding):
        calls.append(padding)
        return 0  # as glibc does when there was nothing to give back

    monkeypatch.setattr(freed_memory, "malloc_trim", lambda: trim)
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

    freed_memory.release_freed_memory([torch.zeros(2, device="meta")])
    assert trims == []
    monkeypatch.setattr(freed_memory, "malloc_trim", lambda: None)
    freed_memory.release_freed_memory([torch.zeros(2)])
