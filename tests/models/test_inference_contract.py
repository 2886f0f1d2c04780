"""Inference gives plain arrays: no gradient, no graph, NumPy reads them."""

import copy
import gc
import io
import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_pe.models.embedding import embed_images, embed_texts
from tests.small_models import core, images, perturb, token_ids

BACKEND = keras.backend.backend()
pytestmark = pytest.mark.quick


def calls(model):
    """Returns every inference call, each with the layer call that it is a twin of."""
    vision, text = model.vision_encoder, model.text_encoder
    frames = images(4).reshape(2, 2, 32, 32, 3)
    ids = token_ids(3)

    def tokens(x, layer):
        return vision.layer_tokens(x, [layer])[0][:, 1:]

    def both(x):
        return model({"images": x, "token_ids": ops.convert_to_tensor(ids[:2])})

    def video(x):
        flat = ops.reshape(x, (4, 32, 32, 3))
        return ops.mean(ops.reshape(vision(flat), (2, 2, -1)), axis=1)

    return {
        "encode_image": (
            model.encode_image,
            images(),
            lambda x: both(x)["image_embeddings"],
        ),
        "raw image": (
            lambda x, **k: model.encode_image(x, normalize=False, **k),
            images(),
            vision,
        ),
        "encode_video": (
            lambda x, **k: model.encode_video(
                x, normalize=False, frame_average="raw", **k
            ),
            frames,
            video,
        ),
        "vision.encode": (vision.encode, images(), vision),
        "features": (
            lambda x, **k: vision.features(x, layers=2, **k).values,
            images(),
            lambda x: tokens(x, 2),
        ),
        "encode_text": (
            model.encode_text,
            ids,
            lambda x: model(
                {"images": ops.convert_to_tensor(images(3)), "token_ids": x}
            )["text_embeddings"],
        ),
        "text.encode": (text.encode, ids, text),
    }


NAMES = list(calls(core()))
OUTPUTS = ("encode_image", "features", "encode_text")  # the others are made of these
SLOW = pytest.mark.slow


def float32(x):
    return np.asarray(x).astype("float32")


