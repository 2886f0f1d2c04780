"""Questions of samples: what is read, what is refused by name, and shards of them."""

import json
from pathlib import Path

import pytest

from keras_pe.data import SampleError, TarShards
from keras_pe.data.questions import (
    DAMAGED_QUESTIONS,
    NO_QUESTIONS,
    Question,
    question_member,
    questions_of,
    write_question_shards,
)
from tests.data.shards import image_bytes

pytestmark = [pytest.mark.quick, pytest.mark.once]

ASKED = [Question("What is it?", "a café", "name"), Question("How many?", "3")]


def sample_of(number, questions=ASKED, **files):
    return {
        "__key__": f"{number:04d}",
        "json": question_member(questions),
        **files,
    }


def test_what_is_written_is_read():
    assert questions_of({"json": question_member(ASKED)}) == tuple(ASKED)


def test_what_else_is_said_is_kept_and_passed_over():
    member = question_member(ASKED, {"vendor": "mine"})
    assert json.loads(member)["vendor"] == "mine"
    assert questions_of({"json": member}) == tuple(ASKED)
    row = {"question": "a?", "answer": "b", "source": "vqa"}
    for kind in ({}, {"kind": ""}, {"kind": None}):  # JSON's null: it has none
        record = json.dumps({"questions": [{**row, **kind}], "id": 3}).encode()
        assert questions_of({"json": record}) == (Question("a?", "b"),)


@pytest.mark.parametrize(
    ("question", "answer", "kind", "error"),
    [
        ("", "b", "", ValueError),
        ("a", " \n", "", ValueError),
        ("a", 3, "", TypeError),
        ("a", "b", None, TypeError),
        ("a\ud800", "b", "", ValueError),
    ],
)
def test_question_refuses(question, answer, kind, error):
    with pytest.raises(error):
        Question(question, answer, kind)


@pytest.mark.parametrize(
    ("member", "reason", "says"),
    [
        (b"{", DAMAGED_QUESTIONS, "JSON"),
        (b'"\xff"', DAMAGED_QUESTIONS, "JSON"),
        (b"[" * 100_000, DAMAGED_QUESTIONS, "JSON"),
        (b"[]", NO_QUESTIONS, "list"),
        (b'{"caption": "a cat"}', NO_QUESTIONS, "caption"),
        (b'{"questions": []}', NO_QUESTIONS, "questions"),
        (b'{"questions": "What?"}', DAMAGED_QUESTIONS, "not a list"),
        (b'{"questions": ["What?"]}', DAMAGED_QUESTIONS, "question 0"),
        (b'{"questions": [{"question": "a"}]}', DAMAGED_QUESTIONS, "no 'answer'"),
        (
            b'{"questions": [{"question": "a", "answer": "b"},'
            b' {"question": "a", "answer": ""}]}',
            DAMAGED_QUESTIONS,
            "question 1",
        ),
        (
            b'{"questions": [{"question": "a", "answer": 3}]}',
            DAMAGED_QUESTIONS,
            "answer=3",
        ),
        (
            b'{"questions": [{"question": "a", "answer": "b", "kind": 0}]}',
            DAMAGED_QUESTIONS,
            "kind=0",
        ),
        (
            b'{"questions": [{"question": "a", "answer": "\\ud800"}]}',
            DAMAGED_QUESTIONS,
            "surrogate",
        ),
    ],
)
def test_samples_that_are_refused(member, reason, says):
    with pytest.raises(SampleError, match=says) as refused:
        questions_of({"__key__": "1", "json": member})
    assert refused.value.reason == reason


def test_a_sample_without_json_names_its_files():
    with pytest.raises(SampleError, match=r"\['png'\]"):
        questions_of({"__key__": "1", "png": b""})


def test_members_that_are_refused():
    with pytest.raises(ValueError, match="without a question"):
        question_member([])
    with pytest.raises(ValueError, match="about"):
        question_member(ASKED, {"questions": []})


@pytest.mark.parametrize("given", [None, "what?", ["what?", "that"], 3])
def test_a_question_that_is_no_object_is_named(given):
    member = json.dumps({"questions": [given]}).encode()
    with pytest.raises(SampleError, match=r"question 0: .* is no object\. Expected"):
        questions_of({"json": member})


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        (None, TypeError, "Sample 1 is None"),
        ({"png": "text"}, TypeError, "its 'png' is 'text', expected the bytes"),
        ({"png": None}, TypeError, "its 'png' is None"),
        ({"json": "{}"}, TypeError, "its 'json' is '{}'"),
        ({"../x": b""}, ValueError, "'../x' is no ending"),
        ({3: b""}, ValueError, "3 is no ending"),
    ],
)
def test_samples_that_are_none_are_refused_and_do_not_end_the_set(
    tmp_path, wrong, error, says
):
    second = wrong if wrong is None else {**sample_of(2), **wrong}
    with pytest.raises(error, match=says):
        write_question_shards(tmp_path, "a", [sample_of(1), second, sample_of(3)])
    assert not list(tmp_path.glob("*.tar"))


