"""The commands, run as a user runs them, on the preset inside the package."""

import argparse
import copy
import csv
import importlib
import json
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from keras_pe.cli import demo, embed, visualize
from keras_pe.cli.common import load
from keras_pe.cli.main import COMMANDS, main
from keras_pe.models.embedding import class_vectors
from keras_pe.presets.class_vectors import CLASS_VECTORS, read_class_vectors
from keras_pe.visualization.patch_embeddings import PatchMethod
from keras_pe.visualization.text_scores import Contrast
from tests.reference_models import checkpoint


def run(capsys, *arguments):
    """Runs a command; returns (exit code, output, errors)."""
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def images(tmp_path):
    for path in demo.IMAGES.glob("*.png"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_demo_writes_a_table_and_an_image(capsys, tmp_path):
    output = tmp_path / "demo.png"
    code, out, err = run(capsys, "demo", "--output", output)
    assert code == 0
    assert "7 of 8 right among 8 names" in out
    # Answers are marked by signs too: a pipe has no colours.
    assert "\x1b[" not in out
    lines = [line.split("│")[1:-1] for line in out.splitlines() if "│" in line]
    rows = [line for line in lines if line[0].strip()]  # the others go on
    assert len(rows) == 8
    for label, *answers in rows:
        for sign, name in (answer.split()[:2] for answer in answers[:2]):
            assert sign == ("+" if name == label.strip() else "x")
    assert sum(row[1].split()[0] == "+" for row in rows) == 7
    assert [line.split()[0] for line in err.splitlines()] == [
        "1/4",
        "2/4",
        "3/4",
        "4/4",
    ]
    with Image.open(output) as image:
        assert image.size[0] == 1240


def test_saved_class_vectors_are_those_of_the_prompts():
    loaded = load("pe_core_emoji_patch8_64")
    known = loaded.metadata["zero_shot"]
    saved = loaded.class_matrix
    assert saved.shape == (1364, 192)
    rows = slice(0, 1364, 91)
    loaded.tokenizer.on_truncation = "ignore"
    made, _ = class_vectors(
        *(loaded.model, loaded.tokenizer),
        *(known["class_names"][rows], known["templates"]),
    )
    np.testing.assert_allclose(saved[rows], made, atol=2e-3)
    size = (loaded.directory / CLASS_VECTORS).stat().st_size
    assert size < 0.6 * 2**20


def test_class_vectors_of_other_weights_or_names_are_ignored(tmp_path):
    source = load("pe_core_emoji_patch8_64")
    for change in ("nothing", "weights", "names", "templates"):
        metadata = copy.deepcopy(source.metadata)
        if change == "weights":
            metadata["files"]["model.weights.h5"]["sha256"] = "0" * 64
        elif change == "names":
            metadata["zero_shot"]["class_names"][0] = "another"
        elif change == "templates":
            metadata["zero_shot"]["templates"].pop()
        known = metadata["zero_shot"]
        names, templates = known["class_names"], known["templates"]
        found = read_class_vectors(source.directory, metadata, names, templates)
        assert (found is None) == (change != "nothing"), change


def test_classify_with_own_classes(capsys, images):
    code, out, _ = run(
        capsys,
        *("classify", images, "--classes", "rocket", "pizza", "guitar"),
        *("--top-k", "2", "--json"),
    )
    assert code == 0
    rows = [json.loads(line) for line in out.splitlines()]
    assert len(rows) == len(list(images.glob("*.png")))
    for row in rows:
        assert len(row["classes"]) == 2
        assert {c["class"] for c in row["classes"]} <= {"rocket", "pizza", "guitar"}


@pytest.mark.once
def test_classify_skips_and_names_bad_images(capsys, images):
    (images / "bad.png").write_bytes(b"no image")
    code, out, err = run(capsys, "classify", images, "--classes", "cat", "dog")
    assert code == 3
    assert "skipped" in err
    assert "bad.png" in err
    assert "rocket.png" in out


def test_classify_from_a_file_of_classes(capsys, images, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("rocket\n\npizza\n")
    code, out, _ = run(
        capsys, "classify", images / "rocket.png", "--classes-file", names
    )
    assert code == 0
    assert len(out.splitlines()) == 3
    names.write_text("rocket\npizza\n", encoding="utf-8-sig")  # of Windows
    marked = run(capsys, "classify", images / "rocket.png", "--classes-file", names)
    assert marked[:2] == (0, out)
    names.write_bytes(b"caf\xe9\nbar\n")
    code, _, err = run(
        capsys, "classify", images / "rocket.png", "--classes-file", names
    )
    assert code == 1
    assert "names.txt is no UTF-8 text" in err


@pytest.mark.once
def test_nothing_that_can_be_read_is_an_error(capsys, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    bad, output = tmp_path / "bad.png", tmp_path / "vectors.npz"
    for command in (
        ("classify", bad, "--classes", "cat", "dog"),
        ("embed", bad, "--output", output),
        ("index", tmp_path, "--output", tmp_path / "index"),
    ):
        code, out, err = run(capsys, *command)
        assert code == 1
        assert "none of the images could be read" in err.lower()
        assert out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["bad.png"]


def test_embed_index_and_search(capsys, images, tmp_path):
    npz = tmp_path / "vectors.npz"
    code, _, _ = run(capsys, "embed", images, "--output", npz)
    assert code == 0
    with np.load(npz) as found:
        assert found["embeddings"].shape[0] == len(found["names"])
        lengths = np.linalg.norm(found["embeddings"], axis=1)
    np.testing.assert_allclose(lengths, 1.0, atol=1e-5)

    index = tmp_path / "images.index"
    code, out, _ = run(capsys, "index", images, "--output", index)
    assert code == 0
    assert "images indexed" in out
    code, out, _ = run(
        capsys, "search", index, "--image", images / "pizza.png", "--top-k", 1
    )
    assert code == 0
    assert "pizza.png" in out
    html = tmp_path / "found.html"
    code, out, err = run(
        capsys, "search", index, "--text", "a <rocket>", "--json", "--html", html
    )
    assert code == 0
    assert len(out.splitlines()) == len(list(images.glob("*.png")))
    assert f"wrote {html}" in err
    page = html.read_text("utf-8")
    assert "<h1>Search: a &lt;rocket&gt;</h1>" in page
    assert page.count('<img src="data:image/') == len(out.splitlines())


@pytest.mark.once
def test_an_index_knows_its_preset_and_is_updated(capsys, images, tmp_path):
    index = tmp_path / "index"
    folder = tmp_path / "few"
    folder.mkdir()
    for name in ("pizza", "owl"):
        (images / f"{name}.png").rename(folder / f"{name}.png")
    preset = "pe_core_emoji_small_patch8_64"
    code, _, _ = run(capsys, "index", folder, "--output", index, "--preset", preset)
    assert code == 0
    (images / "cactus.png").rename(folder / "cactus.png")
    code, out, _ = run(capsys, "index", folder, "--output", index, "--update", "--json")
    assert code == 0
    counts = json.loads(out)
    assert (counts["images"], counts["unchanged"]) == (3, 2)
    assert counts["preset"] == preset
    code, out, _ = run(
        capsys, "search", index, "--image", folder / "owl.png", "--json", "--top-k", 1
    )
    assert code == 0
    match = json.loads(out)
    assert match["image"] == str(folder / "owl.png")
    assert match["similarity"] == pytest.approx(1.0, abs=1e-5)
    code, _, err = run(
        *(capsys, "search", index, "--text", "an owl"),
        *("--preset", "pe_core_emoji_patch8_64"),
    )
    assert code == 1
    assert f"another model ({preset})" in err


def test_embeddings_in_every_format(capsys, tmp_path):
    found = {}
    for suffix in embed.WRITERS:
        path = tmp_path / f"texts{suffix}"
        texts = ("--texts", "a cat", 'a "dog", big')
        code, out, _ = run(capsys, "embed", *texts, "--output", path, "--json")
        assert code == 0
        assert json.loads(out) == {"output": str(path), "count": 2, "channels": 192}
        found[suffix] = path
    with np.load(found[".npz"]) as file:
        expected, names = file["embeddings"], file["names"].tolist()
    np.testing.assert_array_equal(np.load(found[".npy"]), expected)
    with found[".csv"].open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["name", *map(str, range(192))]
    assert [row[0] for row in rows] == names
    for numbers in (
        [row[1:] for row in rows],
        [row["embedding"] for row in json.loads(found[".json"].read_text())],
        [
            json.loads(line)["embedding"]
            for line in found[".jsonl"].read_text().splitlines()
        ],
    ):
        np.testing.assert_array_equal(np.array(numbers, "float32"), expected)


@pytest.mark.once
def test_a_model_that_nobody_chose_is_named(capsys, images):
    given = ["classify", images / "owl.png", "--classes", "owl", "guitar", "--json"]
    _, unsaid, err = run(capsys, *given)
    assert "pe_core_emoji_patch8_64" in err
    assert "trained on drawings; for photographs: --preset" in err
    _, said, err = run(capsys, *given, "--preset", "pe_core_emoji_patch8_64")
    assert err == ""
    assert said == unsaid


def test_embed_texts(capsys, tmp_path):
    npz = tmp_path / "texts.npz"
    code, _, _ = run(capsys, "embed", "--texts", "a cat", "a dog", "--output", npz)
    assert code == 0
    with np.load(npz) as found:
        assert found["names"].tolist() == ["a cat", "a dog"]


@pytest.mark.quick
@pytest.mark.once
def test_presets_are_listed(capsys):
    code, out, _ = run(capsys, "presets", "--json")
    assert code == 0
    assert len(json.loads(out)) == 19
    code, out, _ = run(capsys, "presets")  # to a pipe
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines() if "pe_" in line}
    assert len(lines) == 19
    assert "PE-Lang-G14-448-Tiling" in lines["pe_lang_gigantic_patch14_448_tiling"]
    for name, line in lines.items():
        where = "in the package" if "emoji" in name else "Hugging Face Hub"
        assert line.rstrip().endswith(where)


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
        ("search", "none", "--text", "a", "--html", "/proc/none/x.html"),
        ("app", "--folder", "none"),
        ("embed", "--output", "x.npz"),
        ("embed", "--texts", "a", "--output", "x.txt"),
        ("embed", "--texts", "a", "--output", "/proc/none/x.npz"),
        ("demo", "--output", "/proc/none/x.png"),
        ("visualize", "none.png", "--output", "x.nothing"),
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
    for arguments in (
        [],
        ["fly"],
        ["search", "x"],
        ["classify", "a", "--top-k", "0"],
        ["classify", ""],
        ["app", "--port", "65536"],
    ):
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


@pytest.mark.quick
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.once
def test_every_argument_is_explained(command):
    parser = argparse.ArgumentParser()
    name = command.replace("-", "_")
    module = importlib.import_module(f"keras_pe.cli.{name}")
    module.add_arguments(parser)
    parsers = [parser]
    for each in parsers:
        for action in each._actions:
            if isinstance(action, argparse._SubParsersAction):
                parsers += action.choices.values()
            else:
                assert action.help, action


@pytest.mark.quick
@pytest.mark.once
def test_choices_of_help_are_those_of_the_library():
    assert get_args(PatchMethod) == visualize.METHODS
    assert get_args(Contrast) == visualize.CONTRASTS
