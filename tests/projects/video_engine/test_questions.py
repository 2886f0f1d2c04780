"""Edits as questions: what a person wrote, of frames of the clip that it is about."""

import io
from collections import OrderedDict

import numpy as np
import pytest
from PIL import Image

from keras_pe import PEVideoConverter
from keras_pe.data import TarShards
from keras_pe.data.questions import questions_of
from keras_pe.data_engine import append_edit, clips_of_folder, frames, run_engine
from keras_pe.data_engine.captioners import pixels
from keras_pe.data_engine.clips import with_content
from projects.video_engine import edits_to_questions
from tests.data_engine.parts import LOOSE, clip, engine, folder_of, lines

pytestmark = [pytest.mark.quick, pytest.mark.once]


@pytest.fixture
def output(tmp_path):
    found = clips_of_folder(folder_of(tmp_path / "clips", 24))
    run_engine(found, engine(), tmp_path / "output", LOOSE)
    return tmp_path / "output"


def run(output, *more):
    given = ["--output", str(output), "--questions", str(output.parent / "questions")]
    more = ("--frames", "2", "--image-size", "8", "--question", "What?", *more)
    edits_to_questions.main([*given, *more])
    return output.parent / "questions"


def test_edits_become_frames_with_question_and_answer(output, capsys):
    rows = lines(output / "rows.jsonl")
    for number, row in enumerate(rows):
        append_edit(output / "edits.jsonl", row["content"], f"owl {number}")
    append_edit(output / "edits.jsonl", rows[3]["content"], None)
    clip(output.parent / "clips" / "05.gif", 99)  # by now another one
    folder = run(output)
    kept = [n for n in range(24) if n not in (3, 5)]
    validation = [n for n in kept if int(rows[n]["content"], 16) % 10 == 0]
    assert validation  # or nothing is tested
    said = capsys.readouterr()
    assert f"validation: {len(validation)} clips, left out: 1 clips" in said.out
    assert "05.gif: the clip has changed" in said.err
    converter = PEVideoConverter(image_size=8, num_frames=2)
    for name, numbers in (
        ("validation", validation),
        ("train", [n for n in kept if n not in validation]),
    ):
        shards = TarShards(str(folder / f"{name}-*.tar"))
        assert len(shards) == 2 * len(numbers)
        for place, number in enumerate(np.repeat(numbers, 2)):
            sample, row = shards[place], rows[number]
            (question,) = questions_of(sample)
            assert (question.question, question.answer) == ("What?", f"owl {number}")
            assert question.kind == "caption"
            expected = pixels(converter.convert(row["path"]))[place % 2]
            found = np.asarray(Image.open(io.BytesIO(sample["png"])))
            assert np.array_equal(found, expected)


def test_a_clip_is_hashed_once_and_one_that_is_gone_is_left_out(
    output, capsys, monkeypatch
):
    rows = lines(output / "rows.jsonl")
    for row in rows:
        append_edit(output / "edits.jsonl", row["content"], "owl")
    (output.parent / "clips" / "07.gif").unlink()
    hashed = []

    def counted(row):
        hashed.append(row["path"])
        return with_content(row)

    monkeypatch.setattr(frames, "with_content", counted)
    monkeypatch.setattr(frames, "_frames", OrderedDict())
    run(output)
    said = capsys.readouterr()
    assert "left out: 1 clips" in said.out
    assert "07.gif: missing file" in said.err
    others = [row["path"] for row in rows if not row["path"].endswith("07.gif")]
    assert sorted(hashed) == sorted(others)


def test_equal_edits_give_equal_bytes(output):
    for row in lines(output / "rows.jsonl")[:6]:
        append_edit(output / "edits.jsonl", row["content"], "owl")
    first = (run(output) / "train-00000.tar").read_bytes()
    assert (run(output) / "train-00000.tar").read_bytes() == first


def test_without_edits_it_says_how_to_write_some(output):
    with pytest.raises(SystemExit, match=r"No edit of .*video_engine.refine"):
        run(output)
    with pytest.raises(SystemExit, match=r"rows.jsonl is missing"):
        run(output.parent)


def test_a_blank_edit_is_left_out_and_named(output, capsys):
    for number, row in enumerate(lines(output / "rows.jsonl")):
        append_edit(
            output / "edits.jsonl", row["content"], " " if not number else "owl"
        )
    run(output)
    said = capsys.readouterr()
    assert "left out: 1 clips" in said.out
    assert "00.gif: an empty caption" in said.err


@pytest.mark.parametrize("damage", ['{"key": "cut', "", "null", "[1]", '{"key": "a"}'])
def test_a_damaged_list_is_named_by_its_line(output, damage):
    path = output / "rows.jsonl"
    path.write_text(path.read_text().splitlines()[0] + f"\n{damage}\n")
    with pytest.raises(SystemExit, match=r"rows.jsonl, line 2, is none of an engine"):
        run(output)
