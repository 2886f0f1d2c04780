"""`keras-pe evaluate` on the demo images, with the preset inside the package."""

import argparse
import json
import tarfile

import keras
import numpy as np
import pytest
from PIL import Image

from keras_pe.cli import evaluate
from keras_pe.cli.common import BUNDLED_PRESET, load
from keras_pe.cli.demo import IMAGES
from keras_pe.evaluation import data_hash, weights_hash
from keras_pe.evaluation.datasets import read_image_folder


@pytest.fixture(scope="module")
def loaded():
    return load(BUNDLED_PRESET)


@pytest.fixture
def one_model(monkeypatch, loaded):
    """Loads the preset once for all tests: compiling it takes most of the time."""
    monkeypatch.setattr(evaluate, "load", {BUNDLED_PRESET: loaded}.__getitem__)
    return loaded.model


def run(capsys, *arguments):
    """Runs the command as `main` does; returns (exit code, output, errors)."""
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    code = evaluate.run(parser.parse_args([str(argument) for argument in arguments]))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def folders(tmp_path):
    """One folder for each class, with one image."""
    for path in IMAGES.glob("*.png"):
        folder = tmp_path / "classes" / path.stem
        folder.mkdir(parents=True)
        (folder / path.name).write_bytes(path.read_bytes())
    return tmp_path / "classes"


def test_zero_shot(capsys, one_model, folders, tmp_path):
    output = tmp_path / "result.json"
    templates = tmp_path / "templates.json"
    templates.write_text(json.dumps({"icons": ["{c}", "a drawing of a {c}."]}))
    code, out, err = run(
        capsys,
        *("zero-shot", folders, "--templates", templates, "--templates-for", "icons"),
        *("--output", output, "--seed", 3, "--batch-size", 8),
        *("--preset", BUNDLED_PRESET),
    )
    assert (code, err) == (0, "")
    assert "8 scored, 0 skipped" in out
    result = json.loads(output.read_text())
    assert result["scores"]["squash"]["top1"]["value"] > 0.8
    assert result["protocol"]["templates"] == ["{c}", "a drawing of a {c}."]
    assert result["protocol"]["converter"]["image_size"] == [64, 64]
    assert result["seed"] == 3
    assert result["versions"]["backend"] == keras.backend.backend()
    assert result["weights_hash"] == weights_hash(one_model)
    data = read_image_folder(folders)
    assert result["data_hash"] == data_hash(
        data.samples, [data.labels, data.class_names]
    )

    (folders / "owl" / "bad.png").write_bytes(b"no image")
    code, out, err = run(
        capsys,
        *("zero-shot", folders, "--max-skipped", 0.2, "--resize-mode", "squash"),
        *("--batch-size", 8, "--hash", "names"),
    )
    assert code == 3
    assert "1 skipped" in out
    assert "bad.png: not an image" in err


@pytest.mark.usefixtures("one_model")
def test_equal_names_are_rivals_or_credited(capsys, folders):
    copy = folders / "OWL "  # of another folder's name, to the model
    copy.mkdir()
    (copy / "owl.png").write_bytes((folders / "owl" / "owl.png").read_bytes())
    scores = {}
    for choice in ("separate", "credit"):
        with pytest.warns(UserWarning, match="2 of 9 class names"):
            _, out, _ = run(
                capsys,
                *("zero-shot", folders, "--equal-names", choice, "--json"),
                *("--template-set", "plain", "--resize-mode", "squash"),
            )
        found = json.loads(out)
        assert found["protocol"]["equal_names"] == choice
        scores[choice] = found["scores"]["squash"]["top1"]["value"]
    assert scores["credit"] == pytest.approx(scores["separate"] + 2 / 9)


@pytest.mark.usefixtures("one_model")
def test_videos_of_the_same_images(capsys, tmp_path):
    for path in IMAGES.glob("*.png"):
        folder = tmp_path / path.stem
        folder.mkdir()
        with Image.open(path) as image:
            frame = image.convert("RGB").resize((64, 64))
        frames = [frame, frame.rotate(5), frame.rotate(-5)]
        frames[0].save(folder / "a.webp", save_all=True, append_images=frames[1:])
    code, out, _ = run(
        capsys,
        *("zero-shot", tmp_path, "--video", "--num-frames", 2, "--batch-size", 16),
        *("--resize-mode", "squash", "--template-set", "plain"),
    )
    assert code == 0
    assert "zero-shot video classification: 8 scored" in out
    top1 = float(out.splitlines()[2].split()[1])
    assert top1 > 60


