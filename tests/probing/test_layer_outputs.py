"""What is read of the layers of any model, and in which order they stand."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_pe.probing import intermediate_model, sweep
from keras_pe.probing.layer_outputs import LayerOutputs

pytestmark = pytest.mark.quick

IMAGES = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype("float32")


class Tokens(keras.layers.Layer):
    """A prefix of zeros, then the pixels; times ten for each further layer."""

    def __init__(self, layers, prefix=0, **kwargs):
        super().__init__(**kwargs)
        self.layers, self.prefix = layers, prefix

    def call(self, images):
        tokens = ops.reshape(images, (-1, 16, 3))
        tokens = ops.pad(tokens, [(0, 0), (self.prefix, 0), (0, 0)])
        return {f"stage{i}": tokens * 10.0**i for i in range(1, self.layers + 1)}


def chain(length):
    """Returns a functional model of many small blocks, none of them alike."""
    images = keras.Input((4, 4, 3), name="images")
    x = images
    for number in range(length):
        x = keras.layers.Dense(3, name=f"block_{number}")(x)
    return keras.Model({"images": images}, x)


def bright_and_dark():
    """Returns images of two classes that differ in every channel."""
    labels = np.arange(60) % 2
    images = (
        np.random.default_rng(1).normal(size=(60, 4, 4, 3))
        + 3 * labels[:, None, None, None]
    )
    return images.astype("float32"), labels


# === Order ===
def test_ten_comes_after_two():
    model = chain(12)
    names = [f"block_{number}" for number in range(12)]
    layers = intermediate_model(model, names)
    outputs = LayerOutputs(layers)
    assert outputs.names == tuple(names)
    assert LayerOutputs(layers, ["block_10", "block_2"]).names == (
        "block_2",
        "block_10",
    )
    x = ops.convert_to_tensor(IMAGES)
    for name, found in zip(names, outputs(IMAGES, "map"), strict=True):
        x = model.get_layer(name)(x)
        np.testing.assert_allclose(found, ops.convert_to_numpy(x), atol=1e-5)


def test_several_outputs_of_one_layer():
    images = keras.Input((4, 4, 3))
    first = keras.layers.Rescaling(1.0, name="stem")(images)
    model = keras.Model(images, {"stem": first, **Tokens(11)(first)})
    outputs = LayerOutputs(model, prefix_tokens=0)
    assert outputs.names == ("stem", *(f"stage{i}" for i in range(1, 12)))
    values = outputs(IMAGES, "average")
    for power, value in enumerate(values):
        np.testing.assert_allclose(
            value, IMAGES.mean(axis=(1, 2)) * 10.0**power, rtol=1e-4
        )


def test_a_sweep_compares_with_the_last_block():
    layers = intermediate_model(chain(11), [f"block_{number}" for number in range(11)])
    images, labels = bright_and_dark()
    result = sweep(layers, (images, labels), progress=False)
    assert result.layers[-1].layer == "block_10"
    best = result.encoder_at_best()
    every = layers(ops.convert_to_tensor(images))
    np.testing.assert_allclose(
        ops.convert_to_numpy(best(ops.convert_to_tensor(images))),
        ops.convert_to_numpy(every[result.best_layer]),
        atol=1e-6,
    )


@pytest.mark.parametrize("kind", [list, dict])
def test_a_model_that_is_no_graph(kind):
    class Subclassed(keras.Model):
        def call(self, images):
            layers = {"late": images * 2.0, "early": images}
            return layers if kind is dict else list(layers.values())

    outputs = LayerOutputs(Subclassed())
    doubled, plain = outputs(IMAGES, "map")
    np.testing.assert_array_equal(doubled, 2 * IMAGES)
    np.testing.assert_array_equal(plain, IMAGES)
    assert outputs.names == (("late", "early") if kind is dict else (1, 2))

    images, labels = bright_and_dark()
    result = sweep(Subclassed(), (images, labels), progress=False)
    assert result.best_layer in outputs.names
    with pytest.raises(ValueError, match="no functional model"):
        result.encoder_at_best()


# === Readings ===
def test_prefix_tokens_are_no_patches():
    images = keras.Input((4, 4, 3))
    outputs = LayerOutputs(
        keras.Model(images, Tokens(1, prefix=2)(images)), prefix_tokens=2
    )
    pixels = 10.0 * IMAGES
    read = {
        "map": pixels,
        "average": pixels.mean(axis=(1, 2)),
        "class_token": np.zeros((2, 3)),
        "average_and_class_token": np.concatenate(
            [pixels.mean(axis=(1, 2)), np.zeros((2, 3))], axis=1
        ),
        "tokens": np.concatenate(
            [np.zeros((2, 2, 3)), pixels.reshape(2, 16, 3)], axis=1
        ),
    }
    for reading, expected in read.items():
        np.testing.assert_allclose(outputs(IMAGES, reading)[0], expected, rtol=1e-5)


def test_vectors_are_read_as_they_are():
    images = keras.Input((4, 4, 3))
    flat = keras.layers.Flatten()(images)
    outputs = LayerOutputs(keras.Model(images, [flat, flat]))
    np.testing.assert_array_equal(
        outputs(IMAGES, "average")[1], IMAGES.reshape(len(IMAGES), -1)
    )
    with pytest.raises(ValueError, match="needs its tokens"):
        outputs(IMAGES, "map")


# === What is refused ===
def test_layers_that_do_not_exist():
    layers = intermediate_model(chain(2), ["block_0"])
    with pytest.raises(ValueError, match="no layer 'block_1'"):
        LayerOutputs(layers, ["block_1"])
    with pytest.raises(ValueError, match="no layer 'head'"):
        intermediate_model(chain(1), ["head"])
    for wrong in ([], (), 2, None):
        with pytest.raises(ValueError, match="a list of at least one layer"):
            LayerOutputs(chain(2), wrong)
    with pytest.raises(ValueError, match='expected "all"'):
        LayerOutputs(layers, "last")


def test_one_tensor_is_no_layers():
    with pytest.raises(TypeError, match="intermediate_model"):
        LayerOutputs(chain(1))


def test_readings_that_are_not_there():
    layers = LayerOutputs(intermediate_model(chain(1), ["block_0"]))
    with pytest.raises(ValueError, match="without a class token"):
        layers(IMAGES, "class_token")
    with pytest.raises(ValueError, match="reading='mean'"):
        layers(IMAGES, "mean")
    with pytest.raises(ValueError, match="put the norm in the model"):
        LayerOutputs(layers.encoder, norm=True)


def test_patches_that_are_no_square():
    images = keras.Input((4, 4, 3))
    outputs = LayerOutputs(
        keras.Model(images, Tokens(1, prefix=1)(images)), prefix_tokens=0
    )
    with pytest.raises(ValueError, match="17 patches are no square"):
        outputs(IMAGES, "map")
