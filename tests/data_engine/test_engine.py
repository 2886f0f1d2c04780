"""Whole runs: the same bytes whatever happened before, and no work done twice."""

import errno
import os
import sys

import numpy as np
import pytest

from keras_pe.data_engine import (
    Choose,
    Engine,
    FolderLedger,
    JoinedCaption,
    Probe,
    RefinedCaption,
    VideoCaption,
    clips,
    clips_of_folder,
    run_engine,
)
from keras_pe.data_engine.mappers import in_this_process
from keras_pe.files import TargetBusyError, only_writer
from tests.data_engine.parts import (
    LOOSE,
    Counted,
    Letters,
    brightness,
    clip,
    engine,
    files_of,
    folder_of,
    lines,
    refuse,
    small_captioner,
    stages,
)

pytestmark = [pytest.mark.quick, pytest.mark.once]


@pytest.fixture
def found(tmp_path):
    return clips_of_folder(folder_of(tmp_path / "clips", 4))


def test_a_run_leaves_pairs_rows_failures_and_a_receipt(tmp_path, found):
    output = tmp_path / "output"
    said = run_engine(found, engine(), output)
    assert sorted(files_of(output)) == [
        "failures.jsonl",
        "pairs-00000.tar",
        "receipt.json",
        "rows.jsonl",
    ]
    rows = lines(output / "rows.jsonl")
    assert [row["key"] for row in rows] == [row["key"] for row in found]
    assert all(row["caption"] == row["video_caption"] for row in rows)
    assert len({row["caption"] for row in rows}) == 4
    assert all(len(row["frame_captions"]) == 2 for row in rows)
    assert lines(output / "failures.jsonl") == []
    assert said["captioned"] == said["different_captions"] == 4


def test_a_second_run_computes_nothing_and_changes_no_byte(tmp_path, found):
    output, first, second = tmp_path / "output", Counted(), Counted()
    run_engine(found, engine(), output, mapper=first)
    before = files_of(output)
    run_engine(found[::-1], engine(), output, mapper=second)
    assert files_of(output) == before
    names = ("probe", "video_caption", "refined_caption", "frame_captions")
    names = (*names, "joined_caption")
    assert first.counts == {f"computed {name}": 4 for name in names}
    assert second.counts == {f"reused {name}": 4 for name in names}
    run_engine(found, engine(), tmp_path / "other")
    assert files_of(tmp_path / "other") == before


def test_a_changed_setting_computes_that_stage_and_its_readers_alone(tmp_path, found):
    def run(setting):
        first = Letters("first", gives=["one"], setting=setting)
        second = Letters("second", reads=["one"], gives=["two"])
        second.change = lambda row: {"two": row["one"] + "!"}
        other = Letters("other", gives=["caption"])
        done = [first, second, other]
        run_engine(found, Engine(done), tmp_path / "output", LOOSE)
        return [len(stage.calls) for stage in done]

    assert run(1) == [4, 4, 4]
    assert run(2) == [4, 4, 0]
    assert run(1) == [0, 0, 0]  # still there


def test_an_equal_result_of_a_changed_stage_ends_the_change(tmp_path, found):
    def run(setting):
        first = Letters("first", gives=["one"], setting=setting)
        first.change = lambda row: {"one": "the same"}
        second = Letters("second", reads=["one"], gives=["caption"])
        run_engine(found, Engine([first, second]), tmp_path / "output", LOOSE)
        return len(first.calls), len(second.calls)

    assert run(1) == (4, 4)
    assert run(2) == (4, 0)


def test_an_edit_computes_its_own_clip_again_and_no_other(tmp_path, found):
    output, mapper = tmp_path / "output", Counted()
    run_engine(found, engine(), output)
    content = lines(output / "rows.jsonl")[1]["content"]
    refused = lines(output / "rows.jsonl")[2]["content"]
    edits = {content: "An owl  turns.", refused: None}
    run_engine(found, engine(edits), output, mapper=mapper)
    rows = lines(output / "rows.jsonl")
    assert [row["by_hand"] for row in rows] == [False, True, False]
    assert rows[1]["caption"] == "An owl turns."
    assert lines(output / "failures.jsonl")[0]["failure"]["reason"] == "refused by hand"
    assert mapper.counts["computed refined_caption"] == 1
    assert mapper.counts["failed refined_caption"] == 1
    assert "computed video_caption" not in mapper.counts