def gradient_of(model, variable, function, inputs, compiled):
    """Returns the gradient of a number that all of a function's values are part of."""

    def score(x):
        return ops.sum(ops.sin(3.0 * ops.cast(function(x), "float32")))

    if BACKEND == "torch":
        variable.value.grad = None
        score(inputs).backward()
        return ops.convert_to_numpy(ops.cast(variable.value.grad, "float32"))
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = score(inputs)
        return ops.convert_to_numpy(tape.gradient(loss, variable.value))
    import jax

    def loss(value):
        with keras.StatelessScope(state_mapping=[(variable, value)]):
            return score(inputs)

    # Or each operation would be compiled by itself.
    grad = jax.jit(jax.grad(loss)) if compiled else jax.grad(loss)
    return np.asarray(grad(variable.value))


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *(
            pytest.param(
                n,
                "float32",
                marks=[pytest.mark.compiled, *([] if n in OUTPUTS else [SLOW])],
            )
            for n in NAMES
        ),
        *(pytest.param(n, "bfloat16", marks=SLOW) for n in OUTPUTS),
    ],
)
def test_results_are_plain_arrays_of_the_right_value(name, dtype):
    model = perturb(core(dtype=dtype))
    infer, inputs, layer = calls(model)[name]
    found = infer(inputs)
    assert not getattr(found, "requires_grad", False)
    assert getattr(found, "grad_fn", None) is None
    array = np.asarray(found)
    assert array.dtype.name == keras.backend.standardize_dtype(found.dtype)
    expected = ops.convert_to_numpy(
        ops.cast(layer(ops.convert_to_tensor(inputs)), "float32")
    )
    scale = np.abs(expected).max()
    tolerance = 1e-5 if dtype == "float32" else 0.05
    np.testing.assert_allclose(float32(found), expected, atol=tolerance * scale)
    np.testing.assert_array_equal(np.asarray(infer(inputs)), array)
    # Still a tensor of the backend: further operations take it as it is.
    doubled = ops.convert_to_numpy(ops.cast(found * 2, "float32"))
    np.testing.assert_array_equal(doubled, 2 * float32(found))
    np.testing.assert_array_equal(np.asarray(copy.deepcopy(found)), array)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(NAMES[0], marks=pytest.mark.compiled),
        *(
            pytest.param(name, marks=SLOW if name in OUTPUTS else pytest.mark.once)
            for name in NAMES[1:]
        ),
    ],
)
def test_gradient_on_request_is_that_of_the_layer(name):
    model = perturb(core())
    infer, inputs, layer = calls(model)[name]
    inputs = ops.convert_to_tensor(inputs)
    tower = model.text_encoder if "text" in name else model.vision_encoder
    variable = tower.blocks[0].feed_forward.expand._kernel
    compiled = name != NAMES[0]
    expected = gradient_of(model, variable, layer, inputs, compiled)
    asked = gradient_of(
        model, variable, lambda x: infer(x, gradient=True), inputs, compiled
    )
    assert np.abs(expected).max() > 1e-5
    np.testing.assert_allclose(asked, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.skipif(BACKEND == "jax", reason="JAX differentiates traces, not results")
@pytest.mark.compiled
def test_no_gradient_flows_unless_it_is_asked_for():
    model = perturb(core())
    if BACKEND == "torch":
        assert not model.encode_image(images()).requires_grad
        assert model.encode_image(images(), gradient=True).requires_grad
        return
    import tensorflow as tf

    with tf.GradientTape(persistent=True) as tape:
        plain = ops.sum(model.encode_image(images(), normalize=False))
        asked = ops.sum(model.encode_image(images(), normalize=False, gradient=True))
    weight = model.vision_encoder.projection._kernel.value
    assert tape.gradient(plain, weight) is None
    assert tape.gradient(asked, weight) is not None


class Head(keras.Model):
    """Trains on an encoder's features from inside its own call."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder
        self.dense = keras.layers.Dense(3)

    def call(self, x):
        return self.dense(self.encoder.features(x, layers=2).values)


@pytest.mark.compiled
def test_inside_a_model_that_trains_the_encoder_trains_too():
    encoder = core().vision_encoder
    model = Head(encoder)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    weight = encoder.blocks[0].attention.qkv._kernel
    before = ops.convert_to_numpy(weight).copy()
    model.fit(images(4), np.ones((4, 16, 3), "float32"), verbose=0)
    assert np.abs(ops.convert_to_numpy(weight) - before).max() > 1e-6


def test_a_head_trains_on_what_was_encoded_before():
    model = core()
    features = model.encode_image(images(4))
    head = keras.Sequential([keras.layers.Dense(2)])
    head.compile(keras.optimizers.SGD(0.1), "mse")
    losses = [head.train_on_batch(features, np.eye(4)[:, :2]) for _ in range(3)]
    assert losses[2] < losses[0]


def test_embeddings_of_lists_are_numpy():
    model = perturb(core())
    found = embed_images(model, images(5), batch_size=2)
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(
        found, np.asarray(model.encode_image(images(5))), atol=1e-5
    )

    def tokenizer(texts):
        return token_ids(len(texts))

    found = embed_texts(model, tokenizer, ["a", "b", "c"], batch_size=2)
    assert isinstance(found, np.ndarray)
    assert found.shape == (3, 16)


# === PyTorch alone ===
torch_only = pytest.mark.skipif(BACKEND != "torch", reason="PyTorch's own")


@torch_only
def test_results_own_no_more_than_their_values():
    encoder = core().vision_encoder
    found = encoder.features(images(), layers=[0, 2])
    for features in found:
        values = features.values
        assert values.untyped_storage().nbytes() == values.nbytes


@torch_only
def test_results_in_bfloat16_are_saved_and_compiled_as_ordinary_tensors():
    import torch

    model = core(dtype="bfloat16")
    found = model.encode_image(images(), normalize=False)
    assert found.dtype is torch.bfloat16
    assert type(found + 1) is torch.Tensor
    assert type(found[:1]) is torch.Tensor
    file = io.BytesIO()
    torch.save({"features": found}, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)["features"]
    assert type(loaded) is torch.Tensor
    assert torch.equal(loaded, found)


@torch_only
def test_function_transforms_see_an_ordinary_layer():
    import torch

    encoder = core().vision_encoder
    x = torch.from_numpy(images(1))
    found = torch.func.grad(lambda x: encoder.encode(x).square().sum())(x)
    leaf = x.clone().requires_grad_()
    encoder(leaf).square().sum().backward()
    torch.testing.assert_close(found, leaf.grad)


@pytest.mark.skipif(BACKEND == "torch", reason="PyTorch compiles what is no tensor")
@pytest.mark.compiled
def test_a_compiled_function_takes_and_returns_features():
    encoder = core().vision_encoder
    x = ops.convert_to_tensor(images(3))

    def both(x):
        return encoder.features(x, layers=[1, -1], class_token=True)

    if BACKEND == "jax":
        import jax

        compiled = jax.jit(both)(x)
        patches = jax.jit(lambda found: found.map())(compiled[1])
    else:
        import tensorflow as tf

        compiled = tf.function(both)(x)
        patches = tf.function(lambda found: found.map())(compiled[1])
    for found, expected in zip(compiled, both(x), strict=True):
        assert repr(found) == repr(expected)  # layer, norm, grid and class token
        np.testing.assert_allclose(found.values, expected.values, atol=1e-5)
    expected = np.asarray(both(x)[1].values)[:, 1:].reshape(3, 4, 4, 32)
    np.testing.assert_allclose(patches, expected, atol=1e-5)


@torch_only
def test_no_graph_is_kept():
    import torch

    model = core()
    kept = [model.encode_image(images()) for _ in range(3)]
    gc.collect()
    assert all(tensor.grad_fn is None for tensor in kept)
    graphs = [
        item
        for item in gc.get_objects()
        if isinstance(item, torch.Tensor)
        and not isinstance(item, torch.nn.Parameter)
        and item.grad_fn is not None
    ]
    assert not graphs


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow counts its traces")
@pytest.mark.compiled
@pytest.mark.slow
def test_many_models_are_no_retracing(caplog):
    for _ in range(6):  # the fifth would be warned of
        core().encode_image(images())
    assert "retracing" not in caplog.text


# === Input that can't be right ===
@pytest.mark.parametrize("kind", ["uint8", "int32", "0..255", "normalised twice"])
def test_unscaled_images_are_refused(kind):
    model = core()
    raw = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3))
    images = {
        "uint8": raw.astype("uint8"),
        "int32": raw.astype("int32"),
        "0..255": raw.astype("float32"),
        "normalised twice": raw.astype("float32") / 127.5 - 20,
    }[kind]
    vision = model.vision_encoder
    for function in (
        model.encode_image,
        vision.encode,
        vision.features,
        vision.feature_map,
        vision,
        lambda x: model.encode_video(x[None]),
    ):
        with pytest.raises(ValueError, match=r"floating point in \[-1, 1\], got"):
            function(images)


def test_images_of_nan_are_refused_by_place():
    model = core()
    images = np.zeros((3, 32, 32, 3), "float32")
    images[1, 4, 5, 0] = np.nan
    for function in (model.encode_image, model.vision_encoder.features):
        with pytest.raises(ValueError, match="images: image 1 of 3 holds NaN"):
            function(images)


@pytest.mark.parametrize("step", ["predict", "fit", "whole model", "functional"])
@pytest.mark.compiled
def test_whole_numbers_are_refused_where_values_are_not_known(step):
    model = core()
    vision = model.vision_encoder
    images = np.zeros((2, 32, 32, 3), "uint8")
    vision.compile("sgd", "mse")
    pixels = keras.Input((32, 32, 3), dtype="uint8")
    both = {"images": images, "token_ids": token_ids(2)}
    call = {
        "predict": lambda: vision.predict(images, verbose=0),
        "fit": lambda: vision.fit(images, np.zeros((2, 16)), verbose=0),
        "whole model": lambda: model.predict(both, verbose=0),
        "functional": lambda: keras.Model(pixels, vision(pixels)).predict(
            images, verbose=0
        ),
    }[step]
    with pytest.raises(ValueError, match="got uint8"):
        call()


def test_images_within_reason_are_taken():
    model = core()
    for edge in (-10.0, 1.0, 10.0):
        x = images()
        x[0, 0, 0, 0] = edge
        assert np.isfinite(np.asarray(model.encode_image(x))).all(), edge


def test_files_and_texts_are_told_what_makes_arrays_of_them(tmp_path):
    model = core()
    for wrong in (["cat.png"], "cat.png", [tmp_path / "cat.png"], [io.BytesIO(b"x")]):
        for function in (model.encode_image, model.vision_encoder.features):
            with pytest.raises(TypeError, match="PEImageConverter"):
                function(wrong)
    for wrong in (["a cat"], "a cat", np.array(["a cat"])):
        with pytest.raises(TypeError, match=r"got texts .*PETokenizer\("):
            model.encode_text(wrong)
    with pytest.raises(ValueError, match="one size"):
        model.encode_image([images()[0], images(1, 40)[0]])
    listed = model.encode_image(list(images(2)))
    np.testing.assert_array_equal(
        np.asarray(listed), np.asarray(model.encode_image(images(2)))
    )


@pytest.mark.parametrize("integer", [2, np.int64(2), np.uint8(2)])
def test_one_layer_asked_for_is_one_layer_given(integer):
    found = core().vision_encoder.features(images(), layers=integer)
    assert found.layer == 2


# === Ids that do not exist ===
@pytest.mark.parametrize("wrong", [600, -1, 49407])
def test_ids_outside_the_vocabulary_are_refused(wrong):
    model = core()
    ids = token_ids(3)
    ids[1, 1] = wrong
    for function in (model.encode_text, model.text_encoder.encode, model.text_encoder):
        with pytest.raises(ValueError, match=r"from 0 to 599, got .*vocabulary_size"):
            function(ids)


@pytest.mark.compiled
def test_in_a_trace_a_text_with_unknown_ids_is_nan_and_no_other():
    text = core().text_encoder
    inputs = keras.Input((8,), dtype="int32")
    model = keras.Model(inputs, text(inputs))  # its `predict` is Keras' own
    for wrong in (600, -1):
        ids = token_ids(3)
        ids[1, 1] = wrong
        if BACKEND == "torch":  # predict runs eagerly: the ids are seen
            with pytest.raises(ValueError, match="from 0 to 599"):
                model.predict(ids, verbose=0)
            continue
        found = model.predict(ids, verbose=0)
        assert np.isnan(found[1]).all()
        np.testing.assert_allclose(
            found[[0, 2]], np.asarray(text.encode(ids[[0, 2]])), atol=1e-5
        )
        assert not math.isnan(float(found[0, 0]))
