"""A preset narrows what a user allowed, and fits its weights before it is built."""

import json
import time

import h5py
import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_pe
from keras_pe import PEImageConverter, PETokenizer
from keras_pe.preprocessing.image_decoding import DEFAULT_FORMATS, DEFAULT_MAX_PIXELS
from keras_pe.presets import CheckpointError, inspect_checkpoint
from keras_pe.presets.formats.upstream import core_rules
from keras_pe.presets.hub import resolve
from keras_pe.presets.save import save_preset
from tests.presets import tiny
from tests.presets.preset_files import config_of, resign

pytestmark = pytest.mark.quick
KERNEL = "layers/pe_vision_encoder/layers/patch_embedding/projection/vars/0"


def change_config(directory, name, **changes):
    config = config_of(directory, name)
    config["config"].update(changes)
    resign(directory, **{name: config})


# === Trust is the user's ===
def test_a_preset_opens_no_other_decoder(preset):
    """EPS starts Ghostscript, a program of its own."""
    formats = ["EPS", "PNG", "JPEG"]
    change_config(preset, "image_converter", formats=formats, max_pixels=10**18)
    with pytest.warns(UserWarning, match=r"max_pixels=1000000000000000000.*EPS"):
        converter = PEImageConverter.from_preset(preset)
    assert list(converter.formats) == ["PNG", "JPEG"]
    assert converter.max_pixels == DEFAULT_MAX_PIXELS
    change_config(preset, "image_converter", formats=["EPS", 7])
    with pytest.raises(CheckpointError, match=r"formats=\['EPS', '7'\]"):
        PEImageConverter.from_preset(preset)


def test_a_preset_silences_no_error(preset):
    change_config(preset, "image_converter", on_error="skip")
    change_config(preset, "tokenizer", on_truncation="ignore")
    with pytest.warns(UserWarning, match="on_error"):
        assert PEImageConverter.from_preset(preset).on_error == "raise"
    with pytest.warns(UserWarning, match="on_truncation='ignore'"):
        assert PETokenizer.from_preset(preset).on_truncation == "warn"


def test_a_preset_may_be_stricter(preset, recwarn):
    change_config(preset, "image_converter", formats=["PNG"], max_pixels=100)
    change_config(preset, "tokenizer", on_truncation="error")
    converter = PEImageConverter.from_preset(preset)
    assert converter.get_config()["formats"] == ["PNG"]
    assert converter.max_pixels == 100
    assert PETokenizer.from_preset(preset).on_truncation == "error"
    assert "PNG" in DEFAULT_FORMATS
    assert not recwarn.list


def test_results_have_bounds(preset):
    change_config(preset, "image_converter", image_size=[100_000, 100_000])
    with pytest.raises(CheckpointError, match="expected at most 4096"):
        PEImageConverter.from_preset(preset)
    change_config(preset, "tokenizer", context_length=10**9)
    with pytest.raises(CheckpointError, match="1000000000 tokens"):
        PETokenizer.from_preset(preset)


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "1e999"])
def test_numbers_that_are_none(preset, constant):
    path = preset / "image_converter.json"
    config = config_of(preset, "image_converter")
    config["config"]["mean"][0] = "MARK"
    path.write_text(json.dumps(config).replace('"MARK"', constant))
    resign(preset)
    with pytest.raises(CheckpointError, match=r"no number of JSON|expected finite"):
        PEImageConverter.from_preset(preset)


@pytest.mark.parametrize("scale", [{"mean": [1e308] * 3}, {"std": [1e-40, 1, 1]}])
def test_images_stay_numbers(preset, scale):
    change_config(preset, "image_converter", **scale)
    with pytest.raises(CheckpointError, match="make pixels of up to"):
        PEImageConverter.from_preset(preset)


