"""Presets of our own format: round trips, and what is never deleted."""

import errno
import hashlib
import os
import shutil

import h5py
import keras
import ml_dtypes
import numpy as np
import pytest

import keras_pe
from keras_pe import PEImageConverter, PETokenizer
from keras_pe.presets import CheckpointError
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


# === Round trips ===
def test_layout_and_metadata(preset, model):
    assert {path.name for path in preset.iterdir()} == FILES
    assert os.listdir(preset.parent) == ["cats"]  # nothing is left beside it
    metadata = config_of(preset, "metadata")
    assert metadata["keras_version"] == keras.__version__
    assert metadata["keras_pe_version"] == keras_pe.__version__
    assert metadata["parameter_count"] == model.count_params()
    assert metadata["trained_on"] == "cats 🐈"
    assert set(metadata["files"]) == FILES - {"metadata.json"}
    for name, entry in metadata["files"].items():
        content = (preset / name).read_bytes()
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert entry["size"] == len(content)
    assert config_of(preset)["registered_name"] == "keras_pe>PECore"


class Replaced(keras_pe.PECore):
    """Another process saves the preset anew while this one is being built."""

    writers = []

    @classmethod
    def from_config(cls, config, *arguments):
        while cls.writers:
            cls.writers.pop()()
        return super().from_config(config, *arguments)


def test_a_preset_that_is_replaced_while_it_is_read_is_read_again(preset, model):
    other = tiny.scramble(tiny.core(), seed=5)
    Replaced.writers = [lambda: save_preset(other, preset, tiny.tokenizer())]
    found = Replaced.from_preset(preset)
    assert not Replaced.writers
    assert tiny.equal(tiny.values(found), tiny.values(other))


def test_a_full_disk_is_found_before_anything_is_written(preset, model, monkeypatch):
    usage = shutil.disk_usage(preset)
    full = lambda path: usage._replace(free=10_000)  # noqa: E731
    monkeypatch.setattr(shutil, "disk_usage", full)
    with pytest.raises(OSError, match="10,000 are free") as caught:
        save_preset(tiny.scramble(tiny.core(), 5), preset)
    assert caught.value.errno == errno.ENOSPC
    assert os.listdir(preset.parent) == [preset.name]
    found = keras_pe.PECore.from_preset(preset)
    assert tiny.equal(tiny.values(found), tiny.values(model))


def test_a_preset_is_found_after_a_kill_between_two_renames(preset, model):
    preset.rename(preset.with_name(f".{preset.name}.old"))
    found = keras_pe.PECore.from_preset(preset)
    assert tiny.equal(tiny.values(found), tiny.values(model))


@pytest.mark.slow
def test_core_comes_back(preset, model):
    found = keras_pe.PECore.from_preset(preset)
    assert found.get_config() == model.get_config()
    assert tiny.equal(tiny.values(found), tiny.values(model))
    assert np.array_equal(tiny.embed(found), tiny.embed(model))
    assert PETokenizer.from_preset(preset).get_config() == tiny.tokenizer().get_config()
    assert PEImageConverter.from_preset(preset).resize_mode == "center_crop"
    tower = keras_pe.PEVisionEncoder.from_preset(preset)
    assert tiny.equal(tiny.values(tower), tiny.values(model.vision_encoder))


@pytest.mark.slow
@pytest.mark.parametrize("cls", [keras_pe.PELang, keras_pe.PESpatial])
def test_vision_encoders_come_back(cls, tmp_path):
    model = tiny.lang(cls)
    model.save_to_preset(tmp_path / "a")
    found = cls.from_preset(tmp_path / "a")
    assert type(found) is cls
    assert np.array_equal(tiny.embed(found), tiny.embed(model))
    assert type(keras_pe.PEVisionEncoder.from_preset(tmp_path / "a")) is cls
    other = keras_pe.PESpatial if cls is keras_pe.PELang else keras_pe.PELang
    for wrong in (other, keras_pe.PECore):
        with pytest.raises(CheckpointError, match=rf"{cls.__name__}\.from_preset"):
            wrong.from_preset(tmp_path / "a")


