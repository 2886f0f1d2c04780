"""Questions about pictures, without Gradio: what answers, and what is refused."""

import json
import re
import threading

import pytest

from keras_pe.app import asking
from keras_pe.app.asking import (
    BUNDLED_CAPTIONER,
    LONGEST_QUESTION,
    Captioner,
    answered_as_html,
    ask_pictures,
    checked_question,
)
from keras_pe.app.settings import AppSettings, load_settings
from keras_pe.language import VisionLanguageModel
from keras_pe.presets import CheckpointError, download
from keras_pe.presets.checksums import SELF_CHECKSUM, read_metadata, write_metadata
from tests.app.parts import noise, small_parts
from tests.language.test_language_preset import build

pytestmark = pytest.mark.quick
BAD_NAME = "<img src=x onerror=alert(1)> & \"b\" 'c'.png"
QUESTIONS = ["What is it?", "Is it big?"]


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("asked") / "preset"
    build().save_to_preset(folder, metadata={"questions": QUESTIONS})
    return folder


@pytest.fixture(scope="module")
def captioner(preset):
    return Captioner(preset)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    return [noise(folder / name, seed=n) for n, name in enumerate(("a.png", BAD_NAME))]


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    """The small decoder reads few tokens, prompt and answer together."""
    monkeypatch.setattr(asking, "MOST_TOKENS", 4)


def test_answers_are_those_of_the_model(captioner, paths, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nothing")
    given = [paths[0], bad, paths[1]]
    found = ask_pictures(captioner, given, "  Is it\n big? ", batch_size=2)
    model = VisionLanguageModel.from_preset(captioner.preset)
    expected = model.generate(paths, "Is it big?", max_tokens=4)
    assert [each.path for each in found.pictures] == paths
    assert [each.answer for each in found.pictures] == expected
    (note,) = found.notes
    assert note.startswith("bad.png: not an image")
    assert str(tmp_path) not in note
    with pytest.raises(ValueError, match=r"None of the pictures .* bad\.png"):
        ask_pictures(captioner, [bad], "What?")


@pytest.mark.once
def test_answers_are_shown_as_text(paths):
    answer = asking.AnsweredPicture(paths[1], "<b>an owl</b>\u202e")
    nothing = asking.AnsweredPicture(paths[0], "")
    page = answered_as_html(asking.Answered([answer, nothing], []))
    assert len(re.findall("<img ", page)) == 2
    assert "&lt;b&gt;an owl&lt;/b&gt;" in page
    assert "\u202e" not in page
    assert "onerror=alert(1)&gt; &amp; &quot;b&quot; &#x27;c&#x27;.png" in page
    assert ">no answer</p>" in page


# === Loaded when it is asked ===
@pytest.mark.once
def test_it_is_loaded_once_and_not_before(preset, paths, monkeypatch):
    loads = []
    load = VisionLanguageModel.from_preset

    def counted(*arguments):
        loads.append(arguments)
        return load(*arguments)

    monkeypatch.setattr(VisionLanguageModel, "from_preset", counted)
    captioner = Captioner(preset)
    settings = AppSettings("mine", small_parts(), captioner=captioner)
    assert settings.captioner.suggested == tuple(QUESTIONS)
    with pytest.raises(ValueError, match="no question yet"):
        ask_pictures(captioner, paths, " ")
    assert not loads  # what can't be asked loads nothing either
    threads = [threading.Thread(target=lambda: captioner.model) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1


@pytest.mark.once
def test_the_page_s_captioner_is_chosen_and_else_the_bundled_one(preset):
    small = "pe_core_emoji_small_patch8_64"
    assert load_settings(small).captioner.preset == BUNDLED_CAPTIONER
    assert load_settings(small, captioner=preset).captioner.preset == str(preset)
    with pytest.raises(CheckpointError, match="has no language model"):
        load_settings(small, captioner=small)


@pytest.mark.once
def test_what_has_no_language_model_is_refused_without_a_download(monkeypatch):
    def fetch(*arguments, **options):
        raise AssertionError(f"downloads {arguments}")

    monkeypatch.setattr(download, "download", fetch)
    monkeypatch.setattr(download, "list_files", fetch)
    for name in ("pe_core_emoji_patch8_64", "PE-Core-L14-336", "PE-Lang-L14-448"):
        with pytest.raises(CheckpointError, match=f"{name} has no language model"):
            Captioner(name)
    with pytest.raises(CheckpointError, match="Did you mean pe_captioner_emoji"):
        Captioner("pe_captioner_emoji_patch8_65")


@pytest.mark.once
def test_the_bundled_one_says_what_it_was_trained_for():
    captioner = Captioner(BUNDLED_CAPTIONER)
    assert captioner.suggested == captioner.trained_for
    assert {"What is this?", "What does it say?"} <= set(captioner.trained_for)
    assert all(checked_question(each) == each for each in captioner.trained_for)


@pytest.mark.once
@pytest.mark.parametrize(
    "odd",
    [
        *(None, "What?", {"a": 1}, [], [1], [""], ["What?", None]),
        *(["x" * (LONGEST_QUESTION + 1)], ["What?"] * 51),
    ],
)
def test_questions_that_are_none_are_passed_over(preset, tmp_path, odd):
    for path in preset.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    metadata = read_metadata(tmp_path)
    del metadata["files"], metadata[SELF_CHECKSUM]
    (tmp_path / "metadata.json").unlink()
    write_metadata(tmp_path, json.loads(json.dumps({**metadata, "questions": odd})))
    captioner = Captioner(tmp_path)
    assert captioner.trained_for == ()
    assert captioner.suggested == asking.ANY_QUESTIONS


# === Limits ===
@pytest.mark.once
def test_what_a_visitor_sends_has_limits(captioner, paths, monkeypatch):
    with pytest.raises(ValueError, match="no picture yet"):
        ask_pictures(captioner, [], "What?")
    for nothing in ("", " \n", None, 5, ["What?"]):
        with pytest.raises(ValueError, match="no question yet"):
            ask_pictures(captioner, paths, nothing)
    longest = "x" * LONGEST_QUESTION
    assert checked_question(longest) == longest
    with pytest.raises(ValueError, match="A question of 201 characters"):
        ask_pictures(captioner, paths, f"{longest}x")
    with pytest.raises(ValueError, match="tokens"):  # the model's own limit
        ask_pictures(captioner, paths, "How big is it? " * 9)
    monkeypatch.setattr(asking, "MOST_PICTURES", 1)
    with pytest.raises(ValueError, match="2 pictures; this page asks about at most 1"):
        ask_pictures(captioner, paths, "What?")
