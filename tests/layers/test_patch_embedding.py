"""Patches, class token and resampled positions."""

import keras
import numpy as np
import pytest

from keras_pe.layers import PatchEmbedding
from keras_pe.layers.patch_embedding import bilinear_taps, resample_positions
from tests.arrays import to_numpy
from tests.small_models import images, perturb

pytestmark = pytest.mark.quick


@pytest.mark.slow
@pytest.mark.parametrize("class_token", [True, False])
def test_equals_a_loop_over_patches(class_token):
    layer = PatchEmbedding(8, 12, (4, 4), class_token)
    x = images()
    found = to_numpy(perturb_layer(layer, x))
    kernel = to_numpy(layer.projection.kernel)
    positions = to_numpy(layer.position_embedding)
    expected = []
    if class_token:
        token = to_numpy(layer.class_embedding) + positions[0]
        expected.append(np.broadcast_to(token, (2, 12)))
    for row in range(4):
        for column in range(4):
            patch = x[:, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            at = 4 * row + column + int(class_token)
            expected.append(patch.reshape(2, -1) @ kernel + positions[at])
    np.testing.assert_allclose(found, np.stack(expected, axis=1), atol=1e-4)


def perturb_layer(layer, x):
    layer(x)
    perturb(layer)
    return layer(x)


def slow_resample(table, size):
    """Half-pixel bilinear resampling of (rows, columns, channels), point by point."""
    rows, columns, channels = table.shape
    out = np.zeros((*size, channels))
    for i in range(size[0]):
        for j in range(size[1]):
            y = max((i + 0.5) * rows / size[0] - 0.5, 0.0)
            x = max((j + 0.5) * columns / size[1] - 0.5, 0.0)
            top, left = min(int(y), rows - 1), min(int(x), columns - 1)
            bottom, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
            wy, wx = y - top, x - left
            upper = table[top, left] * (1 - wx) + table[top, right] * wx
            lower = table[bottom, left] * (1 - wx) + table[bottom, right] * wx
            out[i, j] = upper * (1 - wy) + lower * wy
    return out


@pytest.mark.slow
@pytest.mark.parametrize("size", [(4, 4), (7, 7), (2, 9), (1, 1), (13, 3)])
def test_resampling_equals_the_slow_one(size):
    table = np.random.default_rng(0).normal(size=(16, 6)).astype("float32")
    found = to_numpy(
        resample_positions(keras.ops.convert_to_tensor(table), (4, 4), size)
    )
    expected = slow_resample(table.reshape(4, 4, 6).astype("float64"), size)
    np.testing.assert_allclose(found, expected.reshape(-1, 6), atol=1e-6)


def test_native_size_is_not_touched():
    low, high, weight = bilinear_taps(5, 5)
    np.testing.assert_array_equal(low, np.arange(5))
    np.testing.assert_array_equal(weight, np.zeros(5))
    assert high[-1] == 4


def test_sizes_that_do_not_fit_name_those_that_do():
    layer = PatchEmbedding(8, 12, (4, 4))
    layer.build((None, 32, 32, 3))
    with pytest.raises(ValueError, match=r"30x33 pixels.*24x32 or 32x40"):
        layer.grid((2, 30, 33, 3))
    with pytest.raises(ValueError, match=r"\(batch, height, width, 3\)"):
        layer.grid((2, 3, 32, 32))


@pytest.mark.parametrize(
    ("shape", "hint"),
    [
        ((32, 32, 3), r"images\[None\]"),
        ((2, 3, 32, 32), r"moveaxis\(images, 1, -1\)"),
        ((2, 32, 32, 1), r"repeat\(images, 3, -1\)"),
        ((2, 32, 32, 4), r"images\[\.\.\., :3\]"),
        ((2, 32, 32, 2), "channels-last"),
    ],
)
def test_other_shapes_are_told_what_to_do(shape, hint):
    layer = PatchEmbedding(8, 32, native_grid=(4, 4), class_token=True)
    with pytest.raises(ValueError, match=hint):
        layer.grid(shape)
