"""Presets that are damaged, or that hold what is no plain model."""

import hashlib
import json

import numpy as np
import pytest

import keras_pe
from keras_pe import PEImageConverter, PETokenizer
from keras_pe.presets import CheckpointError, checksums
from keras_pe.presets.from_preset import load_preset
from keras_pe.presets.save import save_preset
from tests.presets import tiny
from tests.presets.preset_files import config_of, resign

pytestmark = pytest.mark.quick
FILES = {
    "config.json",
    "image_converter.json",
    "metadata.json",
    "model.weights.h5",
    "tokenizer.json",
}
NUM_FLIPS = 1000


# === Damage ===
@pytest.mark.slow
@pytest.mark.once
def test_every_bit_flip_is_refused(preset):
    """1000 random bits, each in turn; half of them in the small files."""
    random = np.random.default_rng(0)
    contents = tiny.directory_files(preset)
    small = sorted(FILES - {"model.weights.h5"})
    refused = 0
    for number in range(NUM_FLIPS):
        name = "model.weights.h5" if number % 2 else small[number // 2 % len(small)]
        content = bytearray(contents[name])
        position = int(random.integers(len(content)))
        content[position] ^= 1 << int(random.integers(8))
        (preset / name).write_bytes(content)
        with pytest.raises(CheckpointError) as error:
            _load_part(name, preset)
        assert name in str(error.value)
        refused += 1
        (preset / name).write_bytes(contents[name])
    assert refused == NUM_FLIPS
    _load_all(preset)  # the flips are undone: it loads again


def _load_part(name, directory):
    """Loads what needs a file: a part, or the model."""
    if name == "tokenizer.json":
        return PETokenizer.from_preset(directory)
    if name == "image_converter.json":
        return PEImageConverter.from_preset(directory)
    return load_preset(keras_pe.PECore, directory)


@pytest.mark.parametrize("name", sorted(FILES))
@pytest.mark.parametrize("length", [0, 1, 0.5, -1])
def test_cut_files_are_refused(preset, name, length):
    content = (preset / name).read_bytes()
    end = int(len(content) * length) if isinstance(length, float) else length
    (preset / name).write_bytes(content[:end])
    with pytest.raises(CheckpointError, match=name):
        _load_all(preset)


@pytest.mark.parametrize("name", ["config.json", "metadata.json", "model.weights.h5"])
def test_missing_files_are_refused(preset, name):
    (preset / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        load_preset(keras_pe.PECore, preset)


def _load_all(directory):
    PETokenizer.from_preset(directory)
    PEImageConverter.from_preset(directory)
    return load_preset(keras_pe.PECore, directory)


def test_parts_that_were_not_saved(model, tmp_path):
    save_preset(model, tmp_path / "a")
    with pytest.raises(CheckpointError, match=r"has no tokenizer\.json"):
        PETokenizer.from_preset(tmp_path / "a")
    # One that is put there later has no checksum.
    (tmp_path / "a" / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"has no tokenizer\.json"):
        PETokenizer.from_preset(tmp_path / "a")


# === Configurations are data ===
HOSTILE = {
    "lambda": {"class_name": "__lambda__", "config": {"value": "x"}},
    "keras layer": {"module": "keras.layers", "class_name": "Dense", "config": {}},
    "function": {
        "module": "os",
        "class_name": "function",
        "config": "system",
        "registered_name": "system",
    },
    "our name on another class": {
        "module": "os.path",
        "class_name": "PEVisionEncoder",
        "config": {},
        "registered_name": "keras_pe>PEVisionEncoder",
    },
    "quantised policy": {
        "module": "keras.dtype_policies",
        "class_name": "QuantizedDTypePolicy",
        "config": {"mode": "int8", "source_name": "float32"},
        "registered_name": None,
    },
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_foreign_objects_are_never_built(preset, kind):
    for place in ("vision_encoder", "name", "deep"):
        config = config_of(preset)
        if place == "deep":
            config["config"]["text_encoder"]["config"]["dtype"] = [HOSTILE[kind]]
        else:
            config["config"][place] = HOSTILE[kind]
        resign(preset, config=config)
        with pytest.raises(CheckpointError, match="Nothing was built"):
            keras_pe.PECore.from_preset(preset)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"registered_name": "keras_hub>GemmaBackbone"}, "expected one of keras_pe>"),
        ({"registered_name": "keras_pe>PETextEncoder"}, "expected one of keras_pe>"),
        ({"registered_name": None}, "no Keras object"),
        ({"compile_config": {"optimizer": "adam"}}, "has compile_config"),
        ({"config": {}}, "describes no model"),
    ],
)
def test_configurations_that_are_no_model(preset, change, message):
    resign(preset, config={**config_of(preset), **change})
    with pytest.raises(CheckpointError, match=message):
        keras_pe.PECore.from_preset(preset)


def test_unknown_arguments_in_a_configuration(preset):
    config = config_of(preset)
    config["config"]["vision_encoder"]["config"]["new_idea"] = 1
    resign(preset, config=config)
    with pytest.raises(CheckpointError, match="newer keras_pe"):
        keras_pe.PECore.from_preset(preset)


def test_deep_nesting_and_names_with_paths(preset):
    config = config_of(preset)
    for _ in range(50):
        config["config"]["name"] = [config["config"]["name"]]
    resign(preset, config=config)
    with pytest.raises(CheckpointError, match="nested deeper"):
        keras_pe.PECore.from_preset(preset)
    content = config_of(preset, "metadata")
    content["files"]["../config.json"] = content["files"]["config.json"]
    content["metadata_sha256"] = checksums.BLANK
    text = json.dumps(content)
    digest = hashlib.sha256(text.encode()).hexdigest()
    (preset / "metadata.json").write_text(text.replace(checksums.BLANK, digest))
    with pytest.raises(CheckpointError, match="plain name"):
        keras_pe.PECore.from_preset(preset)
