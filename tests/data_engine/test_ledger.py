"""The ledger: entries are whole, or they are computed again."""

import errno
import json
import multiprocessing
import os

import pytest

from keras_pe.data_engine import FolderLedger
from keras_pe.data_engine.ledger import ledger_key
from tests.data_engine.parts import Letters

pytestmark = [pytest.mark.quick, pytest.mark.once]
KEY = "ab" + "cd" * 31


def only_file(folder):
    (found,) = [path for path in folder.rglob("*") if path.is_file()]
    return found


@pytest.fixture
def ledger(tmp_path):
    return FolderLedger(tmp_path / "ledger")


def test_what_was_written_is_read_by_another_ledger(ledger):
    entry = {"fields": {"caption": "an owl\u2028 \U0001f989", "numbers": [1, 0.5]}}
    assert ledger.read("stage", KEY) is None
    ledger.write("stage", KEY, entry)
    again = FolderLedger(ledger.folder)
    assert again.read("stage", KEY) == entry
    assert again.read("other", KEY) is None
    assert again.read("stage", "cd" * 32) is None
    path = only_file(ledger.folder).relative_to(ledger.folder)
    assert path.as_posix() == f"stage/ab/cd/{'cd' * 30}.json"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "\0" * len(text),
        lambda text: text.replace("owl", "owm"),
        lambda text: text.replace('"format": 1', '"format": 2'),
        lambda text: "[" * 100_000,
        lambda text: "[]",
        lambda text: json.dumps({"format": 1, "entry": 3}),
    ],
)
def test_a_damaged_entry_is_none_and_is_written_again(ledger, spoil):
    entry = {"fields": {"caption": "owl"}}
    ledger.write("stage", KEY, entry)
    path = only_file(ledger.folder)
    assert spoil(path.read_text()) != path.read_text()
    path.write_text(spoil(path.read_text()))
    assert ledger.read("stage", KEY) is None
    ledger.write("stage", KEY, entry)
    assert ledger.read("stage", KEY) == entry


def write_many(folder, number):
    ledger = FolderLedger(folder)
    for key in range(20):
        entry = {"fields": {"by": number, "text": "x" * 10_000}}
        ledger.write("stage", f"{0:04}{key:060}", entry)


def test_processes_that_write_the_same_entries_leave_whole_ones(ledger):
    context = multiprocessing.get_context("fork")
    writers = [
        context.Process(target=write_many, args=(ledger.folder, number))
        for number in range(3)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    for key in range(20):
        entry = ledger.read("stage", f"{0:04}{key:060}")
        assert entry["fields"]["by"] in (0, 1, 2)
    assert not list(ledger.folder.rglob(".*"))


def test_what_a_kill_left_is_cleared_and_entries_stay(ledger):
    ledger.write("stage", KEY, {"fields": {}})
    path = only_file(ledger.folder)
    left = path.with_name(".left.host-999999999.1.part.json")
    left.write_text("{")
    ledger.clear_unfinished()
    assert not left.exists()
    assert path.exists()
    FolderLedger(ledger.folder / "none" / "yet").clear_unfinished()


def test_a_full_disk_is_raised_and_leaves_no_entry(ledger, monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("keras_pe.files.sync", full)
    with pytest.raises(OSError, match="No space"):
        ledger.write("stage", KEY, {"fields": {}})
    monkeypatch.undo()
    assert ledger.read("stage", KEY) is None
    assert not [path for path in ledger.folder.rglob("*") if path.is_file()]


def test_a_ledger_under_a_file_is_refused_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        FolderLedger(tmp_path / "file")


def test_a_key_is_of_content_settings_and_what_is_read_alone():
    stage = Letters(reads=["caption"])
    row = {"key": "a", "path": "a.gif", "content": "1", "caption": "owl", "more": 1}
    key = ledger_key(stage, row)
    assert key == ledger_key(stage, {**row, "key": "b", "path": "b.gif", "more": 2})
    assert key == ledger_key(Letters(reads=["caption"]), row)
    different = [
        ledger_key(stage, {**row, "content": "2"}),
        ledger_key(stage, {**row, "caption": "cat"}),
        ledger_key(Letters(reads=["caption"], setting=2), row),
        ledger_key(Letters("other", reads=["caption"]), row),
        ledger_key(Letters(reads=["caption"], gives=["other"]), row),
        ledger_key(Letters(reads=["caption", "more"]), row),
    ]
    assert len({key, *different}) == 7


def test_a_row_without_what_is_read_is_named():
    with pytest.raises(ValueError, match=r"letters reads caption, which .* 'a'"):
        ledger_key(Letters(reads=["caption"]), {"key": "a", "content": "1"})
