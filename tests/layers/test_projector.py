"""From patches to a language model: which neighbours become one, and in which order."""

import numpy as np
import pytest
from keras import ops

from keras_pe.layers import VisionProjector
from keras_pe.layers.projector import merged_patches
from tests.arrays import to_numpy
from tests.small_models import perturb

pytestmark = pytest.mark.quick

GRID, CHANNELS = (4, 6), 3


def patches(rows=2):
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, GRID[0] * GRID[1], CHANNELS)).astype("float32")


@pytest.mark.parametrize("merge", ["average", "shuffle"])
def test_squares_of_neighbours_become_one_token(merge):
    x = patches()
    found = to_numpy(merged_patches(ops.convert_to_tensor(x), GRID, 2, merge))
    images = x.reshape(2, *GRID, CHANNELS)
    place = 0
    for row in range(0, GRID[0], 2):
        for column in range(0, GRID[1], 2):
            square = images[:, row : row + 2, column : column + 2]
            expected = square.reshape(2, 4, CHANNELS)
            expected = (
                expected.reshape(2, -1) if merge == "shuffle" else expected.mean(1)
            )
            np.testing.assert_allclose(found[:, place], expected, rtol=1e-6)
            place += 1
    assert place == found.shape[1]


@pytest.mark.parametrize("pooling", [1, 2])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize(("merge", "norm"), [("average", False), ("shuffle", True)])
def test_it_is_an_mlp_of_those_tokens(pooling, depth, merge, norm):
    options = {"pooling": pooling, "merge": merge, "depth": depth, "norm": norm}
    layer = perturb(VisionProjector(CHANNELS, 5, **options))
    x = patches()
    given = x
    if norm:
        centred = x - x.mean(axis=-1, keepdims=True)
        gamma, beta = (to_numpy(w) for w in layer.norm.weights)
        given = centred / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-6) * gamma + beta
    merged = merged_patches(ops.convert_to_tensor(given), GRID, pooling, merge)
    hidden = merged
    if depth == 2:
        weights = layer.expand.weights
        hidden = ops.gelu(
            ops.matmul(merged, weights[0]) + weights[1], approximate=False
        )
    weights = layer.contract.weights
    expected = to_numpy(ops.matmul(hidden, weights[0]) + weights[1])
    found = layer(x, grid=GRID)
    np.testing.assert_allclose(to_numpy(found), expected, atol=2e-6)
    assert tuple(found.shape) == layer.compute_output_shape(x.shape, GRID)
    twin = VisionProjector.from_config(layer.get_config())
    assert [w.shape for w in twin.weights] == [w.shape for w in layer.weights]


@pytest.mark.once
def test_what_does_not_fit_is_refused():
    layer = VisionProjector(CHANNELS, 5, pooling=2)
    with pytest.raises(ValueError, match="Expected 4x5 patches"):
        layer(patches()[:, :20], grid=(4, 5))
    with pytest.raises(ValueError, match="Leave out class tokens"):
        layer(np.zeros((1, 25, CHANNELS), "float32"), grid=GRID)
    for options in ({"depth": 3}, {"merge": "max"}, {"pooling": 0}, {"norm": "no"}):
        with pytest.raises(ValueError, match="must be"):
            VisionProjector(CHANNELS, 5, **options)


@pytest.mark.parametrize(
    ("shape", "grid", "says"),
    [
        ((1, 6, 4), (3, 2), r"Expected patches .*8\), got \(1, 6, 4\)"),
        ((6, 8), (3, 2), r"Expected patches .*8\), got \(6, 8\)"),
        ((1, 0, 8), (0, 0), "Expected 0x0 patches"),
        ((1, 6, 8), (-3, -2), "Expected -3x-2 patches"),
    ],
)
def test_patches_that_are_none_are_refused(shape, grid, says):
    with pytest.raises(ValueError, match=says):
        VisionProjector(8, 8)(np.zeros(shape, "float32"), grid=grid)


def test_a_depth_is_a_number():
    with pytest.raises(ValueError, match="depth must be 1 or 2, got True"):
        VisionProjector(8, 8, depth=True)


def test_a_grid_that_squares_do_not_fill_has_no_shape():
    layer = VisionProjector(CHANNELS, 5, pooling=2)
    assert layer.compute_output_shape((2, 24, CHANNELS), (4, 6)) == (2, 6, 5)
    with pytest.raises(ValueError, match="5x5 patches, in squares of 2"):
        layer.compute_output_shape((2, 25, CHANNELS), (5, 5))
