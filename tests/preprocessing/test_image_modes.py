"""Grey files of one to sixteen bits: white is the largest value of their depth."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_pe.data.augmentation import TrainAugmentation
from keras_pe.preprocessing import ImageError, PEImageConverter
from keras_pe.preprocessing.image_decoding import open_image_file
from keras_pe.preprocessing.image_errors import BAD_VALUES

sys.path.insert(0, str(Path(__file__).parent))
from grey_files import DEPTHS, pgm, png, ramp, tiff

pytestmark = [pytest.mark.quick, pytest.mark.once]


def units(content, background=None):
    """The grey values of an image, 0 to 1."""
    image = Image.open(io.BytesIO(content))
    converter = PEImageConverter((image.height, image.width), background=background)
    converted = converter(content)
    # A file that the user has opened is the same image.
    np.testing.assert_array_equal(converter(image), converted)
    assert np.ptp(converted, axis=-1).max() == 0
    return (converted[0, :, :, 0] + 1) / 2


def assert_right(found, values, largest):
    np.testing.assert_allclose(found, values / largest, atol=1.001 / 255)


@pytest.mark.parametrize("bits", DEPTHS["PGM"])
@pytest.mark.parametrize("brightest", [1.0, 0.5, 0.003])
def test_pgm(bits, brightest):
    for largest in {2**bits - 1, max(1, 2**bits - 3), 2 ** (bits - 1)}:
        values = ramp(int(largest * brightest))
        for plain in (False, True):
            assert_right(units(pgm(values, largest, plain)), values, largest)


@pytest.mark.parametrize("bits", DEPTHS["PNG"])
@pytest.mark.parametrize("brightest", [1.0, 0.5, 0.003])
def test_png(bits, brightest):
    largest = 2**bits - 1
    values = ramp(int(largest * brightest))
    assert_right(units(png(values, bits)), values, largest)


@pytest.mark.parametrize("bits", DEPTHS["TIFF"])
@pytest.mark.parametrize("brightest", [1.0, 0.5, 0.003])
@pytest.mark.parametrize("deflate", [False, True])
def test_tiff(bits, brightest, deflate):
    largest = 2**bits - 1
    values = ramp(int(largest * brightest))
    for order in "<>" if bits != 12 else "<":
        content = tiff(values, bits, order, deflate=deflate)
        assert_right(units(content), values, largest)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_tiff_in_which_zero_is_white(bits):
    largest = 2**bits - 1
    values = ramp(largest)
    content = tiff(values, bits, white_is_zero=True)
    assert_right(units(content), largest - values, largest)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("order", ["<", ">"])
def test_signed_tiff(bits, order):
    largest = 2 ** (bits - 1) - 1
    values = ramp(largest // 2)
    content = tiff(values, bits, order, sample="int")
    assert_right(units(content), values, largest)
    with pytest.raises(ImageError, match="expected 0 to") as caught:
        PEImageConverter(8)(tiff(values - 1, bits, order, sample="int"))
    assert caught.value.reason == BAD_VALUES


@pytest.mark.parametrize("order", ["<", ">"])
def test_float_tiff_takes_the_first_range_that_fits(order):
    values = ramp(1000) / 1000
    assert_right(units(tiff(values, 32, order, sample="float")), values, 1)
    assert_right(units(tiff(values * 255, 32, order, sample="float")), values, 1)
    inverted = tiff(values, 32, order, white_is_zero=True, sample="float")
    assert_right(units(inverted), 1 - values, 1)
    for bad in (values - 0.5, values * 256, values * np.nan):
        with pytest.raises(ImageError, match="expected 0 to 255"):
            PEImageConverter(8)(tiff(bad, 32, order, sample="float"))


def test_whole_32_bit_tiff_takes_the_first_range_that_fits():
    for largest in (255, 65535):
        values = ramp(largest)
        assert_right(units(tiff(values, 32, sample="int")), values, largest)
    with pytest.raises(ImageError, match="expected 0 to 65535"):
        PEImageConverter(8)(tiff(ramp(65536), 32, sample="int"))


@pytest.mark.parametrize("bits", DEPTHS["PNG"])
def test_a_colour_key_is_of_the_files_depth(bits):
    largest = 2**bits - 1
    values = ramp(largest)
    key = int(values[0, 20])
    found = units(png(values, bits, key), background=(51, 51, 51))
    expected = np.where(values == key, 0.2, values / largest)
    np.testing.assert_allclose(found, expected, atol=1.001 / 255)
    assert_right(units(png(values, bits, key)), values, largest)  # alpha is dropped


def test_colours_of_sixteen_bits_and_their_key():
    values = np.stack([ramp(65535), ramp(30000), 65535 - ramp(65535)], axis=-1)
    key = values[0, 20]
    converter = PEImageConverter(values.shape[:2])
    found = (converter(png(values, 16, colour_type=2))[0] + 1) / 2
    np.testing.assert_allclose(found, values / 65535, atol=1.001 / 255)
    green = PEImageConverter(values.shape[:2], background=(0, 255, 0))
    found = (green(png(values, 16, key, colour_type=2))[0] + 1) / 2
    np.testing.assert_array_equal(found[0, 20], [0, 1, 0])
    np.testing.assert_allclose(found[0, 5], values[0, 5] / 65535, atol=1.001 / 255)


def test_orientation_and_training_see_the_same_values():
    values = ramp(200)  # of 65535, so all of it is nearly black
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    Image.fromarray(values.astype("uint16")).save(stream, "PNG", exif=exif)
    turned = open_image_file(stream.getvalue(), "turned")
    assert (turned.mode, turned.size) == ("L", (5, 37))
    assert turned.getextrema() == (0, 1)
    transform = TrainAugmentation(8)
    for content in (pgm(values, 65535), tiff(values, 16)):
        image = transform(Image.open(io.BytesIO(content)), np.random.default_rng(0))
        assert image.max() < -0.98
