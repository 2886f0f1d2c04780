"""Colours and components against their definitions."""

import keras
import numpy as np
import pytest

from keras_pe.models.features import Features
from keras_pe.visualization import pca_map
from keras_pe.visualization.pca import gaussian_blur, lch_to_rgb, principal_components

pytestmark = pytest.mark.slow


def feature_map(batch=2, rows=4, columns=5, channels=7, seed=0):
    rng = np.random.default_rng(seed)
    scales = np.geomspace(4.0, 0.5, channels)  # components of different sizes
    tokens = rng.gamma(1.0, size=(batch, rows, columns, channels)) * scales
    return tokens.astype("float32")


@pytest.mark.parametrize(
    ("lch", "rgb"),
    [  # L*a*b* of the corners of sRGB, in polar form
        ((0.0, 0.0, 0.0), (0, 0, 0)),
        ((100.0, 0.0, 0.0), (1, 1, 1)),
        ((53.241, 104.552, 39.999), (1, 0, 0)),
        ((87.735, 119.776, 136.016), (0, 1, 0)),
        ((32.297, 133.808, 306.285), (0, 0, 1)),
        ((53.585, 0.0, 200.0), (0.5, 0.5, 0.5)),
        ((2.0, 0.0, 0.0), (0.0286, 0.0286, 0.0286)),  # below the knees
    ],
)
def test_known_colours(lch, rgb):
    np.testing.assert_allclose(lch_to_rgb(np.array(lch)), rgb, atol=2e-3)


def test_blur_is_the_gaussian_of_three_by_three():
    values = feature_map(rows=3, columns=4)
    weights = np.exp(-0.5 * np.add.outer([1, 0, 1], [1, 0, 1]))
    weights /= weights.sum()
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    expected = np.zeros_like(values)
    for row in range(3):
        for column in range(4):
            window = padded[:, row : row + 3, column : column + 3]
            expected[:, row, column] = np.einsum("brcd,rc->bd", window, weights)
    np.testing.assert_allclose(gaussian_blur(values), expected, atol=1e-5)
    single = values[:, :1]
    np.testing.assert_allclose(
        gaussian_blur(single), gaussian_blur(np.repeat(single, 3, 1))[:, :1], atol=1e-5
    )


@pytest.mark.parametrize(("tokens", "channels"), [(40, 7), (6, 9), (7, 7)])
def test_components_are_those_of_a_singular_value_decomposition(tokens, channels):
    values = feature_map(1, 1, tokens, channels).reshape(tokens, channels)
    left, lengths, _ = np.linalg.svd(values - values.mean(0), full_matrices=False)
    expected = (left * lengths)[:, :3]
    found = principal_components(values)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-5)
    assert ((found**3).sum(axis=0) > 0).all()


def test_components_do_not_depend_on_the_basis():
    values = feature_map().reshape(-1, 7)
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(7, 7)))
    np.testing.assert_allclose(
        principal_components(values @ -rotation),
        principal_components(values),
        atol=1e-5,
    )


def test_the_first_component_is_lightness():
    values = np.zeros((1, 3, 4, 8), "float32")
    strength = np.array([0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 5, 9.0]).reshape(3, 4)
    values[0, :, :, 3] = -strength
    colours = pca_map(values, blur=False, percentiles=(0, 100))
    grey = (colours[0] @ [0.2126, 0.7152, 0.0722]).ravel()
    np.testing.assert_array_equal(np.argsort(grey, kind="stable"), np.arange(12))
    # The other two have no spread: the middle of their ranges, one hue.
    darkest, lightest = colours[0].reshape(-1, 3)[[0, -1]]
    np.testing.assert_allclose(darkest, lch_to_rgb([25.0, 35.0, 170.0]), atol=1e-6)
    np.testing.assert_allclose(lightest, lch_to_rgb([90.0, 35.0, 170.0]), atol=1e-6)


def test_features_are_mixed_with_their_blur():
    values = feature_map()
    mixed = 0.5 * values + 0.5 * gaussian_blur(values)
    np.testing.assert_allclose(pca_map(values), pca_map(mixed, blur=False), atol=1e-4)
    assert not np.allclose(pca_map(values), pca_map(values, blur=False), atol=0.05)


def test_joint_colours_mean_the_same_in_all_images():
    first, second = feature_map(1), feature_map(1, seed=1)
    second[0, 0, 0] = first[0, 2, 2]
    both = np.concatenate([first, second])
    joint = pca_map(both, blur=False)
    np.testing.assert_allclose(joint[0, 2, 2], joint[1, 0, 0], atol=1e-6)
    alone = pca_map(both, joint=False, blur=False)
    np.testing.assert_array_equal(alone[1:], pca_map(second, blur=False))
    assert not np.allclose(alone[0, 2, 2], alone[1, 0, 0], atol=0.02)


def test_features_of_an_encoder_and_arrays_give_the_same():
    values = feature_map()
    tokens = values.reshape(2, 20, 7)
    tokens = np.concatenate([np.full((2, 1, 7), 99, "float32"), tokens], axis=1)
    features = Features(keras.ops.convert_to_tensor(tokens), 3, False, (4, 5), True)
    found = pca_map(features)
    np.testing.assert_array_equal(found, pca_map(values))
    assert found.dtype == "float32"
    assert found.shape == (2, 4, 5, 3)
    assert found.min() >= 0
    assert found.max() <= 1


def test_few_patches_and_flat_features_are_no_problem():
    assert np.isfinite(pca_map(feature_map(1, 1, 1))).all()
    assert np.isfinite(pca_map(feature_map(1, 1, 2))).all()
    flat = pca_map(np.ones((1, 3, 3, 5), "float32"))
    assert (flat == flat[0, 0, 0]).all()


@pytest.mark.parametrize(
    ("features", "arguments", "message"),
    [
        (np.zeros((4, 5, 7)), {}, "batch, rows, columns, channels"),
        (np.full((1, 2, 2, 3), np.nan), {}, "not finite"),
        (np.zeros((1, 2, 2, 3)), {"percentiles": (99, 1)}, "two rising numbers"),
        (np.zeros((1, 2, 2, 3)), {"percentiles": (0, 101)}, "from 0 to 100"),
    ],
)
def test_bad_arguments_are_explained(features, arguments, message):
    with pytest.raises(ValueError, match=message):
        pca_map(features, **arguments)
