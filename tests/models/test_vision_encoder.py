"""The vision tower: sizes, layers, truncation, configuration, adaptation."""

import gc
import weakref

import keras
import numpy as np
import pytest

import keras_pe
from tests.arrays import to_numpy
from tests.small_models import VISION, images, perturb, vision_encoder

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("size", [(8, 8), (40, 16)])  # the usual one is below
@pytest.mark.parametrize("class_token", [True, False])
@pytest.mark.slow
def test_any_size_in_whole_patches(size, class_token):
    encoder = vision_encoder(class_token=class_token)
    assert tuple(encoder(images(2, *size)).shape) == (2, 16)


@pytest.mark.parametrize(
    ("pooling", "output_dim", "shape"),
    [
        ("attention", 16, (2, 16)),
        ("token", 16, (2, 16)),
        ("average", None, (2, 32)),
        (None, None, (2, 17, 32)),
        (None, 16, (2, 17, 16)),
    ],
)
def test_output_shapes(pooling, output_dim, shape):
    encoder = vision_encoder(pooling=pooling, output_dim=output_dim)
    assert tuple(encoder(images()).shape) == shape
    assert encoder.compute_output_shape((2, 32, 32, 3)) == shape


def test_pooling_kinds_read_the_tokens():
    tokens = vision_encoder(pooling=None, output_dim=None)
    values = to_numpy(perturb(tokens)(images()))
    for pooling, expected in (("token", values[:, 0]), ("average", values.mean(1))):
        encoder = vision_encoder(pooling=pooling, output_dim=None)
        encoder.set_weights(tokens.get_weights())
        np.testing.assert_allclose(to_numpy(encoder(images())), expected, atol=1e-5)


@pytest.mark.slow
def test_features_say_what_they_are():
    encoder = perturb(vision_encoder())
    found = encoder.features(images(1, 32, 48), layers=[-1, 0, 2], class_token=True)
    assert [f.layer for f in found] == [3, 0, 2]
    assert all(f.grid == (4, 6) and f.class_token and not f.normed for f in found)
    assert tuple(found[0].values.shape) == (1, 25, 32)
    one = encoder.features(images(1, 32, 48), layers=2)
    assert isinstance(one, keras_pe.models.features.Features)
    np.testing.assert_allclose(
        to_numpy(one.values), to_numpy(found[2].values)[:, 1:], atol=1e-5
    )
    assert tuple(one.map().shape) == (1, 4, 6, 32)


@pytest.mark.slow
def test_head_of_the_last_features_is_the_output():
    encoder = perturb(vision_encoder())
    x = images()
    last = encoder.features(x, layers=-1, class_token=True)
    np.testing.assert_allclose(
        to_numpy(encoder.head(last.values)), to_numpy(encoder(x)), atol=1e-4
    )


def test_features_run_no_block_past_the_last_asked_for():
    encoder = perturb(vision_encoder())
    before = to_numpy(encoder.features(images(), layers=1).values)
    for variable in encoder.blocks[2].weights:  # would poison what runs through it
        variable.assign(np.full(tuple(variable.shape), np.nan, "float32"))
    after = to_numpy(encoder.features(images(), layers=1).values)
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": 4}, "layers 0 .* to 3"),
        ({"layers": [-4]}, "got -4"),
        ({"layers": 1.5}, "whole numbers"),
    ],
)
def test_layers_that_do_not_exist(arguments, message):
    encoder = vision_encoder()
    with pytest.raises((ValueError, TypeError), match=message):
        encoder.features(images(), **arguments)


def test_features_that_an_encoder_cannot_give():
    tokens = vision_encoder(class_token=False, final_norm=False)
    with pytest.raises(ValueError, match="without a final norm"):
        tokens.features(images(), norm=True)
    with pytest.raises(ValueError, match="without a class token"):
        tokens.features(images(), class_token=True)


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.slow
def test_truncated_encoder_gives_the_features(norm):
    encoder = perturb(vision_encoder())
    expected = encoder.features(images(), layers=2, norm=norm, class_token=True)
    small = encoder.truncate(-2, norm=norm)
    assert small.num_layers == 2
    np.testing.assert_allclose(
        to_numpy(small(images())), to_numpy(expected.values), atol=1e-5
    )