# === Sizes ===
@pytest.mark.parametrize(
    ("tower", "change", "message"),
    [
        ("vision", {"num_layers": 10**9}, "fewer than 12 a block"),
        ("vision", {"num_layers": 3}, "block_2/.* is missing|block.*missing"),
        ("vision", {"hidden_dim": 0}, "hidden_dim must be a whole number"),
        ("vision", {"patch_size": -8}, "patch_size must be a whole number"),
        ("vision", {"patch_size": 0}, "patch_size must be a whole number"),
        ("vision", {"image_size": 10**12}, "is .*, expected"),
        ("vision", {"image_size": "32"}, "image_size must be a whole number"),
        ("vision", {"num_heads": 0}, "num_heads must be a whole number"),
        ("vision", {"pooling_heads": 0}, "pooling_heads must be a whole number"),
        ("vision", {"rope_reference_grid": 0}, "rope_reference_grid must be"),
        ("vision", {"layer_scale": 0.1}, "scale/vars/0 is missing"),
        ("text", {"vocabulary_size": 10**11}, r"is \(600, 32\), expected"),
        ("text", {"context_length": True}, "context_length must be a whole number"),
        ("text", {"output_dim": None}, "output_dim must be a whole number"),
        ("text", {"intermediate_dim": 64.0}, "intermediate_dim must be a whole"),
        ("text", {"num_layers": [1]}, "num_layers must be a whole number"),
    ],
)
def test_absurd_sizes_are_refused_before_anything_is_built(
    preset, tower, change, message
):
    config = config_of(preset)
    config["config"][f"{tower}_encoder"]["config"].update(change)
    resign(preset, config=config)
    start = time.process_time()
    with pytest.raises(CheckpointError, match=message):
        keras_pe.PECore.from_preset(preset)
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    "change",
    [
        {"patch_size": 0},
        {"image_size": -32},
        {"hidden_dim": 0},
        {"num_layers": 0},
        {"num_layers": 2.0},
        {"num_heads": 0},
        {"intermediate_dim": -1},
        {"output_dim": 0},
        {"pooling_heads": 0},
        {"num_heads": None},
    ],
)
def test_constructors_take_positive_sizes(change):
    (name,) = change
    with pytest.raises(ValueError, match=f"{name} must be a whole number"):
        keras_pe.PEVisionEncoder(**{**tiny.VISION, "output_dim": 16, **change})


def test_a_shard_map_that_is_none(preset, model, tmp_path):
    save_preset(model, tmp_path / "a", max_shard_size=100 / 1024**2)
    path = tmp_path / "a" / "model.weights.json"
    for weight_map in (None, [], 5, {"/vars": 5}, {"/vars": [{}]}, {"/vars": None}):
        path.write_text(json.dumps({"weight_map": weight_map}))
        resign(tmp_path / "a")
        with pytest.raises(CheckpointError, match=r"model\.weights\.json of"):
            keras_pe.PECore.from_preset(tmp_path / "a")


# === Weight files ===
def edited(path, edit):
    with h5py.File(path, "a") as file:
        value = file[KERNEL][()]
        del file[KERNEL]
        edit(file, value)


def external_link(file, value):
    file[KERNEL] = h5py.ExternalLink("/etc/passwd", "/x")


def soft_link(file, value):
    file[KERNEL] = h5py.SoftLink("/vars/0")


def external_data(file, value):
    place = [("/dev/zero", 0, value.nbytes)]
    file.create_dataset(KERNEL, value.shape, value.dtype, external=place)


def compressed(file, value):
    file.create_dataset(KERNEL, data=value, compression="gzip")


def virtual(file, value):
    layout = h5py.VirtualLayout(value.shape, value.dtype)
    file.create_virtual_dataset(KERNEL, layout)


def never_written(file, value):
    file.create_dataset(KERNEL, value.shape, value.dtype)


def big_endian(file, value):
    file[KERNEL] = value.astype(">f4")


def integers(file, value):
    file[KERNEL] = value.astype("int32")


def nan(file, value):
    value[3, 1] = np.nan
    file[KERNEL] = value


def one_more(file, value):
    file[KERNEL] = value
    file["layers/other/vars/0"] = value


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (external_link, "link to another place"),
        (soft_link, "link to another place"),
        (external_data, "lies in another file"),
        (compressed, "in pieces or compressed"),
        (virtual, "lies in another file"),
        (never_written, "no place in the file"),
        (big_endian, "no floating point"),
        (integers, "no floating point"),
        (nan, r"row 3 of 192 holds NaN"),
        (one_more, "belongs to no weight"),
    ],
)
def test_weight_files_hold_plain_numbers(preset, edit, message):
    edited(preset / "model.weights.h5", edit)
    resign(preset)
    with pytest.raises(CheckpointError, match=message):
        keras_pe.PECore.from_preset(preset)


