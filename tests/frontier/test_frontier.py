"""The frontier: real files, scored and timed; what is beaten, and what is refused."""

import dataclasses
import io
import json

import numpy as np
import pytest
from PIL import Image

from keras_pe.cli.main import main
from keras_pe.export import comparison
from keras_pe.export.comparison import ExportError
from keras_pe.frontier import FrontierPoint, frontier
from keras_pe.frontier.frontier_result import pareto
from tests.small_models import perturb, vision_encoder

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
GLOBALS = frontier.__globals__  # its module has its name
pytestmark = pytest.mark.once  # the files are the same on every backend


@pytest.fixture(autouse=True)
def no_long_timing(monkeypatch):
    monkeypatch.setattr(comparison, "LEAST_SECONDS", 0.0)
    monkeypatch.setitem(GLOBALS, "LEAST_SECONDS", 0.0)
    monkeypatch.setitem(GLOBALS, "TURNS", 3)


@pytest.fixture(scope="module")
def encoder():
    return perturb(vision_encoder())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes that colour tells apart, ten images each."""
    root = tmp_path_factory.mktemp("classes")
    rng = np.random.default_rng(0)
    for name, channel in (("red", 0), ("blue", 2)):
        (root / name).mkdir()
        for number in range(10):
            pixels = rng.integers(0, 60, (32, 32, 3)).astype("uint8")
            pixels[..., channel] += 180
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


def test_cuts_and_precisions(encoder, folder, tmp_path):
    found = frontier(
        encoder, folder, layers=(-1, 1), quantize=("none", "fp16"), progress=False
    )
    assert [(p.layer, p.quantize) for p in found.points] == [
        (3, "none"),
        (3, "fp16"),
        (1, "none"),
        (1, "fp16"),
    ]
    assert not found.refused
    whole, _, cut, half = found.points
    assert whole.speed == 1.0
    assert cut.num_bytes < whole.num_bytes
    assert half.num_bytes < cut.num_bytes
    assert whole.score == cut.score == 1.0  # colour is in every layer
    assert whole.low < 0.7  # of four images, whatever resampling says
    assert found.protocol["images"] == {"train": 12, "validation": 4, "test": 4}
    assert found.protocol["guess"] == 0.5
    assert all(np.isfinite(point.milliseconds) for point in found.points)
    assert "float32" in str(found)
    found.save(tmp_path / "found.json")
    stored = json.loads((tmp_path / "found.json").read_text())
    assert stored == found.to_json()
    assert any(point["best"] for point in stored["points"])
    found.plot(tmp_path / "found.png")
    with Image.open(tmp_path / "found.png") as picture:
        assert picture.width > 500


def test_labels_that_say_nothing_are_not_learned(encoder, tmp_path):
    rng = np.random.default_rng(1)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for number in range(40):
            pixels = rng.integers(0, 255, (32, 32, 3)).astype("uint8")
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    found = frontier(encoder, tmp_path, layers=(2,), quantize=("none",), progress=False)
    (point,) = found.points
    assert point.low <= 0.5 <= point.high


def test_a_file_that_is_off_is_named(encoder, folder, monkeypatch):
    whole = GLOBALS["export"]

    def off(model, *arguments, quantize, **options):
        if quantize == "int8":
            raise ExportError("cosine 0.5, the first layer that differs is block_1")
        return whole(model, *arguments, quantize=quantize, **options)

    monkeypatch.setitem(GLOBALS, "export", off)
    found = frontier(
        encoder, folder, layers=(3,), quantize=("none", "int8"), progress=False
    )
    assert [point.quantize for point in found.points] == ["none"]
    assert "refused: layer 3, int8, 32 px: cosine 0.5" in str(found)
    with pytest.raises(ExportError, match="No file was kept: cosine"):
        frontier(encoder, folder, layers=(3,), quantize=("int8",), progress=False)


def test_another_folder_of_test_images(encoder, folder, tmp_path):
    (tmp_path / "green").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "green" / "1.png")
    with pytest.raises(ValueError, match="such as 'green'"):
        frontier(encoder, folder, tmp_path, progress=False)
    found = frontier(
        encoder, folder, folder, layers=(3,), quantize=("none",), progress=False
    )
    assert found.protocol["images"] == {"train": 16, "validation": 4, "test": 20}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantize": ("int4",)}, "expected one or more of"),
        ({"quantize": ()}, "expected one or more of"),
        ({"layers": (0,)}, "blocks 1 to 3"),
        ({"layers": (4,)}, "4"),
        ({"layers": ()}, "blocks 1 to 3"),
        ({"image_sizes": (30,)}, "30"),
        ({"image_sizes": (32, 30)}, "30"),
        ({"threads": 0}, "threads"),
        ({"seed": -1}, "Seeds must be whole numbers of at least 0, got -1"),
        ({"seed": 0.5}, "Seeds must be whole numbers"),
    ],
)
def test_what_can_not_be_is_said_before_a_file_is_written(
    encoder, folder, options, message
):
    with pytest.raises(ValueError, match=message):
        frontier(encoder, folder, progress=False, **options)


def test_a_class_of_two_images_is_refused(encoder, folder, tmp_path):
    for name, count in (("few", 2), ("many", 9)):
        (tmp_path / name).mkdir()
        for number in range(count):
            Image.new("RGB", (32, 32)).save(tmp_path / name / f"{number}.png")
    with pytest.raises(ValueError, match=r"2 images of 'few', expected 3"):
        frontier(encoder, tmp_path, progress=False)


def test_nothing_beats_those_that_are_best():
    point = FrontierPoint(6, "none", 64, 0.9, 0.8, 1.0, 4.0, 1.0, 9, 1.0)
    equal = dataclasses.replace(point, layer=5, milliseconds=3.0)
    assert pareto([point, equal]) == (equal,)
    assert pareto([]) == ()


def test_the_command(folder, capsys, tmp_path):
    arguments = ["frontier", "pe_spatial_emoji_patch8_64", str(folder)]
    arguments += ["--layers", "1", "--quantize", "none"]
    arguments += [
        "--output",
        str(tmp_path / "a.json"),
        "--plot",
        str(tmp_path / "a.png"),
    ]
    assert main([*arguments, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == json.loads((tmp_path / "a.json").read_text())
    assert (tmp_path / "a.png").exists()
    assert main(["frontier", "pe_spatial_emoji_patch8_64", str(tmp_path / "no")]) == 1
    assert "no" in capsys.readouterr().err


@pytest.mark.parametrize("data", [None, io.BytesIO(b"x"), 3])
def test_what_is_no_folder_is_named(encoder, data):
    with pytest.raises(TypeError, match="data must be a folder"):
        frontier(encoder, data, progress=False)


def test_what_is_no_model_is_named(folder):
    with pytest.raises(TypeError, match="a preset, a PECore or a vision encoder"):
        frontier(np.zeros((1, 32, 32, 3), "uint8"), folder, progress=False)
