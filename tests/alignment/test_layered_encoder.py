"""Other libraries' encoders: which layers are found, and what they give."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_pe.alignment import LayeredEncoder
from keras_pe.probing import intermediate_model
from tests.alignment.stand_in import (
    CHANNELS,
    LAYERS,
    PATCH,
    SIDE,
    Block,
    encoder,
    images,
    kerashub,
)
from tests.arrays import to_numpy

NAMES = [f"block_{number}" for number in range(1, LAYERS + 1)]
MASKS = np.arange(2 * 16).reshape(2, 16) % 3 == 0


def tokens_of(layered, layers=(1, 2, 3), **options):
    x = ops.convert_to_tensor(images(2))
    return [to_numpy(x) for x in layered.layer_tokens(x, layers, **options)]


# === Which layers ===
@pytest.mark.parametrize("given_as", ["numbered", "named", "list", "dictionary"])
def test_layers_are_found(given_as):
    model, named = encoder(), None
    layers = intermediate_model(model, NAMES)
    wanted = [to_numpy(x) for x in layers([images(2)]).values()]
    if given_as == "named":
        named = NAMES
    elif given_as == "list":
        model = keras.Model(model.inputs, [layers.output[name] for name in NAMES])
    elif given_as == "dictionary":
        model = layers
    layered = LayeredEncoder(model, named, patch_size=PATCH)
    assert (layered.num_layers, layered.hidden_dim) == (LAYERS, CHANNELS)
    assert (layered.prefix_tokens, layered.own_grid) == (1, (4, 4))
    for found, right in zip(tokens_of(layered), wanted, strict=True):
        np.testing.assert_array_equal(found, right)
    np.testing.assert_array_equal(tokens_of(layered, [-1])[0], wanted[-1])
    np.testing.assert_array_equal(to_numpy(layered(images(2))[1]), wanted[1])


def test_maps_are_tokens():
    x = inputs = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Conv2D(CHANNELS, PATCH, PATCH)(x)
    outputs = [keras.layers.Dense(CHANNELS)(x) for _ in range(2)]
    model = keras.Model(inputs, outputs)
    layered = LayeredEncoder(model)
    assert (layered.patch_size, layered.prefix_tokens) == (PATCH, 0)
    for found, right in zip(tokens_of(layered, [1, 2]), model(images(2)), strict=True):
        np.testing.assert_array_equal(found, to_numpy(right).reshape(2, 16, CHANNELS))


def test_what_lies_behind_the_last_block_is_no_part_of_it():
    model = encoder()
    layered = LayeredEncoder(model)
    behind = {id(v) for v in model.get_layer("final").variables}
    assert {id(v) for v in layered.variables} == {
        id(v) for v in model.variables if id(v) not in behind
    }


# === Hidden patches ===
def test_hidden_patches_are_painted_with_the_mean_colour_and_one_that_is_learned():
    layered, colour = LayeredEncoder(encoder()), np.array([0.5, -0.25, 0.0], "float32")
    x = images(2)
    painted = x.copy()
    for row, patch in np.argwhere(MASKS):
        down, across = (PATCH * i for i in divmod(patch, SIDE // PATCH))
        colour_here = x[row].mean(axis=(0, 1)) + colour
        painted[row, down : down + PATCH, across : across + PATCH] = colour_here
    found = layered.layer_tokens(
        ops.convert_to_tensor(x),
        [-1],
        masked_patches=ops.convert_to_tensor(MASKS),
        mask_embedding=ops.convert_to_tensor(colour),
    )
    wanted = layered.layer_tokens(ops.convert_to_tensor(painted), [-1])
    np.testing.assert_allclose(to_numpy(found[0]), to_numpy(wanted[0]), atol=1e-5)
    assert np.abs(to_numpy(found[0]) - tokens_of(layered, [-1])[0]).max() > 0.1


# === Copies ===
def test_a_copy_has_weights_of_its_own():
    model = encoder()
    model.get_layer("block_1").trainable = False
    layered = LayeredEncoder(model)
    before = tokens_of(layered)
    copy, reader = layered.copied()
    assert all(weight.trainable for weight in copy.weights)
    np.testing.assert_array_equal(to_numpy(copy(images(2))), to_numpy(model(images(2))))
    for weight in copy.weights:
        weight.assign(0.0 * weight)
    assert not np.array_equal(tokens_of(reader)[0], before[0])
    np.testing.assert_array_equal(tokens_of(layered), before)
    assert not model.get_layer("block_1").trainable


# === KerasHub's own ===
@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "prefix"), [("dinov2", 3), ("clip", 1), ("siglip", 0)]
)
def test_kerashub_is_read(kind, prefix):
    model = kerashub(kind)
    layered = LayeredEncoder(model)
    assert layered.prefix_tokens == prefix
    assert (layered.num_layers, layered.own_grid) == (3, (4, 4))
    x = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype("float32")
    found = [to_numpy(tokens) for tokens in layered(x)]
    assert found[0].shape == (2, 16 + prefix, 16)
    assert not np.allclose(found[0], found[1])
    norm = model.layers[-1]
    if kind != "siglip":  # which pools
        whole = to_numpy(model({"images": x}))
        np.testing.assert_allclose(to_numpy(norm(found[-1])), whole, atol=1e-5)
    copy, reader = layered.copied()
    assert type(copy) is type(model)
    np.testing.assert_allclose(to_numpy(reader(x)[-1]), found[-1], atol=1e-6)


# === What is refused ===
def blocks(*names, widths=None):
    """Returns a model whose layers have these names."""
    x = inputs = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Reshape((16, 48), name="patches")(x)
    for name, width in zip(names, widths or [CHANNELS] * len(names), strict=True):
        x = keras.layers.Dense(width, name=name)(x)
    return keras.Model(inputs, x)


def of_size(*shape):
    inputs = keras.Input(shape)
    return keras.Model(inputs, [keras.layers.Dense(4)(inputs)] * 2)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda: blocks("first", "second"), {}, "can't be told"),
        (lambda: blocks("a_1", "a_2", "b_1", "b_2"), {}, "can't be told"),
        (lambda: blocks("a_1", "a_2", widths=[4, 8]), {}, "can't be told"),
        (lambda: blocks("a_1", "a_2"), {"layers": ["a_1", "a_3"]}, "no layer 'a_3'"),
        (lambda: blocks("a_1", "b", widths=[4, 8]), {"layers": ["a_1", "b"]}, "known"),
        (lambda: blocks("a_1", "a_2"), {}, "patch_size=None"),
        (lambda: blocks("a_1", "a_2"), {"patch_size": 5}, "patch_size=5"),
        (lambda: blocks("a_1", "a_2"), {"patch_size": 2}, "8x8 patches"),
        (lambda: of_size(None, None, 3), {}, "of one known size"),
        (lambda: of_size(3, 8, 8), {}, "channels_last"),
    ],
)
def test_models_whose_layers_can_not_be_told_are_refused(make, options, message):
    with pytest.raises(ValueError, match=message):
        LayeredEncoder(make(), **options)


@pytest.mark.quick
def test_subclassed_models_are_refused():
    class Subclassed(keras.Model):
        def call(self, images):
            return Block(CHANNELS)(images)

    with pytest.raises(TypeError, match="functional Keras models, got Subclassed"):
        LayeredEncoder(Subclassed())
    stacked = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(4, 4, 4)])
    with pytest.raises(TypeError, match="functional Keras models, got Sequential"):
        LayeredEncoder(stacked)


@pytest.mark.quick
def test_numbered_layers_of_a_convolutional_network_are_no_blocks():
    x = inputs = keras.Input((16, 16, 3))
    for number, strides in enumerate((2, 2, 1, 1)):
        x = keras.layers.Conv2D(4, 1, strides, name=f"conv_{number}")(x)
    with pytest.raises(ValueError, match=r"maps of several sizes, \[\(4, 4\), \(8, 8"):
        LayeredEncoder(keras.Model(inputs, x))
    names = ["conv_2", "conv_3"]
    assert LayeredEncoder(keras.Model(inputs, x), names).own_grid == (4, 4)


@pytest.mark.quick
def test_images_and_masks_of_another_size_are_refused():
    layered = LayeredEncoder(encoder())
    with pytest.raises(ValueError, match=r"reads images \(16, 16, 3\), got \(8, 16"):
        layered.layer_tokens(np.zeros((1, 8, 16, 3), "float32"), [1])
    for masks in (MASKS[:1], MASKS[:, :9]):
        with pytest.raises(ValueError, match=r"\(2, 16\), got"):
            layered.layer_tokens(
                ops.convert_to_tensor(images(2)),
                [1],
                masked_patches=masks,
                mask_embedding=np.zeros(3, "float32"),
            )


@pytest.mark.quick
@pytest.mark.parametrize(("layer", "message"), [(0, "layer 0"), (4, "layers 0")])
def test_layers_that_are_not_there_are_refused(layer, message):
    with pytest.raises(ValueError, match=message):
        LayeredEncoder(encoder()).layer_tokens(images(1), [layer])
