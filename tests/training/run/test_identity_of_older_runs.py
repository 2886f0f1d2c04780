"""Checkpoints from before a setting existed are gone on with, and nothing is lost."""

import logging

import pytest

from keras_pe.training.run.identity import completed

pytestmark = [pytest.mark.quick, pytest.mark.once]
DATA = {"shards": ["a.tar", "b.tar", 2], "pairs": 20, "digest": "12ab"}
OURS = {
    "batch_size": 8,
    "caption_key": None,
    "max_bad_share": 0.01,
    "freeze": "none",
    "data": DATA,
}


def without(settings, *names):
    return {name: value for name, value in settings.items() if name not in names}


def test_what_older_runs_could_not_say_is_completed(caplog):
    old = {"batch_size": 8, "data": without(DATA, "digest")}
    with caplog.at_level(logging.WARNING):
        assert completed(old, OURS) == OURS
    assert "whether these are the same data" in caplog.text
    assert "digest" not in old["data"]  # what was given stays as it was
    student = {"student": without(OURS, "freeze", "data"), "data": DATA}
    expected = {"student": without(OURS, "data"), "data": DATA}
    assert completed(student, expected) == expected


def test_emoji_runs_had_noted_nothing(caplog):
    assert completed(without(OURS, "data"), OURS) == OURS
    assert "whether these are the same data" in caplog.text


def test_settings_that_went_are_compared_where_they_decide():
    shards = {"dataset": "shards", "augmentation": "strong", "leave_out": []}
    assert completed({**OURS, **shards}, OURS) == OURS
    student = without(OURS, "data")
    old = {"student": {**student, "dataset": "shards"}, "leave_out": [], "data": DATA}
    assert completed(old, {"student": student, "data": DATA}) == {
        "student": student,
        "data": DATA,
    }
    # Runs on drawings had noted no data: this is all that tells them from others.
    drawings = {**without(OURS, "data"), "dataset": "emoji", "leave_out": []}
    assert completed(drawings, OURS)["dataset"] == "emoji"
    now = {**OURS, "dataset": "emoji", "leave_out": []}
    assert completed(drawings, now) == now


def test_what_is_known_to_differ_still_differs(caplog):
    assert completed(OURS, {**OURS, "data": {**DATA, "digest": "34cd"}}) == OURS
    assert completed({"batch_size": 8}, {**OURS, "freeze": "text"})["freeze"] == "none"
    assert not caplog.text.count("same data") > 1
    fewer = {"batch_size": 8, "data": {"shards": ["a.tar"], "pairs": 9}}
    assert completed(fewer, OURS)["data"] != DATA
    assert completed(OURS, OURS) == OURS
