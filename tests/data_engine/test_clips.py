"""Clips of a folder: which there are, what they are called, which can't be used."""

import json
import os

import pytest

from keras_pe.data_engine import clips, clips_of_folder
from keras_pe.data_engine.clips import with_content, without_duplicates
from tests.data_engine.parts import clip

pytestmark = [pytest.mark.quick, pytest.mark.once]


def test_a_folder_is_listed_by_name_with_its_metadata(tmp_path):
    clip(tmp_path / "b" / "owl.gif")
    clip(tmp_path / "cat.GIF")
    clip(tmp_path / "._cat.gif")
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "b" / "owl.json").write_text('{"title": "An owl", "tags": ["a"]}')
    found = clips_of_folder(tmp_path)
    assert [row["key"] for row in found] == ["b/owl.gif", "cat.GIF"]
    assert found[0]["path"] == str(tmp_path / "b" / "owl.gif")
    assert [row["metadata"] for row in found] == [
        {"title": "An owl", "tags": ["a"]},
        {},
    ]


def test_a_folder_without_clips_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no clips: expected files of .mp4"):
        clips_of_folder(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1]", '{"length": NaN}', '{"a": Infinity}', "[" * 100_000, "\udcff"],
)
def test_damaged_metadata_are_a_failure_of_that_clip_alone(tmp_path, text):
    clip(tmp_path / "a.gif")
    clip(tmp_path / "b.gif")
    (tmp_path / "a.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    first, second = map(with_content, clips_of_folder(tmp_path))
    assert first["failure"]["stage"] == "metadata"
    assert first["failure"]["reason"] == "unreadable metadata"
    assert "a.json" in first["failure"]["detail"]
    assert len(first["failure"]["detail"]) <= 500
    assert first["content"] is None
    assert "failure" not in second


def test_metadata_that_are_a_folder_or_lead_nowhere_fail(tmp_path):
    for name in ("a", "b"):
        clip(tmp_path / f"{name}.gif")
    (tmp_path / "a.json").mkdir()
    (tmp_path / "b.json").symlink_to(tmp_path / "missing")
    found = clips_of_folder(tmp_path)
    assert [row["failure"]["reason"] for row in found] == ["unreadable metadata"] * 2


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"path": "a.gif"}], "Row 0: key=None, expected text"),
        ([{"key": "", "path": "a.gif"}], "Row 0: key=''"),
        ([{"key": "a", "path": 3}], "Row 0: path=3"),
        ([{"key": "a", "path": "a"}, {"key": "a", "path": "b"}], "Two clips are .*'a'"),
        ([{"key": "a", "path": "a", "metadata": [1]}], "a: its metadata are"),
        ([{"key": "a", "path": "a", "metadata": {"x": float("nan")}}], "no JSON"),
        ([{"key": "a", "path": "a", "more": object()}], "no JSON"),
    ],
)
def test_rows_that_are_none_are_refused_by_name(rows, said):
    with pytest.raises(ValueError, match=said):
        clips(rows)


def test_rows_are_sorted_and_a_key_may_be_anything():
    found = clips([{"key": "b\nc", "path": "x"}, {"key": "a\udcff", "path": "y"}])
    assert [row["key"] for row in found] == ["a\udcff", "b\nc"]
    assert json.loads(json.dumps(found)) == found


def test_content_is_of_the_bytes_whatever_leads_to_them(tmp_path):
    clip(tmp_path / "a.gif")
    (tmp_path / "b.gif").symlink_to(tmp_path / "a.gif")
    clip(tmp_path / "c.gif", 1)
    found = list(map(with_content, clips_of_folder(tmp_path)))
    contents = [row["content"] for row in found]
    assert contents[0] == contents[1] != contents[2]
    assert len(contents[0]) == 64
    unique = without_duplicates(found[::-1])
    assert [row["key"] for row in unique] == ["a.gif", "b.gif", "c.gif"]
    assert [row.get("failure", {}).get("reason") for row in unique] == [
        None,
        "duplicate",
        None,
    ]
    assert unique[1]["failure"]["detail"] == "The same bytes as a.gif."


def test_what_is_no_file_fails_and_is_not_waited_for(tmp_path):
    paths = {name: tmp_path / f"{name}.gif" for name in ("gone", "loop", "pipe")}
    paths["gone"].symlink_to(tmp_path / "missing")
    paths["loop"].symlink_to(paths["loop"])
    os.mkfifo(paths["pipe"])
    (tmp_path / "empty.gif").write_bytes(b"")
    found = {row["key"]: with_content(row) for row in clips_of_folder(tmp_path)}
    (folder,) = clips([{"key": "folder", "path": str(tmp_path)}])
    (zero,) = clips([{"key": "zero", "path": "a\0b"}])
    found |= {"folder": with_content(folder), "zero": with_content(zero)}
    reasons = {key: row["failure"]["reason"] for key, row in found.items()}
    assert reasons.pop("empty.gif") == "empty file"
    assert len(reasons) == 5
    assert set(reasons.values()) == {"unreadable file"}
    assert "is no file" in found["pipe.gif"]["failure"]["detail"]
    assert all(row["content"] is None for row in found.values())


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("clips", "Row 0 is 'c': expected an object of key and path"),
        ([["a"]], "Row 0 is .*clips_of_folder"),
        ([{"key": "a", "path": "p", "failure": None}], "a: failure=None, expected"),
        ([{"key": "a", "path": "p", "failure": "bad"}], "a: failure='bad', expected"),
        ([{"key": "a", "path": "p", "metadata": {"x": b"y"}}], "no JSON values"),
    ],
)
def test_rows_that_are_none_are_refused(rows, said):
    with pytest.raises(ValueError, match=said):
        clips(rows)


def test_a_mark_at_the_beginning_of_a_json_file_is_no_damage(tmp_path):
    clip(tmp_path / "a.gif").with_suffix(".json").write_bytes(
        b'\xef\xbb\xbf{"title": "owl"}'
    )
    assert clips_of_folder(tmp_path)[0]["metadata"] == {"title": "owl"}
