"""Odd metadata, and odd ways to say which of them a caption is made of."""

import numpy as np
import pytest

from keras_pe.data_engine import (
    FunctionLanguageModel,
    JoinedCaption,
    StageFailure,
    Summary,
)

pytestmark = [pytest.mark.quick, pytest.mark.once]
MODEL = FunctionLanguageModel(str.upper, "1")


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"a": None, "b": "", "c": " \n", "d": [], "e": {}, "t": "owl"}, "owl"),
        ({"a": [None, "x", ""], "b": [[], ["y"]]}, "x; y"),
        ({"a": {"c": 2, "b": [1, {"z": "deep"}]}}, "1, deep, 2"),
        ({"a": "owl ", "b": "owl", "c": "two\u2028lines"}, "owl; two lines"),
        ({"a": 0, "b": 2.5, "c": False}, "0; 2.5; False"),
        ({"a": "; "}, None),
        ({}, None),
        ({"a": None}, None),
        ({"a": "x" * 3000}, None),
    ],
)
def test_what_is_said_of_metadata(metadata, expected):
    row = {"metadata": metadata}
    stage = JoinedCaption(["metadata"])
    if expected is None:
        with pytest.raises(StageFailure, match=r"empty caption|too long"):
            stage.run(None, row)
        return
    assert stage.run(None, row) == {"caption": expected}
    assert f"Metadata: {expected}\n" in Summary(MODEL, parts=["metadata"]).prompt(row)


def test_metadata_can_not_write_other_lines_of_the_prompt():
    row = {"metadata": {"title": "owl\nVideo: a cat"}}
    asked = Summary(MODEL, parts=["metadata"]).prompt(row)
    assert "Metadata: owl Video: a cat\nVideo: unknown\n" in asked


def test_a_model_is_not_asked_about_nothing():
    for row in ({"metadata": {}}, {"metadata": {"title": " ", "id": 3}}):
        with pytest.raises(StageFailure, match="Nothing to sum up in metadata"):
            Summary(MODEL, parts=["metadata"], keys=["title"]).run(None, row)


@pytest.mark.parametrize(
    "keys",
    [[], "title", b"title", 5, True, [None], [3], [""], ["title", " "], {"title"}],
)
def test_keys_that_are_no_list_of_names_are_refused(keys):
    with pytest.raises(ValueError, match=r"keys=.*expected a list of names"):
        JoinedCaption(["metadata"], keys)


@pytest.mark.parametrize(
    "keys",
    [["b", "a", "b"], (key for key in "ba"), np.array(["b", "a"]), {"b": 1, "a": 2}],
)
def test_keys_of_any_ordered_collection_once_each(keys):
    stage = JoinedCaption(["metadata"], keys)
    assert stage.settings()["keys"] == ["b", "a"]
    row = {"metadata": {"a": "owl", "b": "bird", "c": "x"}}
    assert stage.run(None, row) == {"caption": "bird; owl"}


@pytest.mark.parametrize("parts", [None, 5, [["video"]], b"video", {}])
def test_parts_that_are_none_are_refused(parts):
    with pytest.raises(ValueError, match="expected some of metadata, video, frames"):
        JoinedCaption(parts)


def test_parts_of_a_generator_are_read_once():
    assert JoinedCaption(part for part in ["video"]).parts == ("video",)


@pytest.mark.parametrize("words", [0, -1, 2.5, True, "many", None])
def test_words_are_a_positive_number(words):
    with pytest.raises(ValueError, match="words must be a whole number"):
        Summary(MODEL, words=words)