@pytest.mark.slow
def test_kept_patches_equal_the_same_patches_of_the_whole():
    encoder = perturb(vision_encoder(pooling="token", output_dim=None))
    everything = np.tile(np.arange(16), (2, 1))
    np.testing.assert_allclose(
        to_numpy(encoder(images(), kept_patches=everything)),
        to_numpy(encoder(images())),
        atol=1e-5,
    )
    # Attention is a set operation: the order of the patches does not matter, only
    # which positions they carry.
    shuffled = np.random.default_rng(0).permuted(everything, axis=1)
    np.testing.assert_allclose(
        to_numpy(encoder(images(), kept_patches=shuffled)),
        to_numpy(encoder(images())),
        atol=1e-4,
    )
    x = images()
    blanked = x.copy()
    blanked[:, 8:] = 0.0
    first_row = everything[:, :4]
    np.testing.assert_allclose(
        to_numpy(encoder(x, kept_patches=first_row)),
        to_numpy(encoder(blanked, kept_patches=first_row)),
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 30}, "multiple of patch_size"),
        ({"num_heads": 5}, "num_heads must divide"),
        ({"num_heads": 16}, "multiple of 4"),
        ({"pooling": "max"}, "pooling must be"),
        ({"pooling": "token", "class_token": False}, "needs class_token=True"),
        ({"drop_path": 1.0}, r"drop_path must be in \[0, 1\)"),
        ({"num_layers": 0}, "at least 1"),
    ],
)
def test_sizes_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        vision_encoder(**changes)


def test_unknown_arguments_raise():
    with pytest.raises(TypeError, match="widht"):
        keras_pe.PEVisionEncoder(**VISION, widht=3)


def test_wrong_images_are_explained():
    encoder = vision_encoder()
    with pytest.raises(ValueError, match=r"floating point in \[-1, 1\], got uint8"):
        encoder.encode(np.zeros((1, 32, 32, 3), "uint8"))
    with pytest.raises(ValueError, match="channels-last"):
        encoder.encode(np.zeros((1, 3, 32, 32), "float32"))
    with pytest.raises(ValueError, match="multiples of the patch size 8"):
        encoder.encode(images(1, 33, 32))


@pytest.mark.slow
def test_configuration_round_trip():
    encoder = vision_encoder(layer_scale=0.1, drop_path=0.2, class_token=False)
    copy = keras_pe.PEVisionEncoder.from_config(encoder.get_config())
    assert copy.get_config() == encoder.get_config()
    copy.set_weights(encoder.get_weights())
    np.testing.assert_array_equal(to_numpy(copy(images())), to_numpy(encoder(images())))


@pytest.mark.slow
def test_saved_model_comes_back(tmp_path):
    encoder = perturb(vision_encoder())
    encoder.save(tmp_path / "encoder.keras")
    copy = keras.saving.load_model(tmp_path / "encoder.keras")
    np.testing.assert_array_equal(to_numpy(copy(images())), to_numpy(encoder(images())))


@pytest.mark.slow
def test_drop_path_acts_in_training_alone():
    encoder = perturb(vision_encoder(drop_path=0.9))
    x = images(8)
    still = to_numpy(encoder(x, training=False))
    np.testing.assert_array_equal(still, to_numpy(encoder(x, training=False)))
    assert not np.allclose(to_numpy(encoder(x, training=True)), still)
    assert encoder.drop_path_rates() == pytest.approx([0.0, 0.45, 0.9])


@pytest.mark.parametrize("policy", ["bfloat16", "mixed_bfloat16"])
@pytest.mark.slow
def test_low_precision_stays_close(policy):
    encoder = perturb(vision_encoder())
    low = vision_encoder(dtype=policy)
    low.set_weights(encoder.get_weights())
    assert keras.backend.standardize_dtype(low(images()).dtype) == "bfloat16"
    x, y = to_numpy(low(images())).ravel(), to_numpy(encoder(images())).ravel()
    assert x @ y / np.linalg.norm(x) / np.linalg.norm(y) > 0.999


