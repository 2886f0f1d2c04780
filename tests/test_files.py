"""Files and folders appear whole or not at all, whatever stops their writer."""

import errno
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import keras_pe.files
from keras_pe.files import (
    TargetBusyError,
    check_directory_target,
    check_file_target,
    file_aside,
    only_writer,
    write_atomically,
    write_directory,
)
from keras_pe.folder_reading import read_directory

pytestmark = [pytest.mark.quick, pytest.mark.once]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("how", ["exchange", "rename"])
def test_a_kill_at_any_step_keeps_old_or_new_and_nothing_else(tmp_path, how):
    program = Path(__file__).with_name("killed_writer.py")
    done = subprocess.run(
        [sys.executable, program, keras_pe.files.__file__, tmp_path, how],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10


def test_a_folder_is_never_missing_while_it_is_replaced(tmp_path, monkeypatch):
    target = tmp_path / "target"
    with write_directory(target) as aside:
        (aside / "a").write_text("1")
    names = []
    exchange = keras_pe.files._exchange

    def watched(first, second):
        names.append(target.is_dir())
        done = exchange(first, second)
        names.append(target.is_dir())
        return done

    monkeypatch.setattr("keras_pe.files._exchange", watched)
    with write_directory(target) as aside:
        (aside / "a").write_text("2")
    assert names == [True, True]
    assert (target / "a").read_text() == "2"
    assert os.listdir(tmp_path) == ["target"]


def test_a_failed_write_keeps_the_old_folder(tmp_path, monkeypatch):
    target = tmp_path / "target"
    with write_directory(target) as aside:
        (aside / "a").write_text("old")

    def fill():
        with write_directory(target) as aside:
            (aside / "a").write_text("new")

    def fail(*_):
        raise OSError("disk full")

    for name in ("sync", "_exchange", "_move_into_place"):
        with monkeypatch.context() as patch:
            patch.setattr(f"keras_pe.files.{name}", fail)
            with pytest.raises(OSError, match="disk full"):
                fill()
        assert (target / "a").read_text() == "old"
        assert os.listdir(tmp_path) == ["target"]


@pytest.mark.parametrize("reason", ["No space left on device", "File too large"])
def test_a_full_disk_is_named(tmp_path, reason):
    target = tmp_path / "preset"
    number = errno.ENOSPC if "space" in reason else errno.EFBIG
    with write_directory(target) as aside:
        (aside / "a").write_text("old")

    def fill(target, how):
        with how(target) as aside:
            (aside / "a" if how is write_directory else aside).write_text("new")
            raise OSError(number, reason)  # as write() does, which names no file

    with pytest.raises(OSError, match=f"preset can't be written: {reason}") as seen:
        fill(target, write_directory)
    assert seen.value.errno == number
    assert (target / "a").read_text() == "old"
    with pytest.raises(OSError, match=r"a\.json can't be written"):
        fill(tmp_path / "a.json", file_aside)
    reason, number = "broken", errno.EIO
    with pytest.raises(OSError, match=r"5\] broken$"):
        fill(target, write_directory)
    assert os.listdir(tmp_path) == ["preset"]


def test_a_failed_second_rename_is_taken_back(tmp_path, monkeypatch):
    target = tmp_path / "target"
    with write_directory(target) as aside:
        (aside / "a").write_text("old")
    monkeypatch.setattr("keras_pe.files._exchange", lambda *_: False)
    rename, calls = os.rename, []

    def second_fails(source, destination):
        calls.append(destination)
        if len(calls) == 2:
            raise OSError("disk full")
        rename(source, destination)

    monkeypatch.setattr(os, "rename", second_fails)
    with pytest.raises(OSError, match="disk full"), write_directory(target) as aside:
        (aside / "a").write_text("new")
    assert (target / "a").read_text() == "old"
    assert os.listdir(tmp_path) == ["target"]


def test_a_second_writer_is_told_so(tmp_path):
    target = tmp_path / "target"
    with (
        only_writer(target),
        pytest.raises(TargetBusyError, match="by another process"),
        write_directory(target),
    ):
        pass
    with write_directory(target) as aside:
        (aside / "a").write_text("1")
    assert os.listdir(tmp_path) == ["target"]


def test_links_are_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").write_text("old")
    (tmp_path / "name").symlink_to(tmp_path / "file")
    with write_directory(tmp_path / "link") as aside:
        (aside / "a").write_text("1")
    write_atomically(tmp_path / "name", "new")
    assert (tmp_path / "real" / "a").read_text() == "1"
    assert (tmp_path / "file").read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == ["file", "link", "name", "real"]


def test_what_a_killed_process_left_of_a_file_is_removed(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    with file_aside(tmp_path / "a.json") as aside:
        aside.write_text("{}")
        ours = f"-{os.getpid()}."
        assert ours in aside.name
        orphan = aside.with_name(aside.name.replace(ours, f"-{dead.pid}."))
        alive = aside.with_name(aside.name.replace(ours, "-1."))
        orphan.write_text("half")
        alive.write_text("half")
    write_atomically(tmp_path / "a.json", "[]")
    assert sorted(os.listdir(tmp_path)) == sorted([alive.name, "a.json"])


def test_threads_that_write_one_file_leave_one_whole_content(tmp_path):
    path, half_way = tmp_path / "a.json", threading.Barrier(2, timeout=60)

    def write(letter):
        with file_aside(path) as aside, aside.open("w") as file:
            file.write(letter * 5000)
            file.flush()
            half_way.wait()  # both have a half
            file.write(letter * 5000)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, "ab"))
    assert path.read_text() in ("a" * 10000, "b" * 10000)
    assert os.listdir(tmp_path) == ["a.json"]


