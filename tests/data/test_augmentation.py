"""The training augmentation against the obvious, slow version."""

import io

import numpy as np
import pytest
from PIL import Image

from keras_pe.data import ColorJitter, RandomResizedCrop, TrainAugmentation
from keras_pe.data.augmentation import jitter, to_unit_range
from keras_pe.preprocessing.image_errors import ImageError
from tests.preprocessing.image_corpus import encoded, photo, rotated_jpeg

pytestmark = [pytest.mark.quick, pytest.mark.once]


def slow_jitter(pixels, brightness, saturation, brightness_first):
    """In real numbers, rounded and clipped after each step."""

    def brighten(x):
        return np.clip(np.rint(x * brightness), 0, 255)

    def saturate(x):
        grey = (x @ [0.299, 0.587, 0.114])[..., None]
        return np.clip(np.rint(grey + (x - grey) * saturation), 0, 255)

    x = pixels.astype("float64")
    return saturate(brighten(x)) if brightness_first else brighten(saturate(x))


@pytest.mark.parametrize("brightness_first", [True, False])
@pytest.mark.parametrize("brightness", [0.68, 0.95, 1.0, 1.32])
@pytest.mark.parametrize("saturation", [0.68, 1.0, 1.05, 1.32])
def test_jitter_is_the_slow_one(brightness, saturation, brightness_first):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype="uint8")
    pixels[0, :8] = [[r, g, b] for r in (0, 255) for g in (0, 255) for b in (0, 255)]
    how = (brightness, saturation, brightness_first)
    fast = np.asarray(jitter(Image.fromarray(pixels), *how), "float64")
    assert np.abs(fast - slow_jitter(pixels, *how)).max() <= 2
    assert np.abs(fast - slow_jitter(pixels, *how)).mean() < 0.5


def test_jitter_factors_are_uniform_and_in_random_order(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "keras_pe.data.augmentation.jitter", lambda image, *how: seen.append(how)
    )
    draw = ColorJitter(0.32, 0.2)
    for seed in range(2000):
        draw(None, np.random.default_rng(seed))
    brightness, saturation, first = np.array(seen, "float64").T
    for values, reach in ((brightness, 0.32), (saturation, 0.2)):
        assert 1 - reach <= values.min() < 1 - 0.95 * reach
        assert 1 + 0.95 * reach < values.max() <= 1 + reach
        assert abs(values.mean() - 1) < 0.02
    assert 0.45 < first.mean() < 0.55
    assert abs(np.corrcoef([brightness, saturation, first])[0, 1:]).max() < 0.08


@pytest.mark.parametrize("size", [(500, 375), (120, 480), (31, 17)])
def test_crops_keep_to_their_bounds(size):
    crop = RandomResizedCrop(64, scale=(0.2, 0.8), ratio=(0.75, 1.33))
    boxes = np.array([crop.box(size, np.random.default_rng(k)) for k in range(2000)])
    left, top, right, bottom = boxes.T
    assert left.min() >= 0
    assert top.min() >= 0
    assert right.max() <= size[0]
    assert bottom.max() <= size[1]
    across, down = right - left, bottom - top
    # One pixel of rounding in either direction.
    assert ((across + 1) / (down - 1) >= 0.75).all()
    assert ((across - 1) / (down + 1) <= 1.33).all()
    assert ((across + 1) * (down + 1) >= 0.2 * size[0] * size[1]).all()
    assert ((across - 1) * (down - 1) <= 0.8 * size[0] * size[1]).all()


def test_crops_are_uniform_where_every_try_fits():
    size = (500, 375)
    crop = RandomResizedCrop(64, scale=(0.1, 0.5))
    boxes = np.array([crop.box(size, np.random.default_rng(k)) for k in range(2000)])
    left, top, right, bottom = boxes.T
    share = (right - left) * (bottom - top) / (500 * 375)
    for quantile in (0.1, 0.25, 0.5, 0.75, 0.9):
        assert abs(np.quantile(share, quantile) - (0.1 + 0.4 * quantile)) < 0.015
    logarithm = np.log((right - left) / (bottom - top))
    assert abs(logarithm.mean() - np.log(0.75 * 1.33) / 2) < 0.02
    for edge, free in ((left, 500 - right + left), (top, 375 - bottom + top)):
        assert abs((edge / free).mean() - 0.5) < 0.02
        assert (edge / free).max() > 0.99


