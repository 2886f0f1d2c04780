"""Attention written out equals the backend's; RoPE a slow one, pair by pair."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_pe.layers import rotary_table, rotate
from keras_pe.layers.attention import FEW_TOKENS, attend, attend_written_out

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


def slow_rotation(x, grid, class_token, theta=10_000.0):
    """Rotates (batch, tokens, heads, head_dim) with plain loops in float64."""
    rows, columns = grid
    out = x.astype("float64").copy()
    head_dim = x.shape[-1]
    axis_dim = head_dim // 2
    first = int(class_token)
    for token in range(first, x.shape[1]):
        row, column = divmod(token - first, columns)
        assert row < rows
        for pair in range(head_dim // 2):
            position = (column if pair < axis_dim // 2 else row) + first
            exponent = 2 * (pair % (axis_dim // 2)) / axis_dim
            angle = position / theta**exponent
            a, b = x[:, token, :, 2 * pair], x[:, token, :, 2 * pair + 1]
            out[:, token, :, 2 * pair] = a * math.cos(angle) - b * math.sin(angle)
            out[:, token, :, 2 * pair + 1] = b * math.cos(angle) + a * math.sin(angle)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("class_token", [True, False])
@pytest.mark.parametrize("grid", [(3, 3), (2, 5)])
def test_rotation_equals_the_slow_one(grid, class_token):
    tokens = grid[0] * grid[1] + int(class_token)
    x = np.random.default_rng(0).normal(size=(2, tokens, 3, 16)).astype("float32")
    table = rotary_table(grid, 16, class_token=class_token)
    found = keras.ops.convert_to_numpy(rotate(keras.ops.convert_to_tensor(x), table))
    np.testing.assert_allclose(found, slow_rotation(x, grid, class_token), atol=2e-6)


def test_class_token_is_not_rotated():
    x = np.random.default_rng(0).normal(size=(1, 5, 1, 8)).astype("float32")
    table = rotary_table((2, 2), 8, class_token=True)
    found = keras.ops.convert_to_numpy(rotate(keras.ops.convert_to_tensor(x), table))
    np.testing.assert_array_equal(found[:, 0], x[:, 0])
    assert not np.allclose(found[:, 1], x[:, 1])  # patch (0, 0) has position (1, 1)


def test_dot_products_depend_on_distance_alone():
    rng = np.random.default_rng(0)
    query, key = rng.normal(size=(2, 8)).astype("float32")
    tokens = np.broadcast_to(query, (1, 16, 1, 8)), np.broadcast_to(key, (1, 16, 1, 8))
    table = rotary_table((4, 4), 8, class_token=False)
    turned = [
        keras.ops.convert_to_numpy(rotate(keras.ops.convert_to_tensor(t), table))
        for t in tokens
    ]
    scores = np.einsum("bthd,bshd->ts", *turned)
    assert scores[0, 5] == pytest.approx(scores[5, 10], abs=1e-5)
    assert scores[0, 5] != pytest.approx(scores[0, 6], abs=1e-3)


def test_reference_grid_keeps_native_positions():
    plain = rotary_table((4, 4), 8, class_token=True)
    scaled = rotary_table((4, 4), 8, class_token=True, reference_grid=4)
    np.testing.assert_allclose(plain, scaled, atol=1e-6)
    larger = rotary_table((8, 8), 8, class_token=True, reference_grid=4)
    assert not np.allclose(
        larger[0][:9], rotary_table((8, 8), 8, class_token=True)[0][:9]
    )


def test_odd_head_dim_is_refused():
    with pytest.raises(ValueError, match="multiple of 4"):
        rotary_table((2, 2), 6, class_token=True)
