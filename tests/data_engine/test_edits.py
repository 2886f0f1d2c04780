"""What people wrote: read, added, taken back, and whole after a full disk."""

import errno
import os

import pytest

from keras_pe.data_engine import append_edit, read_edits, undo_edit

pytestmark = [pytest.mark.quick, pytest.mark.once]


def test_edits_are_read_and_the_last_line_holds(tmp_path):
    path = tmp_path / "edits.jsonl"
    assert read_edits(path) == {}
    path.write_text(
        '{"content": "1", "caption": "owl"}\n\n'
        '{"content": "2", "caption": null, "when": "now"}\n'
        '{"content": "1", "caption": "an owl"}\n'
        '{"content": "3", "capt'
    )
    assert read_edits(path) == {"1": "an owl", "2": None}


@pytest.mark.parametrize(
    "line", ["[]", "{", '{"content": 1, "caption": "x"}', '{"content": "1"}', "NaN"]
)
def test_a_line_that_is_no_edit_is_named(tmp_path, line):
    path = tmp_path / "edits.jsonl"
    path.write_text(f'{{"content": "1", "caption": "owl"}}\n{line}\n')
    with pytest.raises(ValueError, match=r"edits.jsonl, line 2: .*Expected"):
        read_edits(path)


def test_edits_are_added_and_taken_back_one_by_one(tmp_path):
    path = tmp_path / "made" / "edits.jsonl"
    append_edit(path, "1", "owl")
    append_edit(path, "1", "an owl\n\ud83e\udd89 \u2028 \ud800")
    append_edit(path, "2", None)
    assert read_edits(path) == {"1": "an owl\n\U0001f989 \u2028 \ud800", "2": None}
    undo_edit(path, "1")
    assert read_edits(path) == {"1": "owl", "2": None}
    undo_edit(path, "2")
    undo_edit(path, "1")
    undo_edit(path, "1")  # nothing is left to be taken back
    assert read_edits(path) == {}
    assert len(path.read_text().splitlines()) == 7


@pytest.mark.parametrize("left", ["", '{"content": "1", "capt', "x" * 200_000])
def test_a_line_that_was_cut_off_is_replaced(tmp_path, left):
    path = tmp_path / "edits.jsonl"
    append_edit(path, "1", "owl")
    with open(path, "a") as file:
        file.write(left)
    append_edit(path, "2", "cat")
    assert read_edits(path) == {"1": "owl", "2": "cat"}
    path.write_text(left)
    append_edit(path, "2", "cat")
    assert read_edits(path) == {"2": "cat"}


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "edits.jsonl"
    append_edit(path, "1", "owl")
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        append_edit(path, "2", "cat")
    assert path.read_bytes() == before


def test_a_file_that_is_no_text_is_named(tmp_path):
    path = tmp_path / "edits.jsonl"
    path.write_bytes(b"\xff\n")
    with pytest.raises(ValueError, match=r"edits.jsonl is no UTF-8"):
        read_edits(path)
