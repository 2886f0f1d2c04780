"""Other patch and image sizes: the projection's resize, the copy, the receipt."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_pe
from keras_pe.layers.patch_embedding import resample_positions
from keras_pe.models.conversion_receipt import conversion_receipt
from keras_pe.models.convert import resize_kernel, resize_matrix
from tests.arrays import to_numpy
from tests.small_models import images, perturb, vision_encoder

pytestmark = pytest.mark.slow


def resized(x, side):
    """Keras' own resize, which the matrices must equal."""
    return to_numpy(
        ops.image.resize(
            ops.convert_to_tensor(x.astype("float32")),
            (side, side),
            interpolation="bilinear",
            antialias=True,
            data_format="channels_last",
        )
    )


def kernel(side, channels=3, hidden_dim=5):
    return np.random.default_rng(0).normal(size=(side, side, channels, hidden_dim))


def project(patches, weights):  # (..., side, side, channels), (side, side, ...)
    return np.einsum("...ijc,ijch->...h", patches, weights)


@pytest.mark.parametrize(("size", "native"), [(7, 4), (4, 7), (8, 4), (5, 5)])
def test_resize_matrix_is_the_resize_of_images(size, native):
    x = np.random.default_rng(1).normal(size=(1, native, native, 2))
    matrix = resize_matrix(size, native)
    found = np.einsum("ia,jb,nabc->nijc", matrix, matrix, x)
    np.testing.assert_allclose(found, resized(x, size), atol=1e-5)


@pytest.mark.parametrize("size", [5, 7, 8])
def test_pseudo_inverse_reads_enlarged_patches_as_they_were(size):
    patches = np.random.default_rng(2).normal(size=(6, 4, 4, 3))
    weights = resize_kernel(kernel(4), size, "pseudo_inverse")
    np.testing.assert_allclose(
        project(resized(patches, size), weights), project(patches, kernel(4)), atol=1e-4
    )


def test_pseudo_inverse_is_nearest_where_patches_shrink():
    """Least squares over all patches: no other projection has a smaller error."""
    weights = resize_kernel(kernel(4), 3, "pseudo_inverse")
    matrix = resize_matrix(3, 4)
    shrink = np.einsum("ia,jb->ijab", matrix, matrix).reshape(9, 16)
    old = kernel(4).transpose(0, 1, 3, 2).reshape(16, -1)
    new = weights.transpose(0, 1, 3, 2).reshape(9, -1)
    expected, *_ = np.linalg.lstsq(shrink.T, old, rcond=None)
    np.testing.assert_allclose(new, expected, atol=1e-8)


@pytest.mark.parametrize("size", [3, 5, 8])
def test_bilinear_reads_patches_as_resized_back(size):
    patches = np.random.default_rng(2).normal(size=(6, size, size, 3))
    weights = resize_kernel(kernel(4), size, "bilinear")
    np.testing.assert_allclose(
        project(patches, weights), project(resized(patches, 4), kernel(4)), atol=1e-4
    )


def textured(side):
    """An image with detail at every scale (1/f noise), `(1, side, side, 3)`."""
    rng = np.random.default_rng(3)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    frequency[0, 0] = 1.0
    noise = np.fft.fft2(rng.normal(size=(3, side, side)))
    image = np.fft.ifft2(noise / frequency).real.transpose(1, 2, 0)
    return (image / image.std())[None]


def test_each_resize_is_the_better_one_for_its_images():
    """On whole images, where a resize crosses the edges of patches."""
    weights = kernel(7)

    def tokens(image, projection):
        side = projection.shape[0]
        rows = image.shape[1] // side
        x = image[0].reshape(rows, side, rows, side, 3).transpose(0, 2, 1, 3, 4)
        return project(x, projection)

    def error(old, new, method):
        reference = tokens(old, weights)
        found = tokens(new, resize_kernel(weights, 8, method))
        return np.linalg.norm(found - reference) / np.linalg.norm(reference)

    detailed = textured(96)  # 12 patches of 8
    shrunk = resized(detailed, 84)  # 12 patches of 7
    enlarged = resized(shrunk, 96)
    bilinear, inverse = (
        {"detailed": error(shrunk, detailed, m), "enlarged": error(shrunk, enlarged, m)}
        for m in ("bilinear", "pseudo_inverse")
    )
    assert bilinear["detailed"] < 0.1 < 0.3 < inverse["detailed"]
    assert inverse["enlarged"] < 0.1 < bilinear["enlarged"]


