"""Reads a folder of which `files.py` says how it is replaced: all of one version."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from keras_pe.files import FilePath, TargetBusyError

Found = TypeVar("Found")
TRIES = 100  # to read a folder that is replaced at this very moment


def whole_directory(target: FilePath) -> Path:
    """Returns the path under which a reader finds a folder.

    It is `target`, except after a kill between the two renames that replace a folder
    where names can't be exchanged: then the old one still has another name.
    """
    target = Path(os.path.realpath(target))
    old = target.with_name(f".{target.name}.old")
    return old if not target.exists() and old.is_dir() else target


def read_directory(
    target: FilePath,
    read: Callable[[Path], Found],
    failures: tuple[type[Exception], ...],
) -> Found:
    """Reads several files of a folder that a writer may replace at any moment.

    A file of the old folder beside one of the new would look damaged, or fit by
    chance: what was read while the folder changed is read again.

    Args:
        target: the folder.
        read: reads it from the path that it gets.
        failures: what `read` raises if files do not fit together.

    Returns:
        What `read` returned, all of one folder.

    Raises:
        TargetBusyError: if it changes every time.
    """
    for _ in range(TRIES):
        place = whole_directory(target)
        before = _identity(place)
        try:
            found = read(place)
        except failures:
            if _identity(whole_directory(target)) == before:
                raise
            continue
        if _identity(whole_directory(target)) == before:
            return found
    raise TargetBusyError(f"{target} is replaced all the time. Try later.")


def _identity(directory: Path) -> tuple[int, int] | None:
    try:
        found = directory.stat()
    except OSError:
        return None
    return found.st_ino, found.st_ctime_ns