def test_duplicates_empty_and_unreadable_files_are_failures(tmp_path):
    folder = folder_of(tmp_path / "clips", 2)
    (folder / "02.gif").write_bytes((folder / "01.gif").read_bytes())
    (folder / "03.gif").write_bytes(b"")
    (folder / "04.gif").write_bytes(b"no picture")
    (folder / "05.gif").write_bytes((folder / "00.gif").read_bytes()[:40])
    (folder / "06.gif").symlink_to(folder / "missing")
    said = run_engine(clips_of_folder(folder), engine(), tmp_path / "output", LOOSE)
    assert said["captioned"] == 2
    failures = lines(tmp_path / "output" / "failures.jsonl")
    reasons = {row["key"]: row["failure"]["reason"] for row in failures}
    assert list(reasons) == [f"{number:02}.gif" for number in range(2, 7)]
    assert reasons["02.gif"] == "duplicate"
    assert reasons["03.gif"] == "empty file"
    assert reasons["06.gif"] == "unreadable file"
    assert said["failed_share"] == pytest.approx(4 / 7)  # a duplicate is left out


def test_a_clip_that_changes_during_the_run_leaves_nothing_in_the_ledger(tmp_path):
    folder = folder_of(tmp_path / "clips", 2)
    found, kept = clips_of_folder(folder), {}

    def changing(rows, stages, ledger):
        kept.setdefault("first", (folder / "00.gif").read_bytes())
        clip(folder / "00.gif", 9)
        return in_this_process(rows, stages, ledger)

    output = tmp_path / "output"
    run_engine(found, engine(), output, LOOSE, mapper=changing)
    (failure,) = lines(output / "failures.jsonl")
    assert failure["failure"]["reason"] == "the clip has changed"
    (folder / "00.gif").write_bytes(kept["first"])
    run_engine(found, engine(), output)
    run_engine(found, engine(), tmp_path / "fresh")
    assert files_of(output) == files_of(tmp_path / "fresh")


def test_a_clip_that_goes_during_the_run_is_tried_again(tmp_path):
    folder = folder_of(tmp_path / "clips", 2)
    found, clip_bytes = clips_of_folder(folder), (folder / "00.gif").read_bytes()

    def removing(rows, stages, ledger):
        (folder / "00.gif").unlink(missing_ok=True)
        return in_this_process(rows, stages, ledger)

    output = tmp_path / "output"
    run_engine(found, engine(), output, LOOSE, mapper=removing)
    (failure,) = lines(output / "failures.jsonl")
    assert failure["failure"]["reason"] == "missing file"
    (folder / "00.gif").write_bytes(clip_bytes)
    assert run_engine(found, engine(), output)["captioned"] == 2


def test_a_clip_that_changes_before_the_shards_are_written_is_named(tmp_path, found):
    def changing(rows, stages, ledger):
        rows = list(in_this_process(rows, stages, ledger))
        if stages[-1].name == "joined_caption":
            clip(tmp_path / "clips" / "00.gif", 9)
        return rows

    with pytest.raises(ValueError, match=r"00.gif has changed while the engine ran"):
        run_engine(found, engine(), tmp_path / "output", mapper=changing)
    assert not list((tmp_path / "output").glob("*.tar"))


def test_a_full_disk_ends_the_run_and_the_next_goes_on(tmp_path, found, monkeypatch):
    written = []
    write = FolderLedger.write

    def until_full(self, stage, key, entry):
        if len(written) == 7:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, stage, key, entry)
        written.append(stage)

    monkeypatch.setattr(FolderLedger, "write", until_full)
    output = tmp_path / "output"
    with pytest.raises(OSError, match="No space"):
        run_engine(found, engine(), output)
    assert files_of(output) == {}
    monkeypatch.undo()
    mapper = Counted()
    run_engine(found, engine(), output, mapper=mapper)
    assert sum(mapper.counts[f"reused {name}"] for name in set(written)) == 7
    run_engine(found, engine(), tmp_path / "fresh")
    assert files_of(output) == files_of(tmp_path / "fresh")


def test_a_ledger_that_can_not_be_written_ends_the_run(tmp_path, found):
    ledger = FolderLedger(tmp_path / "ledger")
    (tmp_path / "ledger").write_text("a file by now")
    with pytest.raises(OSError, match="ledger"):
        run_engine(found, engine(), tmp_path / "output", ledger=ledger)


def test_two_runs_at_once_in_one_folder_are_refused(tmp_path, found):
    output = tmp_path / "output"
    with (
        only_writer(output),
        pytest.raises(TargetBusyError, match="another process"),
    ):
        run_engine(found, engine(), output)
    assert run_engine(found, engine(), output)["captioned"] == 4


def test_a_refused_build_leaves_the_pairs_of_the_one_before(tmp_path, found):
    from keras_pe.data_engine import ReceiptError

    output = tmp_path / "output"
    run_engine(found, engine(), output)
    pairs = (output / "pairs-00000.tar").read_bytes()
    last = Letters("caption", gives=["caption"], change=refuse("tired"))
    with pytest.raises(ReceiptError, match=r"100.0% .* \(caption: tired 4\)"):
        run_engine(found, Engine([last]), output)
    assert (output / "pairs-00000.tar").read_bytes() == pairs
    assert lines(output / "rows.jsonl") == []
    assert len(lines(output / "failures.jsonl")) == 4