def test_what_is_read_while_a_folder_is_replaced_is_read_again(tmp_path):
    target = tmp_path / "target"

    def write(content):
        with write_directory(target) as aside:
            (aside / "a").write_text(content)
            (aside / "b").write_text(content)

    def read(place):
        first = (place / "a").read_text()
        if writers:
            write(writers.pop())
        second = (place / "b").read_text()
        if check and first != second:
            raise KeyError(first + second)
        return first + second

    for check in (True, False):  # noqa: B007 - files that fit by chance count too
        write("0")
        writers = ["2", "1"]
        assert read_directory(target, read, (KeyError,)) == "22"
    check, writers = True, list("987654321" * 20)
    with pytest.raises(TargetBusyError, match="replaced all the time"):
        read_directory(target, read, (KeyError,))

    def broken(place):
        raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        read_directory(target, broken, (KeyError,))


def test_places_that_cannot_be_written_are_found_before(tmp_path):
    check_file_target(tmp_path / "new" / "folder" / "a.npz")
    check_directory_target(tmp_path / "new" / "folder")
    assert os.listdir(tmp_path) == []
    with pytest.raises(ValueError, match="is a folder"):
        check_file_target(tmp_path)
    with pytest.raises(ValueError, match="is no ordinary file"):
        check_file_target(os.devnull)
    (tmp_path / "a").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        check_directory_target(tmp_path / "a")
    for check in (check_file_target, check_directory_target):
        with pytest.raises(ValueError, match="is empty"):
            check("")
        with pytest.raises(OSError, match="can't be written"):
            check(tmp_path / "a" / "b" / "c")


def test_names_that_are_too_long_are_found_before(tmp_path):
    # 255 bytes is what file systems hold; while a thing is written its name is longer.
    for name in ("n" * 250, "\u00e4" * 125, "n" * 300):
        with pytest.raises(ValueError, match="too long"):
            check_file_target(tmp_path / "new" / f"{name}")
        with pytest.raises(ValueError, match="too long"):
            check_directory_target(tmp_path / "new" / name)
        with (
            pytest.raises(ValueError, match="too long"),
            write_directory(tmp_path / name),
        ):
            pass
    with pytest.raises(ValueError, match="300 bytes"):
        check_file_target(tmp_path / "new" / ("n" * 300) / "a" / "b")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["n" * 240, "a b", "q'\"q", "n\nl", "\u00fc", "-x"])
def test_odd_names_are_written_as_they_are(tmp_path, name):
    for _ in range(2):
        with write_directory(tmp_path / name) as aside:
            (aside / "a").write_text("1")
    assert os.listdir(tmp_path) == [name]
    write_atomically(tmp_path / "files" / name[:180], "2")
    assert os.listdir(tmp_path / "files") == [name[:180]]


def test_the_root_and_a_link_in_a_circle_are_no_targets(tmp_path):
    with pytest.raises(ValueError, match="no folder above"):
        check_directory_target(tmp_path.anchor)
    with pytest.raises(ValueError, match="is a folder"):
        check_file_target(tmp_path.anchor)
    link = tmp_path / "link"
    link.symlink_to(link)
    for check in (check_file_target, check_directory_target):
        with pytest.raises(ValueError, match="leads to itself"):
            check(link)