@pytest.mark.usefixtures("one_model")
def test_shards_of_the_same_images(capsys, folders, tmp_path):
    names = sorted(path.name for path in folders.iterdir())
    (tmp_path / "names.txt").write_text("\n".join(names))
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for label, name in enumerate(names):
            tar.add(folders / name / f"{name}.png", f"{name}.png")
            (tmp_path / "label").write_text(str(label))
            tar.add(tmp_path / "label", f"{name}.cls")
    results = []
    for source in ([folders], ["--shards", tmp_path / "{0..0}.tar"]):
        output = tmp_path / "result.json"
        code, _, _ = run(
            capsys,
            *("zero-shot", *source, "--names", tmp_path / "names.txt"),
            *("--output", output, "--batch-size", 8, "--resize-mode", "squash"),
        )
        assert code == 0
        results.append(json.loads(output.read_text()))
    assert results[0] == results[1]  # hashes too: the bytes of the files are the same


@pytest.mark.usefixtures("one_model")
def test_retrieval(capsys, tmp_path):
    paths = sorted(IMAGES.glob("*.png"))
    content = {
        "images": [{"id": i, "file_name": path.name} for i, path in enumerate(paths)],
        "annotations": [
            {"image_id": i, "caption": caption}
            for i, path in enumerate(paths)
            for caption in (path.stem, f"a drawing of a {path.stem}")
        ],
    }
    captions, output = tmp_path / "captions.json", tmp_path / "result.json"
    captions.write_text(json.dumps(content))
    code, out, _ = run(
        capsys,
        *("retrieval", "--coco", captions, "--images", IMAGES, "--dsl-scale", 1),
        *("--output", output, "--batch-size", 8),
    )
    assert code == 0
    assert "text_to_image_recall_at_1" in out
    result = json.loads(output.read_text())
    assert result["protocol"]["dsl_scale"] == 1
    for scores in result["scores"].values():
        assert scores["text_to_image_recall_at_1"]["count"] == 16
        assert scores["text_to_image_recall_at_1"]["value"] > 0.8
    code, again, _ = run(
        capsys,
        *("retrieval", "--coco", captions, "--images", IMAGES, "--max-captions", 1),
        *("--resize-mode", "squash", "--batch-size", 8),
    )
    assert code == 0
    assert "better of" not in again


@pytest.mark.quick
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("zero-shot",), ValueError, "folder or --shards"),
        (("zero-shot", "nowhere"), FileNotFoundError, "nowhere"),
        (("zero-shot", "--shards", "a.tar"), ValueError, "--names"),
        (("retrieval", "--coco", "a.json"), ValueError, "--images"),
        (
            ("retrieval", "--coco", "a.json", "--images", "no"),
            FileNotFoundError,
            "No folder no",
        ),
    ],
)
def test_errors_come_before_any_model(capsys, arguments, error, message):
    with pytest.raises(error, match=message):
        run(capsys, *arguments)


@pytest.mark.quick
def test_help_and_wrong_arguments(capsys):
    assert "keras-pe evaluate" in evaluate.EPILOG.split("example")[-1]
    for arguments in ((), ("fly",), ("retrieval",), ("zero-shot", "a", "--hash", "b")):
        with pytest.raises(SystemExit) as exit_:
            run(capsys, *arguments)
        assert exit_.value.code == 2


@pytest.mark.quick
def test_all_sources_of_samples(tmp_path):
    """Each way to name a data set reaches its reader with the right arguments."""
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    Image.fromarray(np.zeros((4, 4), "uint8")).save(tmp_path / "a.png")
    record = {"filename": "a.png", "split": "val", "sentences": [{"raw": "a"}] * 3}
    karpathy, table = tmp_path / "dataset.json", tmp_path / "videos.csv"
    karpathy.write_text(json.dumps({"images": [record]}))
    table.write_text("video_id,sentence\na,a cat\n")
    (tmp_path / "a.mp4").write_bytes(b"")
    for arguments, texts in (
        (("--karpathy", karpathy, "--split", "val", "--max-captions", 2), ("a", "a")),
        (("--csv", table), ("a cat",)),
    ):
        options = parser.parse_args(
            ["retrieval", *map(str, arguments), "--images", str(tmp_path)]
        )
        assert evaluate._captioned(options).texts == (texts,)
        assert (evaluate._video(options) is not None) == (arguments[0] == "--csv")
