"""Questions from the command line: a line an image, errors in a line."""

import json
from importlib import resources

import pytest

from keras_pe import PEImageConverter
from keras_pe.cli.main import main
from keras_pe.language import VisionLanguageModel
from tests.language.test_language_preset import build, picture

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    from PIL import Image

    folder = tmp_path_factory.mktemp("asked")
    build().save_to_preset(folder / "preset")
    images = folder / "images"
    images.mkdir()
    Image.fromarray(picture()).save(images / "a.png")
    Image.fromarray(255 - picture()).save(images / "b.png")
    return folder


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_it_prints_an_answer_a_line(capsys, files):
    images, preset = files / "images", files / "preset"
    options = ("--preset", preset, "--max-tokens", 3)
    code, out, err = run(capsys, "ask", images, "What is it?", *options)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    model = VisionLanguageModel.from_preset(preset)
    paths = [images / "a.png", images / "b.png"]
    expected = model.generate(paths, "What is it?", max_tokens=3)
    assert isinstance(model.image_converter, PEImageConverter)
    assert [line.split(": ")[0] for line in lines] == list(map(str, paths))
    code, out, _ = run(capsys, "ask", *paths, "What is it?", *options, "--json")
    found = [json.loads(line) for line in out.splitlines()]
    assert [one["answer"] for one in found] == expected
    assert [one["image"] for one in found] == list(map(str, paths))


def test_a_bad_image_is_named_and_the_others_answered(capsys, files, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    good = files / "images" / "a.png"
    given = ("ask", bad, good, "What?", "--preset", files / "preset")
    code, out, err = run(capsys, *given, "--max-tokens", 2)
    assert code == 3
    assert "bad.png" in err
    assert out.startswith(f"{good}: ")


@pytest.mark.once
def test_without_a_preset_the_bundled_one_answers_and_says_what_it_is(capsys):
    drawing = resources.files("keras_pe") / "cli" / "demo_images" / "guitar.png"
    code, out, err = run(capsys, "ask", drawing, "What is this?")
    assert (code, out) == (0, f"{drawing}: guitar\n")
    assert err == (
        "model: pe_captioner_emoji_patch8_64, in the package; it knows drawings and "
        "printed words only, and photographs not at all: give --preset for others\n"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--preset", "pe_core_emoji_patch8_64"), "encoder alone"),
        (("--preset", "nowhere"), "nowhere"),
    ],
)
def test_what_can_not_answer_is_said_in_a_line(capsys, files, options, message):
    image = files / "images" / "a.png"
    code, out, err = run(capsys, "ask", image, "What?", *options)
    assert (code, out) == (1, "")
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.once
@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (
            ("{image}", "What is it?", "What does it say?"),
            "No such image or folder: 'What is it?'. Of 3 arguments the last, 'What "
            "does it say?', is the question",
        ),
        (
            ("{image}", "What", "is", "it?"),
            "No such image or folder: 'What', 'is'. Of 4 arguments the last, 'it?', is",
        ),
        (("What is it?", "{image}"), "The last argument is the question, and {image}"),
        (("{image}", "{image}"), "The last argument is the question, and {image}"),
        (("nowhere.png", "What is it?"), "No such image or folder: nowhere.png"),
    ],
)
def test_images_and_questions_in_each_others_place(capsys, files, given, wanted):
    image = str(files / "images" / "a.png")
    code, out, err = run(capsys, "ask", *(each.format(image=image) for each in given))
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert f"keras-pe: {wanted.format(image=image)}" in err
    unclear = "nowhere.png" not in given
    assert ('keras-pe ask IMAGE "What is this?"' in err) == unclear
