"""Attention written out equals the backend's, in value and gradient."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_pe.layers.dot_product import FEW_TOKENS, attend, attend_written_out

pytestmark = pytest.mark.quick
TOKENS = 6


def arrays(dtype="float32"):
    rng = np.random.default_rng(0)
    shape = (3, 2, TOKENS, 4, 8)
    return [ops.convert_to_tensor(x, dtype=dtype) for x in rng.normal(size=shape)]


def masks():
    seen = np.ones((2, 1, 1, TOKENS), bool)
    seen[1, ..., 4:] = False
    return {"none": None, "mask": ops.convert_to_tensor(seen)}


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("mask", ["none", "mask"])
def test_values(causal, mask):
    query, key, value = arrays()
    mask = masks()[mask]
    ours = attend_written_out(query, key, value, mask, causal)
    theirs = ops.dot_product_attention(query, key, value, mask=mask, is_causal=causal)
    np.testing.assert_allclose(
        ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs), atol=2e-6
    )


def test_one_query():
    query, key, value = arrays()
    ours = attend_written_out(query[:, :1], key, value)
    theirs = ops.dot_product_attention(query[:, :1], key, value)
    np.testing.assert_allclose(
        ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs), atol=2e-6
    )


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="PyTorch's kernel alone")
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradients(causal, dtype):
    import torch

    found = []
    for function in (attend_written_out, ops.dot_product_attention):
        inputs = [x.detach().requires_grad_() for x in arrays(dtype)]
        key = "causal" if function is attend_written_out else "is_causal"
        output = function(*inputs, **{key: causal})
        torch.square(output.float()).sum().backward()
        found.append([output, *(x.grad for x in inputs)])
    tolerance = 2e-6 if dtype == "float32" else 0.02
    for ours, theirs in zip(*found, strict=True):
        error = (ours.float() - theirs.float()).abs().max()
        assert error <= tolerance * theirs.float().abs().max()


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="PyTorch's kernel alone")
def test_which_one_runs():
    import torch

    def kinds(dtype, grad, tokens=TOKENS):
        x = torch.zeros(1, tokens, 2, 8, dtype=dtype, requires_grad=grad)
        with torch.profiler.profile() as profile:
            attend(x, x, x)
        names = {event.key for event in profile.key_averages()}
        return any("scaled_dot_product" in name for name in names)

    assert not kinds(torch.bfloat16, grad=True)
    assert kinds(torch.bfloat16, grad=False)  # inference: the kernel is as fast
    assert kinds(torch.float32, grad=True)
    assert kinds(torch.bfloat16, grad=True, tokens=FEW_TOKENS + 1)
