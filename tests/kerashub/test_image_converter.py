"""The converter in KerasHub's pipelines: our own numbers in all of them."""

import json

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("keras_hub", reason="needs keras-pe[kerashub]")
import keras_hub

import keras_pe
from keras_pe.kerashub import PEBackbone, PEImageConverter, PEPyramidBackbone
from keras_pe.preprocessing.image_errors import ImageError
from tests.arrays import to_numpy
from tests.kerashub.hub_models import SIDE, largest_difference, save
from tests.small_models import vision_encoder

SETTINGS = [
    {},
    {"resize_mode": "center_crop", "interpolation": "bicubic"},
    {"interpolation": "lanczos", "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]},
]


def pixels(*shape):
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), "uint8")


@pytest.mark.parametrize("settings", SETTINGS)
def test_numbers_are_our_own(settings):
    converter = PEImageConverter((24, 32), **settings)
    expected = keras_pe.PEImageConverter((24, 32), **settings)
    batch = pixels(3, 50, 40)
    np.testing.assert_array_equal(to_numpy(converter(batch)), expected(batch))
    np.testing.assert_array_equal(to_numpy(converter(batch[0])), expected(batch)[0])
    assert tuple(converter(batch[0]).shape) == (24, 32, 3)
    floats = batch.astype("float32") / 255
    np.testing.assert_array_equal(to_numpy(converter(floats)), expected(floats))
    several = [pixels(9, 20), Image.fromarray(pixels(30, 7))]
    np.testing.assert_array_equal(to_numpy(converter(several)), expected(several))


@pytest.mark.parametrize("settings", SETTINGS)
def test_within_tf_data(settings):
    tf = pytest.importorskip("tensorflow")
    converter = PEImageConverter((24, 32), **settings)
    batch = pixels(5, 50, 40)
    expected = keras_pe.PEImageConverter((24, 32), **settings)(batch)
    one = tf.data.Dataset.from_tensor_slices(batch).map(converter)
    assert one.element_spec.shape == (24, 32, 3)
    np.testing.assert_array_equal(np.stack(list(one.as_numpy_iterator())), expected)
    many = tf.data.Dataset.from_tensor_slices(batch).batch(5).map(converter)
    np.testing.assert_array_equal(next(many.as_numpy_iterator()), expected)


def test_within_grain():
    grain = pytest.importorskip("grain")
    converter = PEImageConverter(16)
    batch = pixels(4, 50, 40)
    rows = list(grain.MapDataset.source(list(batch)).map(converter))
    assert isinstance(rows[0], np.ndarray)
    np.testing.assert_array_equal(rows, keras_pe.PEImageConverter(16)(batch))


def test_from_our_presets(tmp_path):
    save(tmp_path)
    assert PEImageConverter.from_preset(tmp_path).image_size == (SIDE, SIDE)
    wide = PEImageConverter.from_preset(tmp_path, image_size=(16, 48), max_pixels=2e9)
    assert wide.image_size == (16, 48)
    assert wide.converter.max_pixels == 2e9
    assert PEImageConverter.from_preset("PE-Core-L14-336").image_size == (336, 336)
    with pytest.raises(TypeError, match="Did you mean image_size"):
        PEImageConverter.from_preset(tmp_path, image_sise=3)


@pytest.mark.parametrize("backbone", [PEBackbone, PEPyramidBackbone])
def test_what_kerashub_saves_it_loads(backbone, tmp_path):
    converter = PEImageConverter((24, 32), **SETTINGS[2])
    backbone.from_encoder(vision_encoder()).save_to_preset(str(tmp_path))
    converter.save_to_preset(str(tmp_path))
    batch = pixels(2, 50, 40)
    for load in (keras_hub.layers.ImageConverter, PEImageConverter):
        again = load.from_preset(str(tmp_path))
        assert type(again) is PEImageConverter
        assert again.get_config() == converter.get_config()
        assert largest_difference(again(batch), converter(batch)) == 0
    changed = PEImageConverter.from_preset(tmp_path, image_size=8, max_pixels=2e9)
    assert changed.image_size == (8, 8)
    assert changed.converter.max_pixels == 2e9


def test_a_file_widens_no_limit(tmp_path):
    PEBackbone.from_encoder(vision_encoder()).save_to_preset(str(tmp_path))
    PEImageConverter(8).save_to_preset(str(tmp_path))
    path = tmp_path / "image_converter.json"
    content = json.loads(path.read_text("utf-8"))
    content["config"]["max_pixels"] = 10**12
    path.write_text(json.dumps(content), "utf-8")
    with pytest.warns(UserWarning, match="max_pixels=1000000000000"):
        again = keras_hub.layers.ImageConverter.from_preset(str(tmp_path))
    assert again.converter.max_pixels == keras_pe.PEImageConverter().max_pixels


def test_the_size_may_be_set():
    converter = PEImageConverter(16, resize_mode="center_crop")
    converter.image_size = (8, 24)
    batch = pixels(2, 50, 40)
    expected = keras_pe.PEImageConverter((8, 24), resize_mode="center_crop")(batch)
    np.testing.assert_array_equal(to_numpy(converter(batch)), expected)
    assert converter.get_config()["image_size"] == [8, 24]


def test_what_is_refused():
    converter = PEImageConverter(16)
    with pytest.raises(ImageError, match=r"expected \[0, 1\]"):
        converter(pixels(2, 9, 9).astype("float32"))
    with pytest.raises(TypeError, match="moves no bounding boxes"):
        converter({"images": pixels(2, 9, 9), "bounding_boxes": {}})
    with pytest.raises(ValueError, match="on_error"):
        PEImageConverter(16, on_error="skip")