@pytest.mark.parametrize("change", [lambda rows: rows[1:], lambda rows: rows + rows])
def test_a_mapper_that_loses_or_doubles_rows_is_refused(tmp_path, found, change):
    def mapper(rows, stages, ledger):
        return change(list(in_this_process(rows, stages, ledger)))

    with pytest.raises(RuntimeError, match="4 rows went into the stages, and others"):
        run_engine(found, engine(), tmp_path / "output", mapper=mapper)


def test_keys_that_are_odd_names_are_kept(tmp_path):
    folder = tmp_path / "clips"
    names = ["a\nb.gif", "a.b.c.gif", "\u202e.gif", "owl 'of' \"x\".gif"]
    if sys.platform == "linux":
        names.append(os.fsdecode(b"\xff.gif"))
    for number, name in enumerate(names):
        clip(folder / name, number)
    run_engine(clips_of_folder(folder), engine(), tmp_path / "output")
    rows = lines(tmp_path / "output" / "rows.jsonl")
    assert {row["key"] for row in rows} == set(names)


@pytest.mark.parametrize(
    ("stages_", "choose", "said"),
    [
        ([Letters(reads=["other"])], None, "letters reads other, which no stage"),
        ([Letters()], None, "No stage gives 'caption'"),
        ([Letters(), Letters()], None, "Two stages are called 'letters'"),
        ([Letters("a b")], None, "The stage 'a b': expected a name"),
        ([Letters(gives=["failure"])], None, "gives .*failure"),
        ([Letters(gives=[])], None, "letters gives"),
        ([Letters(setting=float("inf"))], None, "settings of letters are no JSON"),
        ([Probe()], Choose(2, 1, "motion"), "chosen by embedding, which no stage"),
    ],
)
def test_an_engine_that_can_not_work_is_refused_when_made(stages_, choose, said):
    with pytest.raises(ValueError, match=said):
        Engine(stages_, choose)


def test_what_is_no_stage_is_refused():
    with pytest.raises(TypeError, match="is no stage: it has no name, reads"):
        Engine([brightness])


def test_no_clips_and_no_captions_are_said(tmp_path):
    from keras_pe.data_engine import ReceiptError

    with pytest.raises(ReceiptError, match="None of 0 clips has a caption"):
        run_engine(clips([]), engine(), tmp_path / "output")


def test_choose_and_duplicates_do_not_depend_on_the_order(tmp_path, found):
    class Place(Letters):
        def run(self, loaded, row):
            return {"embedding": [int(row["key"][:2]) // 2, 1]}

    place = Place("place", gives=["embedding"])
    whole = Engine(
        [Probe(2), place],
        Choose(2, 1, "motion"),
        [VideoCaption(small_captioner()), RefinedCaption({}), JoinedCaption(["video"])],
    )
    run_engine(found, whole, tmp_path / "a", LOOSE)
    run_engine(found[::-1], whole, tmp_path / "b", LOOSE)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    assert len(lines(tmp_path / "a" / "rows.jsonl")) == 2
    (reason,) = {
        row["failure"]["reason"] for row in lines(tmp_path / "a" / "failures.jsonl")
    }
    assert reason == "others of its kind are better"


def test_stages_can_be_sent_to_other_processes():
    import pickle

    for stage in stages({"0": "owl"}):
        again = pickle.loads(pickle.dumps(stage))
        assert again.settings() == stage.settings()


@pytest.mark.parametrize("caption", ["", " ", "\u2028\u2029", "?!", "\ud800"])
def test_a_caption_of_nothing_is_a_failure_whoever_gives_it(tmp_path, caption):
    def change(row):
        return {"caption": caption if row["key"] == "00.gif" else "an owl"}

    found = clips_of_folder(folder_of(tmp_path / "clips", 2))
    said = run_engine(
        found,
        Engine([Letters(gives=["caption"], change=change)]),
        tmp_path / "o",
        LOOSE,
    )
    assert said["captioned"] == 1
    (reason,) = said["failures"]
    assert reason.startswith("caption: ")


@pytest.mark.parametrize("caption", [None, 3, ["owl"]])
def test_a_caption_that_is_no_text_is_a_mistake_that_is_named(tmp_path, caption):
    stage = Letters(gives=["caption"], change=lambda row: {"caption": caption})
    found = clips_of_folder(folder_of(tmp_path / "clips", 1))
    with pytest.raises(ValueError, match=r"00.gif: caption=.*expected text"):
        run_engine(found, Engine([stage]), tmp_path / "output", LOOSE)


def test_numbers_of_numpy_are_written(tmp_path):
    (row,) = clips_of_folder(folder_of(tmp_path / "clips", 1))
    row |= {"metadata": {"fps": np.float32(2.5)}, "size": np.int64(3)}
    run_engine([row], engine(), tmp_path / "output", LOOSE)
    (row,) = lines(tmp_path / "output" / "rows.jsonl")
    assert (row["metadata"], row["size"]) == ({"fps": 2.5}, 3)
