"""Shards are opened once, and again as soon as they are others."""

import pytest

from keras_pe.data.tar_shards import open_shards
from tests.data.shards import sample_members, tar_bytes, write_shards

pytestmark = [pytest.mark.quick, pytest.mark.once]


def test_shards_that_did_not_change_are_opened_once(tmp_path):
    write_shards(tmp_path)
    assert open_shards(str(tmp_path)) is open_shards(str(tmp_path))


def test_shards_that_came_later_are_seen(tmp_path):
    write_shards(tmp_path)
    before = open_shards(str(tmp_path))
    (tmp_path / "shard-9.tar").write_bytes(tar_bytes(sample_members(90)))
    after = open_shards(str(tmp_path))
    assert len(after) == len(before) + 1
    assert after.digest != before.digest


def test_a_shard_that_was_replaced_is_read_anew(tmp_path):
    path = tmp_path / "one.tar"
    path.write_bytes(tar_bytes(sample_members(1)))
    [before] = open_shards(str(path))
    other = tmp_path / "aside"
    other.write_bytes(tar_bytes(sample_members(2)))
    other.replace(path)
    [after] = open_shards(str(path))
    assert before["__key__"] != after["__key__"]


def test_a_relative_name_is_of_the_folder_one_is_in(tmp_path, monkeypatch):
    keys = []
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "one.tar").write_bytes(tar_bytes(sample_members(number)))
        monkeypatch.chdir(folder)
        keys.append(open_shards("one.tar")[0]["__key__"])
    assert keys[0] != keys[1]


def test_a_shard_that_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.tar"):
        open_shards(str(tmp_path / "none.tar"))
