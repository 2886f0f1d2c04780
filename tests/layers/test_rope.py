"""RoPE against a slow transcription of the paper, one token and one pair at a time."""

import math

import keras
import numpy as np
import pytest

from keras_pe.layers import rotary_table, rotate

pytestmark = pytest.mark.quick


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
