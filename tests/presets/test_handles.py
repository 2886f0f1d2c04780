"""Handles that are none of the Hub's: schemes, Kaggle, files and directories."""

import sys
import types

import pytest

import keras_pe
from keras_pe.presets import CheckpointError
from keras_pe.presets.hub import known_preset, resolve
from keras_pe.presets.save import save_preset
from tests.presets import tiny
from tests.presets.test_hub import preset_files

pytestmark = [pytest.mark.quick, pytest.mark.once]


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    """An empty cache."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


@pytest.fixture
def released(monkeypatch):
    tiny.shrink(monkeypatch, "PE-Core-T16-384", "PE-Lang-L14-448", "PE-Spatial-T16-512")


@pytest.mark.parametrize("handle", ["hf://", "hf://cats", "hf://a/b/c", "hf://a/b@"])
def test_bad_hub_handles(handle):
    with pytest.raises(CheckpointError, match=r"Expected hf://owner/repo"):
        resolve(handle)


@pytest.mark.parametrize("handle", [None, 3, b"cats", ["cats"]])
def test_what_is_no_text_is_refused_by_its_type(handle):
    for find in (resolve, known_preset, keras_pe.PECore.from_preset):
        with pytest.raises(TypeError, match=f"name, path.*{type(handle).__name__}"):
            find(handle)
    with pytest.raises(TypeError, match=f"to a directory.*{type(handle).__name__}"):
        save_preset(tiny.lang(), handle)


def test_unknown_scheme():
    with pytest.raises(CheckpointError, match="unknown scheme"):
        resolve("s3://bucket/cats")


def test_kaggle_without_kagglehub(monkeypatch):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(CheckpointError, match="pip install kagglehub"):
        resolve("kaggle://me/cats/keras/tiny")
    with pytest.raises(CheckpointError, match="Expected kaggle://owner"):
        resolve("kaggle://me/cats")


def test_kaggle(monkeypatch, tmp_path):
    model = tiny.core()
    preset_files(tmp_path, model)
    asked = []

    def model_download(handle):
        asked.append(handle)
        if "private" in handle:
            raise RuntimeError("403")
        return str(tmp_path / "made")

    module = types.SimpleNamespace(model_download=model_download)
    monkeypatch.setitem(sys.modules, "kagglehub", module)
    found = keras_pe.PECore.from_preset("kaggle://me/cats/keras/tiny/3")
    assert asked == ["me/cats/keras/tiny/3"]
    assert tiny.equal(tiny.values(found), tiny.values(model))
    with pytest.raises(CheckpointError, match="could not be fetched from Kaggle: 403"):
        resolve("kaggle://me/private/keras/tiny")


@pytest.mark.slow
def test_local_files_and_directories(released, tmp_path, monkeypatch):
    monkeypatch.setitem(tiny.VISION, "hidden_dim", 192)
    monkeypatch.setitem(tiny.VISION, "num_heads", 3)
    tiny.shrink(monkeypatch, "PE-Lang-L14-448")
    content = tiny.safetensors(tiny.foreign("PE-Lang-L14-448", "upstream"))
    (tmp_path / "weights.safetensors").write_bytes(content)
    (tmp_path / "weights.pt").write_bytes(b"never opened")
    for handle in (tmp_path, tmp_path / "weights.safetensors"):
        model = keras_pe.PELang.from_preset(handle)
        assert model.image_size == 32
        converter = keras_pe.PEImageConverter.from_preset(handle)
        assert converter.image_size == (32, 32)