def test_same_sizes_are_the_identity():
    encoder = perturb(vision_encoder(layer_scale=0.5))
    copy = encoder.convert()
    assert copy is not encoder
    assert copy.get_config() == encoder.get_config()
    for ours, theirs in zip(encoder.weights, copy.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(ours), to_numpy(theirs))
    x = images()
    np.testing.assert_array_equal(to_numpy(copy.encode(x)), to_numpy(encoder.encode(x)))
    copy.blocks[0].attention.qkv.kernel.assign(
        0.0 * copy.blocks[0].attention.qkv.kernel
    )
    assert to_numpy(encoder.blocks[0].attention.qkv.kernel).any()  # nothing is shared


@pytest.mark.parametrize("class_token", [True, False])
def test_what_is_copied_and_what_is_resampled(class_token):
    encoder = perturb(vision_encoder(class_token=class_token, patch_size=4))
    new = encoder.convert(patch_size=8, image_size=48)
    assert (new.patch_size, new.image_size) == (8, 48)
    assert new.patch_embedding.native_grid == (6, 6)
    changed = {id(new.patch_embedding.position_embedding)}
    changed.add(id(new.patch_embedding.projection.kernel))
    for ours, theirs in zip(encoder.weights, new.weights, strict=True):
        if id(theirs) not in changed:
            np.testing.assert_array_equal(to_numpy(ours), to_numpy(theirs))
    first = int(class_token)
    ours = to_numpy(encoder.patch_embedding.position_embedding)
    theirs = to_numpy(new.patch_embedding.position_embedding)
    np.testing.assert_array_equal(theirs[:first], ours[:first])
    expected = resample_positions(ops.convert_to_tensor(ours[first:]), (8, 8), (6, 6))
    np.testing.assert_allclose(theirs[first:], to_numpy(expected), atol=1e-6)
    old_kernel = to_numpy(encoder.patch_embedding.projection.kernel)
    expected = resize_kernel(old_kernel.reshape(4, 4, 3, 32), 8)
    np.testing.assert_allclose(
        to_numpy(new.patch_embedding.projection.kernel),
        expected.reshape(-1, 32),
        atol=1e-6,
    )


def test_image_size_keeps_the_grid_if_none_is_given():
    encoder = perturb(vision_encoder(image_size=56, patch_size=14))
    new = encoder.convert(patch_size=16)
    assert new.image_size == 64
    np.testing.assert_array_equal(
        to_numpy(new.patch_embedding.position_embedding),
        to_numpy(encoder.patch_embedding.position_embedding),
    )


def test_class_windows_and_further_changes():
    encoder = keras_pe.PESpatial(
        image_size=56, patch_size=14, hidden_dim=32, num_layers=3, num_heads=4,
        intermediate_dim=64, drop_path=0.2,
    )  # fmt: skip
    new = encoder.convert(
        patch_size=16,
        window_size=4,
        global_blocks=(2, -1),
        tiled_positions=True,
        rope_reference_grid=4,
        drop_path=0.0,
        remat=True,
    )
    assert type(new) is keras_pe.PESpatial
    assert (new.window_size, new.global_blocks, new.tiled_positions) == (
        4,
        (2, 3),
        True,
    )
    assert (new.rope_reference_grid, new.drop_path, new.remat) == (4, 0.0, True)
    kept = new.convert(image_size=64)
    assert kept.get_config() == new.get_config()
    plain = new.convert(window_size=None)
    assert (plain.window_size, plain.global_blocks, plain.tiled_positions) == (
        None,
        (),
        False,
    )


