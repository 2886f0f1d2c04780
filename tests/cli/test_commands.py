"""The commands, run as a user runs them, on the preset inside the package."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from keras_pe.cli import demo
from keras_pe.cli.main import COMMANDS, main
from tests.reference_models import checkpoint


def run(capsys, *arguments):
    """Runs a command; returns (exit code, output, errors)."""
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def pictures(tmp_path):
    for path in demo.PICTURES.glob("*.png"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_demo_writes_a_table_and_a_picture(capsys, tmp_path):
    output = tmp_path / "demo.png"
    code, out, _ = run(capsys, "demo", "--output", output)
    assert code == 0
    assert "rocket" in out
    assert "right. Loaded" in out
    with Image.open(output) as picture:
        assert picture.size[0] == 1040


def test_classify_with_own_classes(capsys, pictures):
    code, out, _ = run(
        capsys,
        *("classify", pictures, "--classes", "rocket", "pizza", "guitar"),
        *("--top-k", "2", "--json"),
    )
    assert code == 0
    rows = [json.loads(line) for line in out.splitlines()]
    assert len(rows) == len(list(pictures.glob("*.png")))
    for row in rows:
        assert len(row["classes"]) == 2
        assert {c["class"] for c in row["classes"]} <= {"rocket", "pizza", "guitar"}


def test_classify_skips_and_names_bad_pictures(capsys, pictures):
    (pictures / "bad.png").write_bytes(b"no picture")
    code, out, err = run(capsys, "classify", pictures, "--classes", "cat", "dog")
    assert code == 3
    assert "skipped" in err
    assert "bad.png" in err
    assert "rocket.png" in out


def test_classify_from_a_file_of_classes(capsys, pictures, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("rocket\n\npizza\n")
    code, out, _ = run(
        capsys, "classify", pictures / "rocket.png", "--classes-file", names
    )
    assert code == 0
    assert len(out.splitlines()) == 3


def test_embed_index_and_search(capsys, pictures, tmp_path):
    npz = tmp_path / "vectors.npz"
    code, _, _ = run(capsys, "embed", pictures, "--output", npz)
    assert code == 0
    with np.load(npz) as found:
        assert found["embeddings"].shape[0] == len(found["names"])
        lengths = np.linalg.norm(found["embeddings"], axis=1)
    np.testing.assert_allclose(lengths, 1.0, atol=1e-5)

    index = tmp_path / "pictures.index"
    code, out, _ = run(capsys, "index", pictures, "--output", index)
    assert code == 0
    assert "pictures indexed" in out
    code, out, _ = run(
        capsys, "search", index, "--picture", pictures / "pizza.png", "--top-k", 1
    )
    assert code == 0
    assert "pizza.png" in out
    code, out, _ = run(capsys, "search", index, "--text", "a rocket", "--json")
    assert code == 0
    assert len(out.splitlines()) == len(list(pictures.glob("*.png")))


def test_embed_texts(capsys, tmp_path):
    npz = tmp_path / "texts.npz"
    code, _, _ = run(capsys, "embed", "--texts", "a cat", "a dog", "--output", npz)
    assert code == 0
    with np.load(npz) as found:
        assert found["names"].tolist() == ["a cat", "a dog"]


@pytest.mark.quick
def test_presets_are_listed(capsys):
    code, out, _ = run(capsys, "presets", "--json")
    assert code == 0
    assert len(json.loads(out)) == 16
    code, out, _ = run(capsys, "presets")
    assert code == 0
    assert "PE-Spat" in out


@pytest.mark.quick
def test_inspect(capsys):
    code, out, _ = run(capsys, "inspect", checkpoint("open_clip"))
    assert code == 0
    assert "open_clip (dual encoder)" in out


@pytest.mark.quick
@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect", "none.pt"),
        ("classify", "none.png", "--classes", "a"),
        ("index", "none", "--output", "x"),
        ("search", "none", "--text", "a"),
        ("embed", "--output", "x.npz"),
    ],
)
def test_errors_are_one_line(capsys, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, *arguments)
    assert code == 1
    assert err.startswith("keras-pe: ")
    assert len(err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.quick
def test_wrong_command_lines_exit_with_2(capsys):
    for arguments in ([], ["fly"], ["search", "x"], ["classify", "a", "--top-k", "0"]):
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 2
        capsys.readouterr()


@pytest.mark.quick
@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_an_example(capsys, command):
    with pytest.raises(SystemExit) as exit_:
        main([command, "--help"])
    assert exit_.value.code == 0
    assert f"keras-pe {command}" in capsys.readouterr().out.split("example")[-1]


@pytest.mark.slow
def test_a_closed_pipe_is_no_error():
    command = [sys.executable, "-m", "keras_pe.cli.main", "presets", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        errors = process.stderr.read().decode()
        process.wait()
    assert "BrokenPipe" not in errors