# === Building without random numbers ===
def test_no_weight_is_drawn(preset, model, monkeypatch):
    """Each initialiser would raise; what is no weight keeps its own."""

    def drawn(*arguments, **named):
        raise AssertionError("a random weight was drawn")

    for name in ("normal", "uniform", "truncated_normal"):
        monkeypatch.setattr(f"keras.src.backend.random.{name}", drawn)
    found = keras_pe.PECore.from_preset(preset)
    assert tiny.equal(tiny.values(found), tiny.values(model))


def test_seeds_are_no_zeros(tmp_path):
    model = tiny.core(drop_path=0.1)
    save_preset(model, tmp_path / "a")
    found = keras_pe.PECore.from_preset(tmp_path / "a")
    assert tiny.equal(tiny.values(found), tiny.values(model))
    for tower in (found.vision_encoder, found.text_encoder):
        assert keras.ops.convert_to_numpy(tower.seed_generator.state).any()
    with keras.StatelessScope():
        pass  # nothing is left that would be initialised once more here
    assert tiny.equal(tiny.values(found), tiny.values(model))


def test_weights_of_a_loaded_model_train(preset):
    """They are the parameters that the backend knows of."""
    found = keras_pe.PEVisionEncoder.from_preset(preset)
    before = tiny.values(found)
    found.compile(keras.optimizers.SGD(0.1), "mse")
    found.fit(tiny.images(), np.ones((2, 16), "float32"), verbose=0)
    changed = [
        not np.array_equal(a, b)
        for a, b in zip(before, tiny.values(found), strict=True)
    ]
    assert np.mean(changed) > 0.9
    if keras.backend.backend() == "torch":
        assert len(list(found.parameters())) == len(found.weights)


# === The dtype ===
def test_the_policy_of_all_keras_counts(preset):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        found = keras_pe.PECore.from_preset(preset)
        assert found.vision_encoder.dtype_policy.name == "mixed_bfloat16"
        assert found.text_encoder.dtype_policy.name == "mixed_bfloat16"
        told = keras_pe.PECore.from_preset(preset, dtype="float32")
        assert told.vision_encoder.dtype_policy.name == "float32"
    finally:
        keras.config.set_dtype_policy(before)
    assert keras_pe.PECore.from_preset(preset).text_encoder.dtype == "float32"


# === Saying what a file holds ===
def test_presets_are_inspected(preset, model):
    info = inspect_checkpoint(preset)
    assert (info.family, info.kind, info.class_name) == ("keras_pe", "core", "PECore")
    assert info.num_parameters == model.count_params()
    assert info.num_tensors == len(model.weights)
    assert info.vision_config["num_heads"] == tiny.VISION["num_heads"]
    assert info.text_config["context_length"] == 8
    assert info.dtypes == ("F32",)
    (preset / "model.weights.h5").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="is damaged"):
        inspect_checkpoint(preset)
    with pytest.raises(CheckpointError, match="No checkpoint at"):
        inspect_checkpoint(preset / "none.pt")
    with pytest.raises(CheckpointError, match="Unknown preset"):
        inspect_checkpoint("no_such_preset")


def test_heads_are_known_or_said_to_be_unknown(model, tmp_path):
    rules = core_rules(
        model.vision_encoder.get_config(), model.text_encoder.get_config()
    )
    save_file(tiny.tensors(rules), tmp_path / "a.safetensors")
    info = inspect_checkpoint(tmp_path / "a.safetensors")
    assert info.unknown_heads
    assert info.vision_config["num_heads"] is None
    assert info.vision_config["pooling_heads"] is None
    assert info.text_config["num_heads"] is None
    with pytest.raises(ValueError, match="Weights do not tell the number of heads"):
        keras_pe.PEVisionEncoder(**info.vision_config)
    with pytest.raises(CheckpointError, match="number of attention heads"):
        keras_pe.PECore.from_preset(tmp_path / "a.safetensors")
    assert resolve(tmp_path / "a.safetensors").checkpoint is not None
