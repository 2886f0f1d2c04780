"""A stage on a row: computed once, failures kept apart, mistakes raised."""

import errno

import pytest

from keras_pe.data_engine import FolderLedger, StageFailure
from keras_pe.data_engine.apply import Loaded, apply_stage
from tests.data_engine.parts import Letters, applied, refuse

pytestmark = [pytest.mark.quick, pytest.mark.once]


@pytest.fixture
def ledger(tmp_path):
    return FolderLedger(tmp_path / "ledger")


def test_a_result_is_computed_once_and_named_by_content(ledger):
    stage = Letters()
    first = applied(stage, ledger)
    second = applied(stage, ledger, key="b", path="elsewhere.gif")
    assert first["letters"] == second["letters"] == "0000 1"
    assert (second["key"], second["path"]) == ("b", "elsewhere.gif")
    assert stage.calls == ["a"]


def test_every_tenth_clip_fails_and_the_others_go_on(ledger):
    def change(row):
        if int(row["key"]) % 10 == 9:
            raise RuntimeError(f"no idea of {row['key']}")
        return {"letters": "yes"}

    stage = Letters(change=change)
    found = [
        applied(stage, ledger, key=str(number), content=f"{number:064}")
        for number in range(30)
    ]
    failed = [row for row in found if "failure" in row]
    assert [row["key"] for row in failed] == ["9", "19", "29"]
    assert failed[1]["failure"] == {
        "stage": "letters",
        "reason": "unexpected error",
        "detail": "RuntimeError: no idea of 19",
    }
    assert sum(row.get("letters") == "yes" for row in found) == 27


@pytest.mark.parametrize(("lasting", "calls"), [(True, 1), (False, 2)])
def test_a_lasting_failure_is_not_tried_again_and_another_is(ledger, lasting, calls):
    stage = Letters(change=refuse("too dark", lasting))
    said = [applied(stage, ledger)["failure"] for _ in range(2)]
    assert said[0] == said[1]
    assert said[0] == {"stage": "letters", "reason": "too dark", "detail": "for a test"}
    assert len(stage.calls) == calls


def test_an_unexpected_error_is_tried_again(ledger):
    stage = Letters(change=lambda row: 1 / 0)
    assert applied(stage, ledger)["failure"]["reason"] == "unexpected error"
    stage.change = None
    assert applied(stage, ledger)["letters"] == "0000 1"


def test_a_failed_row_goes_through_untouched(ledger):
    stage = Letters()
    row = {"key": "a", "content": None, "failure": {"stage": "x", "reason": "y"}}
    assert apply_stage(stage, row, Loaded(stage), ledger) is row
    assert stage.calls == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"other": 1}, r"letters returned \['other'\] of 'a'.*\['letters'\]"),
        ({"letters": 1, "other": 1}, r"returned \['letters', 'other'\]"),
        ({}, r"returned \[\]"),
        (None, "returned NoneType"),
        ({"letters": float("nan")}, "are no JSON values"),
        ({"letters": object()}, "are no JSON values"),
    ],
)
def test_a_stage_that_gives_what_it_does_not_say_ends_the_run(ledger, given, said):
    with pytest.raises(ValueError, match=said):
        applied(Letters(change=lambda row: given), ledger)
    stage = Letters()
    assert applied(stage, ledger)["letters"] == "0000 1"
    assert stage.calls == ["a"]  # nothing was kept


def test_values_are_the_same_computed_and_from_the_ledger(ledger):
    import numpy as np

    given = {"letters": {"b": (1, 2), "a": np.float32(0.5), "c": np.int64(4)}}
    stage = Letters(change=lambda row: given)
    first, second = applied(stage, ledger), applied(stage, ledger)
    assert first == second
    assert first["letters"] == {"a": 0.5, "b": [1, 2], "c": 4}
    assert len(stage.calls) == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EMFILE])
def test_an_error_of_the_machine_ends_the_run(ledger, number):
    def change(row):
        raise OSError(number, "of the machine")

    with pytest.raises(OSError, match="of the machine"):
        applied(Letters(change=change), ledger)


def test_no_memory_ends_the_run(ledger):
    def change(row):
        raise MemoryError

    with pytest.raises(MemoryError):
        applied(Letters(change=change), ledger)


def test_what_is_loaded_is_loaded_once_and_only_if_needed(ledger):
    stage, loads = Letters(), []
    stage.load = lambda: loads.append(1)
    loaded = Loaded(stage)
    for number in range(3):
        row = {"key": "a", "content": f"{number:064}", "metadata": {}}
        apply_stage(stage, row, loaded, ledger)
    assert loads == [1]
    again = Loaded(stage)
    apply_stage(stage, row, again, ledger)
    assert loads == [1]


def test_it_counts_what_it_does(ledger):
    said = []
    row = {"key": "a", "content": "0" * 64, "metadata": {}}
    for stage in (Letters(), Letters(), Letters("dark", change=refuse("dark"))):
        apply_stage(stage, row, Loaded(stage), ledger, said.append)
    assert said == ["computed letters", "reused letters", "failed dark"]


def test_a_failure_travels_between_processes():
    import pickle

    found = pickle.loads(pickle.dumps(StageFailure("dark", "0.1", False)))
    assert (found.reason, found.detail, found.lasting) == ("dark", "0.1", False)
    assert str(found) == "dark. 0.1"