def test_crop_falls_back_to_the_centre():
    crop = RandomResizedCrop(64, scale=(1.0, 1.0), ratio=(0.75, 1.33))
    rng = np.random.default_rng(0)
    assert crop.box((1000, 100), rng) == (433, 0, 566, 100)
    assert crop.box((100, 1000), rng) == (0, 433, 100, 566)
    assert crop.box((1, 1000), rng) == (0, 499, 1, 500)
    whole = RandomResizedCrop(64, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    assert whole.box((80, 80), rng) == (0, 0, 80, 80)


def test_crop_resizes_its_box_alone():
    image = photo(size=(200, 150))
    crop = RandomResizedCrop((48, 64), interpolation="bicubic")
    box = crop.box(image.size, np.random.default_rng(4))
    slow = image.crop(box).resize((64, 48), Image.Resampling.BICUBIC)
    fast = crop(image, np.random.default_rng(4))
    assert fast.size == (64, 48)
    assert np.abs(np.asarray(fast, int) - np.asarray(slow, int)).max() <= 1


def test_a_pure_function_of_image_and_generator():
    augment = TrainAugmentation(32)
    image = photo(size=(100, 80))
    first, again, other = (
        augment(image, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1
    assert first.shape == (32, 32, 3)
    assert first.dtype == np.float32
    assert -1 <= first.min() < first.max() <= 1


def test_bytes_are_the_floats_in_another_form():
    image, rng = photo(), np.random.default_rng
    floats = TrainAugmentation(32)(image, rng(1))
    integers = TrainAugmentation(32, dtype="uint8")(image, rng(1))
    assert integers.dtype == np.uint8
    np.testing.assert_array_equal(to_unit_range(integers), floats)
    ends = to_unit_range(np.array([0, 255], "uint8"))
    assert ends.tolist() == [-1.0, 1.0]


def test_mirrors_half_of_the_images():
    augment = TrainAugmentation(
        (1, 2), scale=(1, 1), ratio=(2, 2), brightness=0, saturation=0, dtype="uint8"
    )
    image = Image.fromarray(np.array([[[0] * 3, [200] * 3]], "uint8"))
    firsts = [augment(image, np.random.default_rng(k))[0, 0, 0] for k in range(400)]
    assert set(firsts) == {0, 200}
    assert 160 < firsts.count(200) < 240


def test_arrays_files_and_modes():
    rng = np.random.default_rng
    augment = TrainAugmentation(24, dtype="uint8")
    image = photo(size=(60, 50))
    expected = augment(image, rng(3))
    np.testing.assert_array_equal(augment(np.asarray(image), rng(3)), expected)
    png = Image.open(io.BytesIO(encoded(image, "PNG")))
    np.testing.assert_array_equal(augment(png, rng(3)), expected)
    grey = augment(photo("L"), rng(3))
    assert (grey == grey[..., :1]).all()
    clear = Image.new("RGBA", (40, 40), (200, 0, 0, 0))
    white = TrainAugmentation(
        8, background=(255, 255, 255), brightness=0, dtype="uint8"
    )
    assert (white(clear, rng(0)) == 255).all()
    assert white(photo("CMYK"), rng(0)).shape == (8, 8, 3)


def test_a_rotated_jpeg_is_turned_before_the_crop():
    augment = TrainAugmentation(16, dtype="uint8")
    upright = Image.open(io.BytesIO(encoded(photo().rotate(-90, expand=True), "JPEG")))
    turned = Image.open(io.BytesIO(rotated_jpeg(6)))
    for seed in range(5):
        found = augment(turned.copy(), np.random.default_rng(seed)).astype(int)
        # A copy is decoded already and has lost its file; the tag still counts.
        reopened = Image.open(io.BytesIO(rotated_jpeg(6)))
        lazy = augment(reopened, np.random.default_rng(seed)).astype(int)
        expected = augment(upright.copy(), np.random.default_rng(seed)).astype(int)
        np.testing.assert_array_equal(found, lazy)
        assert np.abs(lazy - expected).mean() < 3


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1600, 1200), (801, 1203)])
def test_a_large_jpeg_is_decoded_small(size):
    content = encoded(photo(size=size), "JPEG", quality=95)
    exact = TrainAugmentation(64, draft=False, dtype="uint8")
    fast = TrainAugmentation(64, dtype="uint8")
    shrunk = 0
    for seed in range(12):
        images = [Image.open(io.BytesIO(content)) for _ in range(2)]
        slow = exact(images[0], np.random.default_rng(seed)).astype(int)
        found = fast(images[1], np.random.default_rng(seed)).astype(int)
        assert np.abs(found - slow).mean() < 1.5
        shrunk += images[1].size != size
        # never fewer pixels than the result has
        assert min(images[1].size) >= 64
    assert shrunk >= 8


def test_bad_images_are_refused_with_one_kind_of_error():
    augment = TrainAugmentation(16, max_pixels=10_000)
    rng = np.random.default_rng(0)
    content = encoded(photo(size=(90, 90)), "JPEG")
    cut = Image.open(io.BytesIO(content[: len(content) // 2]))
    with pytest.raises(ImageError, match="damaged image"):
        augment(cut, rng)
    large = Image.open(io.BytesIO(encoded(photo(size=(200, 100)), "JPEG")))
    with pytest.raises(ImageError, match="too many pixels"):
        augment(large, rng)
    with pytest.raises(ImageError, match="channels-first"):
        augment(np.zeros((3, 8, 9), "uint8"), rng)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"image_size": 0}, "image_size"),
        ({"image_size": (1, 2, 3)}, "image_size"),
        ({"scale": (0.0, 1.0)}, "scale"),
        ({"scale": (0.5, 0.2)}, "scale"),
        ({"ratio": (2.0, 1.0)}, "ratio"),
        ({"brightness": 1.5}, "brightness"),
        ({"flip": 2}, "flip"),
        ({"dtype": "float16"}, "dtype"),
        ({"interpolation": "area"}, "interpolation"),
    ],
)
def test_impossible_arguments(arguments, says):
    with pytest.raises(ValueError, match=says):
        TrainAugmentation(**{"image_size": 8} | arguments)