@pytest.mark.slow
def test_truncated_encoder_comes_back(model, tmp_path):
    small = model.vision_encoder.truncate(1, norm=True)
    small.save_to_preset(tmp_path / "a")
    found = keras_pe.PEVisionEncoder.from_preset(tmp_path / "a")
    assert np.array_equal(tiny.embed(found), tiny.embed(small))


def test_subclasses_load_as_themselves(preset):
    class MyCore(keras_pe.PECore):
        pass

    assert type(MyCore.from_preset(preset)) is MyCore


def test_dtype_when_loading(preset):
    found = keras_pe.PECore.from_preset(preset, dtype="mixed_bfloat16")
    assert found.vision_encoder.dtype_policy.name == "mixed_bfloat16"
    assert found.text_encoder.dtype_policy.name == "mixed_bfloat16"
    with pytest.raises(CheckpointError, match="any size"):
        keras_pe.PECore.from_preset(preset, image_size=64)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_files(dtype, model, tmp_path):
    save_preset(model, tmp_path / "a", dtype=dtype)
    save_preset(model, tmp_path / "b")
    sizes = [(tmp_path / x / "model.weights.h5").stat().st_size for x in "ab"]
    assert sizes[0] < sizes[1] - model.count_params()
    found = keras_pe.PECore.from_preset(tmp_path / "a")
    assert found.vision_encoder.dtype_policy.name == "float32"
    for variable, original in zip(found.weights, model.weights, strict=True):
        a = keras.ops.convert_to_numpy(variable)
        b = keras.ops.convert_to_numpy(original)
        if "logit_scale" not in variable.path:  # float32 under any policy
            b = b.astype(getattr(ml_dtypes, dtype, dtype)).astype("float32")
        assert np.array_equal(a, b), variable.path
    assert config_of(tmp_path / "a", "metadata")["dtype"] == dtype


@pytest.mark.slow
def test_float16_overflow_is_refused(tmp_path):
    model = tiny.core()
    kernel = model.vision_encoder.projection.kernel
    kernel.assign(kernel * 1e7)
    with pytest.raises(CheckpointError, match="float16 can't hold"):
        save_preset(model, tmp_path / "a", dtype="float16")
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_weights_that_no_loader_takes_are_not_written(tmp_path, value, dtype):
    model = tiny.core()
    model.save_to_preset(tmp_path / "good")
    before = (tmp_path / "good" / "metadata.json").read_bytes()
    bias = model.vision_encoder.blocks[0].attention.qkv.bias
    broken = keras.ops.convert_to_numpy(bias).copy()
    broken[1] = value
    bias.assign(broken)
    for name in ("new", "good"):
        with pytest.raises(CheckpointError, match=r"qkv/bias .* NaN or infinite"):
            model.save_to_preset(tmp_path / name, dtype=dtype)
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "good" / "metadata.json").read_bytes() == before


def test_shards(model, tmp_path):
    save_preset(model, tmp_path / "a", max_shard_size=100 / 1024**2)
    listed = set(config_of(tmp_path / "a", "metadata")["files"])
    shards = {name for name in listed if name.endswith(".h5")}
    assert len(shards) == 3
    assert "model.weights.json" in listed
    found = keras_pe.PECore.from_preset(tmp_path / "a")
    assert tiny.equal(tiny.values(found), tiny.values(model))
    assert tiny.equal(_reloaded(tmp_path / "a"), tiny.values(model))
    for name in sorted(shards):
        path = tmp_path / "a" / name
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(CheckpointError, match=f"{name} is damaged"):
            keras_pe.PECore.from_preset(tmp_path / "a")
        path.write_bytes(content)
    config = config_of(tmp_path / "a", "model.weights")
    config["weight_map"]["/vars"] = "../../elsewhere.weights.h5"
    resign(tmp_path / "a", **{"model.weights": config})
    with pytest.raises(CheckpointError, match=r"elsewhere\.weights\.h5"):
        keras_pe.PECore.from_preset(tmp_path / "a")


def _reloaded(directory):
    return tiny.values(keras_pe.PECore.from_preset(directory))


