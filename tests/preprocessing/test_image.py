"""The image converter against the reference numbers, in every mode."""

import io
import json
import pickle
import sys
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin
from safetensors.numpy import load_file

from keras_pe.preprocessing import ImageError, PEImageConverter
from keras_pe.preprocessing.image_decoding import open_image_file
from keras_pe.preprocessing.image_errors import BAD_TYPE, BAD_VALUES

sys.path.insert(0, str(Path(__file__).parent))
from image_corpus import encoded, photo, rotated_jpeg, sixteen_bit

REFERENCE = Path(__file__).parents[1] / "reference"
EXPECTED = load_file(REFERENCE / "preprocess.safetensors")
LEVEL = 1 / 127.5  # one of 255 steps, on the scale [-1, 1]


def levels(image):
    """Back from [-1, 1] to 0-255."""
    return np.rint((np.asarray(image) + 1) * 127.5).astype(int)


@pytest.mark.parametrize("key", sorted(EXPECTED))
def test_reference_numbers(key):
    name, case = key.split(".")
    mode = "squash" if case.startswith("squash") else "center_crop"
    converter = PEImageConverter(int(case[-2:]), mode)
    image = converter(REFERENCE / "images" / f"{name}.png")[0]
    assert image.dtype == np.float32
    distance = np.abs(image - EXPECTED[key]) / LEVEL
    assert (distance <= 1.001).mean() >= 0.999
    assert distance.max() <= 2.001


@pytest.mark.parametrize("size", [(300, 200), (33, 257), (10, 7), (224, 224), (5, 900)])
@pytest.mark.parametrize("side", [32, 65])
def test_center_crop_is_resize_then_crop(size, side):
    image = photo(size=size)
    width, height = size
    short = min(size)
    whole = image.resize(
        (int(side * width / short), int(side * height / short)),
        Image.Resampling.BILINEAR,
    )
    left = round((whole.width - side) / 2)
    top = round((whole.height - side) / 2)
    slow = np.asarray(whole.crop((left, top, left + side, top + side))).astype(int)
    fast = levels(PEImageConverter(side, "center_crop")(image)[0])
    assert np.abs(fast - slow).max() <= 1


def test_center_crop_to_a_rectangle_keeps_the_aspect_ratio():
    image = Image.new("RGB", (400, 100))
    image.paste((255, 255, 255), (150, 0, 250, 100))  # a white square
    converted = levels(PEImageConverter((50, 100), "center_crop")(image)[0])
    assert converted.shape == (50, 100, 3)
    white = converted[25, :, 0] > 127
    assert (white.sum(), white.argmax()) == (50, 25)


@pytest.mark.parametrize("size", [(1, 30_000), (30_000, 1)])
@pytest.mark.parametrize("mode", ["squash", "center_crop"])
def test_extreme_aspect(size, mode):
    image = PEImageConverter(224, mode)(Image.new("L", size, 255))
    np.testing.assert_array_equal(image, np.ones((1, 224, 224, 3), "float32"))


GREY_MODES = ["1", "L", "LA", "La", "I", "F", "I;16"]
COLOUR_MODES = ["P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"]


@pytest.mark.parametrize("background", [None, (0, 255, 0)])  # all are opaque
@pytest.mark.parametrize("mode", GREY_MODES + COLOUR_MODES)
def test_every_mode(mode, background):
    colour = photo(size=(96, 96))
    grey = mode in GREY_MODES
    first = {"La": "LA", "RGBa": "RGBA", "PA": "P", "I;16": "I"}.get(mode, mode)
    image = colour.convert("L") if grey else colour
    image = image.convert(first).convert(mode)
    if mode == "I;16":
        wide = np.asarray(colour.convert("L")).astype("uint16") * 257
        image = Image.fromarray(wide)
    assert image.mode == mode
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        converted = PEImageConverter(24, background=background)(image)
    expected = PEImageConverter(24)(colour.convert("L") if grey else colour)
    # Bits and palettes carry less than the photo does, YCbCr rounds.
    assert np.abs(levels(converted) - levels(expected)).mean() < 2


def test_sixteen_bits_are_scaled_not_clipped():
    ramp = levels(PEImageConverter((48, 64))(encoded(sixteen_bit(), "PNG")))[0, 0, :, 0]
    assert (ramp[0], ramp[-1]) == (0, 255)
    np.testing.assert_allclose(ramp, np.linspace(0, 255, 64), atol=0.6)


def test_wide_modes_take_the_smallest_range_that_fits():
    def first(mode, values):
        image = Image.fromarray(np.array([values], mode))
        return levels(PEImageConverter((1, len(values)))(image))[0, 0, :, 0].tolist()

    assert first("int32", [0, 255]) == [0, 255]
    assert first("int32", [0, 65535]) == [0, 255]
    assert first("float32", [0, 1]) == [0, 255]
    assert first("float32", [0, 255]) == [0, 255]
    for dtype, value in (("int32", -1), ("int32", 70_000), ("float32", np.nan)):
        with pytest.raises(ImageError) as caught:
            first(dtype, [0, value])
        assert caught.value.reason == BAD_VALUES


