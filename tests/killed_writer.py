"""Writes a folder again and again and dies at every step once; run as a program.

    python tests/killed_writer.py FILES_PY FOLDER (exchange | rename)

Loads `keras_pe/files.py` alone, so that its processes have no threads and may fork.
Prints how many steps a write has; an assertion fails if a kill loses a folder or the
next write leaves something behind.
"""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

KILLED = 77


def load(path):
    """Returns the module of a file, outside its package."""
    spec = importlib.util.spec_from_file_location("files", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(files, target, content):
    """Writes a folder of two files."""
    with files.write_directory(target) as aside:
        for name in ("first", "second"):
            (aside / name).write_text(content)


def read(files, target):
    """Returns what both files hold, which is the same."""
    old = target.with_name(f".{target.name}.old")  # as `whole_directory` finds it
    place = target if target.exists() else old
    contents = {(place / name).read_text() for name in ("first", "second")}
    assert len(contents) == 1, contents
    return contents.pop()


def die_at(step):
    """Lets the process end before the step-th change of the file system."""
    count = 0

    def watched(function):
        def call(*arguments, **keywords):
            nonlocal count
            count += 1
            if count == step:
                os._exit(KILLED)
            return function(*arguments, **keywords)

        return call

    for module, name in (
        *((os, name) for name in ("open", "mkdir", "rename", "unlink", "fsync")),
        *((os, name) for name in ("rmdir", "close")),
        (shutil, "rmtree"),
    ):
        setattr(module, name, watched(getattr(module, name)))


def main():
    """Kills at step 1, 2, 3, ... until a write is done before its kill."""
    path, folder, how = sys.argv[1:]
    files = load(path)
    if how == "rename":
        files._exchange = lambda *_: False
    target = Path(folder, "target")
    write(files, target, "old")
    for step in range(1, 1000):
        process = os.fork()
        if not process:
            die_at(step)
            write(files, target, f"new {step}")
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        assert code in (0, KILLED), code
        found = read(files, target)
        assert found in ("old", f"new {step}"), (step, found)
        write(files, target, "old")
        assert read(files, target) == "old"
        assert os.listdir(folder) == ["target"], (step, os.listdir(folder))
        if code == 0:
            print(step - 1)
            return
    raise AssertionError("it never ended")


if __name__ == "__main__":
    main()
