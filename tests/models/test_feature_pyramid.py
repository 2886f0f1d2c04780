"""The simple feature pyramid: against NumPy, its sizes, gradients and files."""

import math

import keras
import numpy as np
import pytest

from keras_pe.models.feature_pyramid import FeaturePyramid
from tests.arrays import to_numpy
from tests.models.squared_output import SquaredOutput
from tests.small_models import images, perturb, vision_encoder
from tests.training.gradients import loss_and_gradients

pytestmark = pytest.mark.slow


def encoder(**changes):
    return perturb(vision_encoder(num_layers=2, **changes))


def norm(x, layer):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    normed = (x - mean) / np.sqrt(variance + 1e-6)
    return normed * to_numpy(layer.gamma) + to_numpy(layer.beta)


def enlarge(x, layer):
    """Every point becomes 2x2 points: a kernel of 2 and a stride of 2 never overlap."""
    found = np.einsum("nyxc,abdc->nyaxbd", x, to_numpy(layer.kernel))
    n, rows, _, columns, _, channels = found.shape
    return found.reshape(n, 2 * rows, 2 * columns, channels) + to_numpy(layer.bias)


def convolve(x, layer):
    weights = to_numpy(layer.kernel)
    edge = weights.shape[0] // 2
    padded = np.pad(x, ((0, 0), (edge, edge), (edge, edge), (0, 0)))
    rows, columns = x.shape[1:3]
    return sum(
        padded[:, i : i + rows, j : j + columns] @ weights[i, j]
        for i in range(weights.shape[0])
        for j in range(weights.shape[1])
    )


