"""A small preset that the tests of this folder share."""

import shutil

import pytest

import keras_pe
from keras_pe.presets.save import save_preset
from tests.presets import tiny


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The model and the directory of a preset: made once, never changed."""
    model = tiny.core()
    directory = tmp_path_factory.mktemp("made") / "cats"
    save_preset(
        model,
        directory,
        tokenizer=tiny.tokenizer(),
        image_converter=keras_pe.PEImageConverter(32, resize_mode="center_crop"),
        metadata={"trained_on": "cats 🐈", "learning_rate": 1e-5},
    )
    return model, directory


@pytest.fixture
def preset(made, tmp_path):
    """A copy of the preset, to do with as one likes."""
    return shutil.copytree(made[1], tmp_path / "cats")


@pytest.fixture
def model(made):
    """The preset's model, not to be changed."""
    return made[0]