def test_alpha_is_dropped_or_laid_on_a_background():
    clear_red = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert levels(PEImageConverter(8)(clear_red))[0, 0, 0].tolist() == [255, 0, 0]
    on_green = PEImageConverter(8, background=(0, 255, 0))
    assert levels(on_green(clear_red))[0, 0, 0].tolist() == [0, 255, 0]
    palette = clear_red.quantize()
    assert levels(on_green(encoded(palette, "PNG")))[0, 0, 0].tolist() == [0, 255, 0]
    opaque = photo()
    np.testing.assert_array_equal(on_green(opaque), PEImageConverter(8)(opaque))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation):
    content = rotated_jpeg(orientation)
    stored = Image.open(io.BytesIO(content))
    converter = PEImageConverter((40, 56))
    expected = converter(ImageOps.exif_transpose(stored))
    np.testing.assert_array_equal(converter(content), expected)
    np.testing.assert_array_equal(converter(stored), expected)
    without_tag = converter(Image.fromarray(np.asarray(stored)))
    assert (np.abs(expected - without_tag).max() > 0.2) == (orientation > 1)


def turned_file(kind):
    """Returns a photograph that lies on its side, by metadata of a kind."""
    content = io.BytesIO()
    note = b'<x xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    if kind == "xmp":
        photo().save(content, "JPEG", xmp=note)
    elif kind == "xmp of a PNG":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", note.decode())
        photo().save(content, "PNG", pnginfo=info)
    else:
        exif = Image.Exif()
        exif[0x0112] = 6
        data = b"Exif\0\0" + exif.tobytes()
        info = PngImagePlugin.PngInfo()
        info.add_text("Raw profile type exif", f"\nexif\n{len(data):8}\n{data.hex()}\n")
        photo().save(content, "PNG", pnginfo=info)
    return content.getvalue()


@pytest.mark.parametrize("kind", ["xmp", "xmp of a PNG", "raw profile of a PNG"])
def test_other_metadata_turn_an_image_too_and_once(kind):
    content = turned_file(kind)
    opened = open_image_file(content, "photo")
    assert opened.size == photo().size[::-1]
    converter = PEImageConverter((64, 48))
    expected = converter(Image.fromarray(np.asarray(opened)))
    np.testing.assert_array_equal(converter(opened), expected)
    np.testing.assert_array_equal(converter(opened.copy()), expected)
    np.testing.assert_array_equal(converter(content), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_what_was_turned_is_not_turned_again(orientation):
    content = rotated_jpeg(orientation)
    opened = open_image_file(content, "photo")
    converter = PEImageConverter((40, 56))
    for image in (opened, opened.copy(), opened.convert("RGBA").convert("RGB")):
        np.testing.assert_array_equal(converter(image), converter(content))


def test_other_metadata_of_a_turned_image_stay():
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera"
    opened = open_image_file(encoded(photo(), "JPEG", exif=exif), "photo")
    assert dict(opened.getexif()) == {0x010F: "Camera"}


def test_exif_orientation_of_a_tiff_is_applied_once():
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(photo(), "TIFF", exif=exif)
    expected = photo().transpose(Image.Transpose.ROTATE_270)
    converter = PEImageConverter((64, 48))
    np.testing.assert_array_equal(converter(content), converter(expected))


def test_alpha_in_the_palette():
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    clear.paste((0, 255, 0, 255), (0, 0, 4, 8))
    palette = clear.quantize(4)
    assert palette.palette.mode == "RGBA"
    found = PEImageConverter(8, background=(0, 0, 255))([palette, clear])
    np.testing.assert_array_equal(found[0], found[1])


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (9, 9), c) for c in ("red", "lime", "blue")]
    for file_format in ("GIF", "PNG", "WEBP", "TIFF"):
        content = encoded(
            frames[0], file_format, save_all=True, append_images=frames[1:]
        )
        pixel = levels(PEImageConverter(4)(content))[0, 0, 0]
        assert np.abs(pixel - [255, 0, 0]).max() <= 3, file_format


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("resize_mode", ["squash", "center_crop"])
def test_arrays_equal_pil_images(mode, resize_mode):
    image = photo(mode)
    array = np.asarray(image)
    converter = PEImageConverter(24, resize_mode)
    expected = converter(image)
    np.testing.assert_array_equal(converter(array), expected)
    np.testing.assert_array_equal(converter(array / np.float32(255)), expected)
    np.testing.assert_array_equal(converter(array / 255), expected)
    np.testing.assert_array_equal(converter(keras.ops.array(array)), expected)
    if mode == "L":
        np.testing.assert_array_equal(converter(array[..., None]), expected)
    else:
        batch = converter(np.stack([array, array[::-1]]))
        assert batch.shape == (2, 24, 24, 3)
        np.testing.assert_array_equal(batch[:1], expected)