def gelu(x):
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def slow_level(x, level):
    steps = {step.name: step for step in level.steps}
    if level.scale == 4.0:
        x = gelu(norm(enlarge(x, steps["enlarge_1"]), steps["enlarge_norm"]))
        x = enlarge(x, steps["enlarge_2"])
    elif level.scale == 2.0:
        x = enlarge(x, steps["enlarge"])
    elif level.scale == 0.5:
        n, rows, columns, channels = x.shape
        x = x.reshape(n, rows // 2, 2, columns // 2, 2, channels).max(axis=(2, 4))
    x = norm(convolve(x, steps["project"]), steps["project_norm"])
    return norm(convolve(x, steps["smooth"]), steps["smooth_norm"])


@pytest.mark.slow
def test_equals_numpy():
    net = encoder()
    pyramid = perturb(FeaturePyramid(net, channels=12, top_level=True), seed=1)
    x = images(2, 32, 48)
    maps = pyramid.predict_on_batch(x)
    assert list(maps) == ["P1", "P2", "P3", "P4", "P5"]
    assert pyramid.strides == {"P1": 2, "P2": 4, "P3": 8, "P4": 16, "P5": 32}
    read = to_numpy(net.features(x, layers=-1).map())
    for level, found in zip(pyramid.levels, maps.values(), strict=False):
        expected = slow_level(read, level)
        assert tuple(found.shape) == expected.shape
        np.testing.assert_allclose(to_numpy(found), expected, atol=1e-3)
    np.testing.assert_array_equal(
        to_numpy(maps["P5"]), to_numpy(maps["P4"])[:, ::2, ::2]
    )


def test_layer_and_norm_that_are_read():
    net = encoder()
    x = images(1)
    pyramid = FeaturePyramid(net, layer=1, norm=True, scales=(1,), channels=4)
    assert (pyramid.layer, pyramid.norm) == (1, True)
    expected = slow_level(
        to_numpy(net.features(x, layers=1, norm=True).map()), pyramid.levels[0]
    )
    found = pyramid.predict_on_batch(x)
    assert list(found) == ["P3"]
    np.testing.assert_allclose(to_numpy(found["P3"]), expected, atol=1e-3)


def test_sizes_are_known_before_anything_runs():
    pyramid = FeaturePyramid(vision_encoder(), scales=(2, 0.5), channels=4)
    inputs = keras.Input((40, 24, 3))  # 5x3 patches: halves are rounded up
    outputs = pyramid(inputs)
    shapes = {name: tuple(x.shape) for name, x in outputs.items()}
    assert shapes == {"P2": (None, 10, 6, 4), "P4": (None, 3, 2, 4)}
    model = keras.Model(inputs, outputs)
    found = model.predict_on_batch(images(1, 40, 24))
    assert {name: tuple(x.shape)[1:] for name, x in found.items()} == {
        name: shape[1:] for name, shape in shapes.items()
    }


@pytest.mark.slow
def test_gradients_reach_the_encoder_unless_it_is_frozen():
    net = encoder(window_size=2, global_blocks=(2,), remat=True).truncate(2)
    pyramid = perturb(FeaturePyramid(net, scales=(2, 0.5), channels=4))
    _, gradients = loss_and_gradients(SquaredOutput(pyramid), images(1))
    assert all(np.abs(gradient).max() > 0 for gradient in gradients.values())
    assert net.patch_embedding.projection.kernel.path in gradients
    frozen = FeaturePyramid(net, scales=(2, 0.5), channels=4)
    net.trainable = False
    assert len(frozen.trainable_variables) == sum(
        len(level.trainable_variables) for level in frozen.levels
    )


@pytest.mark.slow
def test_saved_pyramid_comes_back(tmp_path):
    net = encoder(window_size=2, global_blocks=(1,))
    pyramid = FeaturePyramid(net, layer=1, norm=True, scales=(1, 0.5), channels=4)
    perturb(pyramid)
    pyramid.save(tmp_path / "pyramid.keras")
    copy = keras.saving.load_model(tmp_path / "pyramid.keras")
    assert copy.get_config() == pyramid.get_config()
    for ours, theirs in zip(pyramid.weights, copy.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(ours), to_numpy(theirs))


def test_what_is_frozen_stays_frozen_in_copies(tmp_path):
    pyramid = FeaturePyramid(encoder(), scales=(1, 0.5), channels=8)
    pyramid.encoder.trainable = False
    pyramid.encoder.blocks[1].trainable = True
    pyramid.levels[0].trainable = False
    trained = [v.path.split("/", 1)[1] for v in pyramid.trainable_variables]
    assert 0 < len(trained) < len(pyramid.variables)
    pyramid.save(tmp_path / "pyramid.keras")
    for copy in (
        keras.models.load_model(tmp_path / "pyramid.keras"),
        FeaturePyramid.from_config(pyramid.get_config()),
    ):
        names = [v.path.split("/", 1)[1] for v in copy.trainable_variables]
        assert names == trained
        assert not copy.encoder.trainable
        assert copy.encoder.blocks[1].trainable
    x = images(1)
    loaded = keras.models.load_model(tmp_path / "pyramid.keras")
    for name, values in pyramid(x).items():
        np.testing.assert_array_equal(to_numpy(loaded(x)[name]), to_numpy(values))


def test_low_precision_follows_the_encoder():
    net = vision_encoder(dtype="mixed_bfloat16", num_layers=1)
    pyramid = FeaturePyramid(net, scales=(1,), channels=4)
    assert pyramid.dtype_policy.name == "mixed_bfloat16"
    found = pyramid(keras.Input((32, 32, 3)))["P3"]
    assert keras.backend.standardize_dtype(found.dtype) == "bfloat16"
    low = pyramid.levels[0](net.feature_map(images(1)))
    assert keras.backend.standardize_dtype(low.dtype) == "bfloat16"
    assert keras.backend.standardize_dtype(pyramid.weights[0].dtype) == "float32"


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({}, {"scales": (3,)}, "some of 4, 2, 1 and 0.5"),
        ({}, {"scales": (1, 1)}, "each once"),
        ({}, {"scales": ()}, "some of 4"),
        ({}, {"layer": 4}, "layers 0 .* to 3"),
        ({"final_norm": False}, {"norm": True}, "without a final norm"),
        ({"patch_size": 14, "image_size": 28}, {}, "convert\\(patch_size=16\\)"),
        ({"patch_size": 2, "image_size": 8}, {}, "powers of two"),
    ],
)
def test_pyramids_that_do_not_fit(changes, arguments, message):
    with pytest.raises(ValueError, match=message):
        FeaturePyramid(vision_encoder(**changes), **arguments)