def test_names_and_sizes_of_sets_are_checked(tmp_path):
    for name in (None, ""):
        with pytest.raises(ValueError, match="expected what shards' names begin with"):
            write_question_shards(tmp_path, name, [sample_of(1)])
    for size in (0, 1.5, "2"):
        with pytest.raises(ValueError, match="shard_size must be a whole number"):
            write_question_shards(tmp_path, "a", [sample_of(1)], size)


def test_shards_hold_what_was_given(tmp_path):
    given = [sample_of(n, png=image_bytes(n)) for n in range(5)]
    del given[3]["png"]  # a row of text alone
    paths = write_question_shards(tmp_path / "new", "train", given, shard_size=2)
    assert [path.name for path in paths] == [f"train-0000{n}.tar" for n in range(3)]
    shards = TarShards(tmp_path / "new")
    assert len(shards) == 5
    for number, sample in enumerate(given):
        found = shards[number]
        assert questions_of(found) == tuple(ASKED)
        assert found.get("png") == sample.get("png")
        assert found["__key__"] == sample["__key__"]


def test_equal_samples_give_equal_bytes_and_no_shard_is_left_over(tmp_path):
    samples = [sample_of(n, webp=b"1" * n) for n in range(4)]
    (first,) = write_question_shards(tmp_path, "a", samples)
    write_question_shards(tmp_path, "b", iter(samples), shard_size=1)
    again = write_question_shards(tmp_path, "b", samples, shard_size=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a-00000.tar",
        "b-00000.tar",
        "b-00001.tar",
    ]
    (whole,) = write_question_shards(tmp_path, "b", samples)
    assert whole.read_bytes() == first.read_bytes()
    assert not again[1].exists()


@pytest.mark.parametrize("key", ["", "a.b", "a/b", None, "\ud83d"])
def test_keys_that_tar_shards_would_take_apart(tmp_path, key):
    with pytest.raises(ValueError, match="__key__"):
        write_question_shards(tmp_path, "a", [{**sample_of(1), "__key__": key}])


def test_a_shard_that_fails_leaves_the_old_one(tmp_path):
    (path,) = write_question_shards(tmp_path, "a", [sample_of(1)])
    before = path.read_bytes()
    with pytest.raises(ValueError, match="twice"):
        write_question_shards(tmp_path, "a", [sample_of(2), sample_of(2)])
    with pytest.raises(SampleError, match="Sample '7'"):
        write_question_shards(tmp_path, "a", [{"__key__": "7", "png": b""}])
    with pytest.raises(ValueError, match="no sample"):
        write_question_shards(tmp_path, "a", [])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_refusal_leaves_no_empty_folders(tmp_path):
    with pytest.raises(ValueError, match="no sample"):
        write_question_shards(tmp_path / "data" / "language", "train", [])
    assert not list(tmp_path.iterdir())
    (tmp_path / "data").mkdir()
    with pytest.raises(ValueError, match="no sample"):
        write_question_shards(tmp_path / "data" / "language", "train", [])
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


class Killed(BaseException):
    """What ends a process, as a kill does."""


def answers_in(folder):
    shards = TarShards(folder)
    return [questions_of(shards[n])[0].answer for n in range(len(shards))]


def test_a_writing_that_stops_between_shards_leaves_all_the_old_ones(tmp_path):
    def stopped():
        yield from (sample_of(n, [Question("a?", "new")]) for n in range(5))
        raise Killed

    old = [sample_of(n, [Question("a?", "old")]) for n in range(8)]
    paths = write_question_shards(tmp_path, "a", old, shard_size=2)
    with pytest.raises(Killed):
        write_question_shards(tmp_path, "a", stopped(), shard_size=2)
    assert answers_in(tmp_path) == ["old"] * 8
    indexes = {f"{path.name}.index.json" for path in paths}
    assert {path.name for path in tmp_path.iterdir()} == {
        *(path.name for path in paths),
        *indexes,
    }


@pytest.mark.parametrize("renamed", [0, 1, 2])
def test_a_kill_between_renames_leaves_no_mixture(tmp_path, monkeypatch, renamed):
    moved, replace = [], Path.replace

    def until(path, target):
        if len(moved) == renamed:
            raise Killed
        moved.append(target)
        return replace(path, target)

    old = [sample_of(n, [Question("a?", "old")]) for n in range(8)]
    new = [sample_of(n, [Question("a?", "new")]) for n in range(6)]
    write_question_shards(tmp_path, "a", old, shard_size=2)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", until)
        with pytest.raises(Killed):
            write_question_shards(tmp_path, "a", new, shard_size=2)
    if renamed:
        assert answers_in(tmp_path) == ["new"] * 2 * renamed
    else:
        assert not list(tmp_path.glob("*.tar"))
    # What it left is no hindrance, and is cleared away.
    write_question_shards(tmp_path, "a", old[:2], shard_size=2)
    assert answers_in(tmp_path) == ["old"] * 2
    names = {"a-00000.tar", "a-00000.tar.index.json"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_names_are_no_patterns(tmp_path):
    samples = [sample_of(n) for n in range(4)]
    kept = write_question_shards(tmp_path, "2", samples)
    for name in ("[12]", "?", "*"):
        write_question_shards(tmp_path, name, samples, shard_size=2)
        again = write_question_shards(tmp_path, name, samples[:2])
        found = {path.name for path in tmp_path.iterdir()}
        assert found == {again[0].name, kept[0].name}
        again[0].unlink()