@pytest.mark.slow
def test_lora_trains_little_and_starts_as_the_identity():
    encoder = perturb(vision_encoder())
    before = to_numpy(encoder.encode(images()))
    encoder.enable_lora(2)
    np.testing.assert_allclose(to_numpy(encoder.encode(images())), before, atol=1e-6)
    names = {variable.path.split("/")[-1] for variable in encoder.trainable_variables}
    assert names == {"lora_kernel_a", "lora_kernel_b"}
    assert len(encoder.trainable_variables) == 3 * 4 * 2
    other = vision_encoder()
    for rank in (0, 1.5, float("nan"), "4", None):
        with pytest.raises(ValueError, match="rank must be a whole number of at least"):
            other.enable_lora(rank)
    for alpha in (float("inf"), float("nan"), "2"):
        with pytest.raises(ValueError, match="alpha must be a finite number, or None"):
            other.enable_lora(2, alpha)
    assert not other.has_lora


def test_quantised_weights_are_freed_without_a_collection():
    """Why `quantize` can keep the garbage collector to little."""
    encoder = vision_encoder(num_layers=1)
    encoder(images(1))
    before = gc.get_freeze_count()
    kernels = [weakref.ref(block.attention.qkv._kernel) for block in encoder.blocks]
    gc.disable()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(gc, "collect", lambda *_: 0)
            encoder.quantize("int8")
        assert [kernel() for kernel in kernels] == [None]
    finally:
        gc.enable()
    assert bool(gc.get_freeze_count()) == bool(before)


@pytest.mark.slow
def test_int8_stays_close():
    encoder = perturb(vision_encoder())
    x = to_numpy(encoder.encode(images())).ravel()
    encoder.quantize("int8")
    y = to_numpy(encoder.encode(images())).ravel()  # compiled anew by itself
    assert not np.array_equal(x, y)
    assert x @ y / np.linalg.norm(x) / np.linalg.norm(y) > 0.995


@pytest.mark.slow
@pytest.mark.compiled
def test_new_weights_take_effect_in_the_compiled_function():
    encoder = perturb(vision_encoder())
    first = to_numpy(encoder.encode(images()))
    perturb(encoder, seed=1)
    second = to_numpy(encoder.encode(images()))
    np.testing.assert_allclose(second, to_numpy(encoder(images())), atol=1e-5)
    assert not np.allclose(first, second)


@pytest.mark.slow
@pytest.mark.compiled
def test_models_are_released():
    import gc
    import weakref

    encoder = vision_encoder()
    encoder.encode(images())
    gone = weakref.ref(encoder)
    del encoder
    gc.collect()
    assert gone() is None  # the compiled function holds no model alive


@pytest.mark.compiled
@pytest.mark.slow
def test_unscaled_images_never_pass_for_numbers_in_a_compiled_step():
    pixels = keras.Input((32, 32, 3))
    model = keras.Model(pixels, perturb(vision_encoder())(pixels))
    model.compile("sgd", "mse")
    good = images(3)
    expected = model.predict(good, verbose=0)
    assert np.isfinite(expected).all()
    wrong = good.copy()
    wrong[1] = 127.5 * (wrong[1] + 1)
    if keras.backend.backend() == "torch":  # runs eagerly: values are known
        for step in (model.predict, lambda x: model.fit(x, expected)):
            with pytest.raises(ValueError, match=r"Rescaling\(1 / 127.5, offset=-1\)"):
                step(wrong)
        return
    found = model.predict(wrong, verbose=0)
    assert np.isnan(found[1]).all()
    np.testing.assert_allclose(found[[0, 2]], expected[[0, 2]], atol=1e-6)
    history = model.fit(wrong, expected, verbose=0).history
    assert np.isnan(history["loss"][0])


@pytest.mark.compiled
def test_images_within_reason_pass_in_a_compiled_step():
    pixels = keras.Input((32, 32, 3))
    model = keras.Model(pixels, vision_encoder(num_layers=1)(pixels))
    for edge in (-10.0, 1.0, 10.0):
        x = images()
        x[0, 0, 0, 0] = edge
        assert np.isfinite(model.predict(x, verbose=0)).all(), edge