def test_kinds_may_be_mixed(tmp_path):
    path = tmp_path / "photo.png"
    photo().save(path)
    array = np.asarray(photo())
    converter = PEImageConverter(16)
    mixed = [str(path), path, path.read_bytes(), photo(), array, bytearray(b"")]
    images = converter(mixed[:-1])
    assert images.shape == (5, 16, 16, 3)
    assert np.ptp(images, axis=0).max() == 0
    np.testing.assert_array_equal(converter(p for p in mixed[:-1]), images)
    np.testing.assert_array_equal(converter(np.array([str(path)])), images[:1])
    assert converter([]).shape == (0, 16, 16, 3)
    with pytest.raises(ImageError, match=r"images\[5\] \(bytearray\): empty"):
        converter(mixed)


@pytest.mark.parametrize(
    ("image", "reason", "message"),
    [
        (np.zeros((3, 8, 9), "uint8"), BAD_TYPE, "moveaxis"),
        (np.zeros((8, 9, 2), "uint8"), BAD_TYPE, "1, 3 or 4 channels"),
        (np.zeros(8, "uint8"), BAD_TYPE, "expected .height, width"),
        (np.zeros((8, 9), "uint16"), BAD_TYPE, "65535"),
        (np.zeros((8, 9), "int64"), BAD_TYPE, "int64"),
        (np.zeros((0, 9), "uint8"), BAD_VALUES, "no pixel"),
        (np.full((8, 9), 2.0), BAD_VALUES, "from 2 to 2"),
        (np.full((8, 9), -0.1), BAD_VALUES, "expected .0, 1"),
        (np.full((8, 9), np.nan), BAD_VALUES, "nan"),
        ([np.zeros((2, 8, 9, 3), "uint8")], BAD_TYPE, "batch in a call of its own"),
        ([(np.zeros((2, 8, 9, 3)), np.zeros(2))], BAD_TYPE, "with its labels"),
        (3, BAD_TYPE, "int"),
        ({"a": 1}, BAD_TYPE, "dict"),
        ([None], BAD_TYPE, r"images\[0\] \(NoneType\)"),
    ],
)
def test_what_is_no_image_is_an_error(image, reason, message):
    with pytest.raises(ImageError, match=message) as caught:
        PEImageConverter(8)(image)
    assert caught.value.reason == reason


def test_skipping_is_told_and_booked():
    converter = PEImageConverter(8, on_error="skip")
    with pytest.warns(UserWarning, match=r"2 of 3 images skipped.*missing.jpg"):
        images = converter(["missing.jpg", photo(), b""])
    assert images.shape == (1, 8, 8, 3)
    assert [item.index for item in converter.last_report.skipped] == [0, 2]
    converter(photo())
    assert converter.last_report.num_skipped == 0


def test_errors_survive_pickling():
    error = ImageError("a.jpg", "empty file", "It has no bytes.")
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.name, copy.reason, str(copy)) == ("a.jpg", "empty file", str(error))


def test_interpolation_and_normalisation():
    image = photo()
    sharp = PEImageConverter(16, interpolation="nearest")(image)
    assert np.abs(sharp - PEImageConverter(16)(image)).max() > LEVEL
    mean, std = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
    clip = PEImageConverter(16, mean=mean, std=std)(image)
    unit = (PEImageConverter(16)(image) + 1) / 2
    np.testing.assert_allclose(clip, (unit - mean) / std, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 0}, "positive"),
        ({"image_size": (1, 2, 3)}, "height, width"),
        ({"image_size": 22.5}, "positive integer"),
        ({"resize_mode": "pad"}, "squash"),
        ({"interpolation": "cubic"}, "bicubic"),
        ({"mean": (1, 2)}, "three"),
        ({"std": (1, 0, 1)}, "above zero"),
        ({"max_pixels": 0}, "positive"),
        ({"formats": ("JPGE",)}, "JPGE"),
        ({"formats": "PNG"}, "list"),
        ({"background": (0, 0, 256)}, "0 to 255"),
        ({"on_error": "ignore"}, "raise"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        PEImageConverter(**arguments)


def test_formats_are_an_allow_list():
    content = encoded(photo(), "PNG")
    with pytest.raises(ImageError, match="not an image of an allowed format"):
        PEImageConverter(8, formats=["jpeg"])(content)
    rare = encoded(photo(), "PCX")
    with pytest.raises(ImageError, match="not an image of an allowed format"):
        PEImageConverter(8)(rare)
    assert PEImageConverter(8, formats=["PCX"])(rare).shape == (1, 8, 8, 3)


def test_config_round_trip():
    converter = PEImageConverter(
        (24, 32),
        "center_crop",
        "bicubic",
        mean=(0.1, 0.2, 0.3),
        std=(0.4, 0.5, 0.6),
        max_pixels=10_000,
        formats=("PNG",),
        background=(1, 2, 3),
        on_error="skip",
    )
    text = json.dumps(keras.saving.serialize_keras_object(converter))
    copy = keras.saving.deserialize_keras_object(json.loads(text))
    assert copy.get_config() == converter.get_config()
    assert copy.image_size == (24, 32)
    np.testing.assert_array_equal(copy(photo()), converter(photo()))