@pytest.mark.slow
def test_bfloat16_weights_stay_bfloat16():
    encoder = vision_encoder(
        dtype="bfloat16", num_layers=1, pooling=None, output_dim=None
    )
    new = encoder.convert(patch_size=16)
    kernel = new.patch_embedding.projection.kernel
    assert keras.backend.standardize_dtype(kernel.dtype) == "bfloat16"
    assert conversion_receipt(
        encoder, new, images(1, 64, 64), layers=[0]
    ).kernel_resize == ("bilinear")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"patch_size": 0}, ValueError, "at least 1 pixel"),
        ({"patch_size": 16, "image_size": 40}, ValueError, "Nearest: 32 or 48"),
        ({"image_size": 0}, ValueError, "positive multiple"),
        (
            {"kernel_resize": "cubic"},
            ValueError,
            "kernel_resize must",
        ),
        ({"window_size": 2, "tiled_positions": True}, ValueError, "must be 4"),
        ({"global_blocks": (1,)}, ValueError, "need a window_size"),
        ({"num_layers": 2}, TypeError, "can't change num_layers"),
    ],
)
def test_conversions_that_do_not_work(arguments, error, message):
    with pytest.raises(error, match=message):
        vision_encoder().convert(**arguments)


def test_adapted_encoders_are_refused():
    encoder = vision_encoder()
    encoder.enable_lora(2)
    with pytest.raises(ValueError, match=r"merge_lora\(\).* convert first, then call"):
        encoder.convert(patch_size=16)
    encoder = vision_encoder()
    encoder.blocks[0].feed_forward.expand.quantize("int8")
    with pytest.raises(ValueError, match="Convert first, then quantize"):
        encoder.convert(patch_size=16)


@pytest.mark.slow
def test_receipt_of_enlarged_images():
    """Images enlarged to fit: the pseudo-inverse is nearer, and nearly exact."""
    encoder = perturb(vision_encoder())
    images = np.tanh(resized(textured(16), 32))
    found = {}
    for method in ("pseudo_inverse", "bilinear"):
        new = encoder.convert(patch_size=16, kernel_resize=method)
        receipt = conversion_receipt(encoder, new, images, layers=[0, -1])
        assert receipt.kernel_resize == method
        assert set(receipt.layers) == {0, 3}
        assert receipt.image_sizes == (32, 64)
        assert receipt.patch_sizes == (8, 16)
        assert receipt.grids == ((4, 4), (4, 4))
        assert receipt.compared_grid == (4, 4)
        assert receipt.images == 1
        found[method] = receipt
    assert found["pseudo_inverse"].layers[0] > found["bilinear"].layers[0]
    assert found["pseudo_inverse"].pooled > 0.98
    assert "layer  3: cosine" in str(found["bilinear"])


def test_receipt_of_the_same_encoder_is_one():
    encoder = perturb(vision_encoder(pooling=None, output_dim=None))
    receipt = conversion_receipt(encoder, encoder.convert(), images())
    assert receipt.kernel_resize == "unchanged"
    assert receipt.pooled is None
    assert list(receipt.layers.values()) == pytest.approx([1.0, 1.0])


@pytest.mark.slow
def test_receipt_at_the_size_of_a_detector():
    encoder = perturb(vision_encoder())
    new = encoder.convert(window_size=4)
    receipt = conversion_receipt(encoder, new, images(2, 64, 64), [1], image_size=64)
    assert receipt.grids == ((4, 4), (8, 8))
    assert receipt.compared_grid == (4, 4)
    assert -1.0 < receipt.layers[1] < 1.0
    x = ops.image.resize(images(2, 64, 64), (32, 32), antialias=True)
    ours = to_numpy(encoder.features(x, layers=1).map()).reshape(-1, 32)
    theirs = to_numpy(new.features(images(2, 64, 64), layers=1).map())
    theirs = resized(theirs, 4).reshape(-1, 32)
    norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    assert receipt.layers[1] == pytest.approx(
        ((ours * theirs).sum(1) / norms).mean(), abs=1e-4
    )


def test_receipt_needs_a_pair_and_square_images():
    encoder = vision_encoder()
    with pytest.raises(ValueError, match="num_layers=3 and 2"):
        conversion_receipt(encoder, vision_encoder(num_layers=2), images())
    with pytest.raises(ValueError, match="square images"):
        conversion_receipt(encoder, encoder, images(1, 32, 48))
