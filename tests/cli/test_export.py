"""`keras-pe export`, as a user runs it."""

import json

import pytest

from keras_pe.cli.main import main
from keras_pe.export import comparison

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.once  # the files are the same on every backend
PRESET = "pe_spatial_emoji_patch8_64"


@pytest.fixture(autouse=True)
def no_long_timing(monkeypatch):
    monkeypatch.setattr(comparison, "LEAST_SECONDS", 0.0)


def test_a_preset_in_int8(capsys, tmp_path):
    folder = tmp_path / "out"
    arguments = ["export", PRESET, "--quantize", "int8", "--output", str(folder)]
    assert main([*arguments, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == json.loads((folder / "receipt.json").read_text())
    assert (said["model"], said["quantize"]) == (PRESET, "int8")
    assert {path.name for path in folder.iterdir()} == {
        "image.onnx",
        "export.json",
        "receipt.json",
        "run.py",
    }


def test_what_can_not_be_is_a_line(capsys, tmp_path):
    arguments = ["export", PRESET, "--tower", "both", "--output", str(tmp_path / "out")]
    assert main(arguments) == 1
    assert "has no text tower" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