@pytest.mark.slow
@pytest.mark.compiled
def test_compiled_models_and_lora(tmp_path):
    model = tiny.core()
    model.enable_lora(2)
    tiny.scramble(model, seed=3)
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    expected = tiny.embed(model)
    save_preset(model, tmp_path / "a")
    with h5py.File(tmp_path / "a" / "model.weights.h5") as file:
        assert set(file) == {"layers", "vars"}  # no optimizer
    found = keras_pe.PECore.from_preset(tmp_path / "a")
    assert np.allclose(tiny.embed(found), expected, atol=1e-6)
    assert config_of(tmp_path / "a", "metadata")["parameter_count"] == (
        found.count_params()
    )


@pytest.mark.slow
def test_weights_that_do_not_fit_are_refused(preset, tmp_path):
    """Checksums agree, but the file is another model's."""
    with h5py.File(preset / "model.weights.h5", "a") as file:
        path = "layers/pe_vision_encoder/layers/patch_embedding/projection/vars/0"
        del file[path]
        file[path] = np.zeros((3, 3), "float32")
    resign(preset)
    with pytest.raises(CheckpointError, match="does not hold the weights"):
        keras_pe.PECore.from_preset(preset)


# === Writing is whole or not at all ===
@pytest.mark.slow
def test_replaced_as_a_whole(preset):
    other = tiny.scramble(tiny.core(), seed=5)
    save_preset(other, preset)
    assert {path.name for path in preset.iterdir()} == {
        "config.json",
        "metadata.json",
        "model.weights.h5",
    }
    assert tiny.equal(_reloaded(preset), tiny.values(other))
    assert os.listdir(preset.parent) == ["cats"]


def test_a_failed_save_keeps_the_old_preset(preset, model, monkeypatch):
    before = tiny.directory_files(preset)

    def full_disk(*arguments):
        raise OSError(28, "No space left on device")

    for broken in ("presets.save.write_metadata", "files.sync"):
        with monkeypatch.context() as patch:
            patch.setattr(f"keras_pe.{broken}", full_disk)
            with pytest.raises(OSError, match="No space"):
                save_preset(model, preset)
        assert tiny.directory_files(preset) == before
        assert os.listdir(preset.parent) == ["cats"]


def test_other_directories_are_left_alone(model, preset, tmp_path):
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter1.tex").write_text("Cats.")
    with pytest.raises(CheckpointError, match="holds no preset"):
        save_preset(model, thesis)
    with pytest.raises(CheckpointError, match="is a file"):
        save_preset(model, thesis / "chapter1.tex")
    (preset / "notes.txt").write_text("Mine.")
    with pytest.raises(CheckpointError, match=r"notes\.txt"):
        save_preset(model, preset)
    (preset / "notes.txt").unlink()
    (preset / "metadata.json").write_text("{}")
    with pytest.raises(CheckpointError, match="damaged preset"):
        save_preset(model, preset)
    (tmp_path / "empty").mkdir()
    save_preset(model, tmp_path / "empty")  # empty is as good as new
    save_preset(model, tmp_path / "new" / "one")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": "int8"}, "float16, bfloat16, float32"),
        ({"metadata": {"files": {}}}, "can't set files"),
        ({"metadata": {"loss": float("nan")}}, "JSON values"),
        ({"metadata": {"model": object()}}, "JSON values"),
        ({"tokenizer": keras_pe.PEImageConverter(32)}, "expected one of"),
    ],
)
def test_bad_arguments(model, tmp_path, arguments, message):
    with pytest.raises(CheckpointError, match=message):
        save_preset(model, tmp_path / "a", **arguments)
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_what_is_no_preset_model(tmp_path):
    model = tiny.core()
    with pytest.raises(CheckpointError, match="A PETextEncoder can't be saved"):
        save_preset(model.text_encoder, tmp_path / "a")
    with pytest.raises(CheckpointError, match="A Sequential can't be saved"):
        save_preset(keras.Sequential(), tmp_path / "a")
    model.vision_encoder.blocks[0].feed_forward.expand.quantize("int8")
    with pytest.raises(CheckpointError, match="quantised"):
        save_preset(model, tmp_path / "a")
