"""The clips that an engine begins with: which there are, and what tells them apart."""

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from keras_pe.data_engine.apply import failed
from keras_pe.data_engine.stage import CONTENT, FAILURE, KEY, PATH, Row, canonical
from keras_pe.preprocessing.media_folders import list_files

UNREADABLE, EMPTY, DUPLICATE = "unreadable file", "empty file", "duplicate"
METADATA, BAD_METADATA = "metadata", "unreadable metadata"
SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".flv"),
    *(".gif", ".webp", ".png", ".apng"),
)
_PIECE = 1 << 20  # bytes that are read at a time


def clips_of_folder(folder: str | os.PathLike[str]) -> list[Row]:
    """Lists the clips of a folder and its folders, by what they are called.

    Beside `owl.mp4` may lie `owl.json`, an object: its values are the row's `metadata`,
    such as a title and a description. A clip whose JSON is damaged fails.

    Args:
        folder: with video files and animations.

    Returns:
        Rows of `key`, `path` and `metadata`, sorted by `key`: the path in the folder.

    Raises:
        ValueError: if there are none.
        OSError: if a folder can't be read.

    Example:
        >>> from PIL import Image
        >>> Path("clips").mkdir()
        >>> Image.new("RGB", (8, 8), "red").save("clips/red.gif")
        >>> [row["key"] for row in clips_of_folder("clips")]
        ['red.gif']
    """
    paths = list_files(folder, SUFFIXES, recursive=True)
    if not paths:
        raise ValueError(
            f"{os.fspath(folder)} holds no clips: expected files of "
            f"{', '.join(SUFFIXES)}."
        )
    root = Path(folder)
    return clips(
        _with_metadata({KEY: path.relative_to(root).as_posix(), PATH: os.fspath(path)})
        for path in paths
    )


def clips(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Returns rows sorted by `key`, or says what is wrong with them.

    Args:
        rows: each with `key` and `path`, and `metadata`, an object, if there is any.

    Raises:
        ValueError: if one of these is missing, no text or JSON, or a key comes twice,
            or a `failure` is none of an engine's.

    Example:
        >>> clips([{"key": "owl", "path": "owl.mp4", "metadata": {"title": "An owl"}}])
        [{'key': 'owl', 'metadata': {'title': 'An owl'}, 'path': 'owl.mp4'}]
    """
    found: dict[str, Row] = {}
    for place, given in enumerate(rows):
        if not isinstance(given, Mapping):
            raise ValueError(
                f"Row {place} is {given!r:.80}: expected an object of key and path. "
                f"clips_of_folder lists those of a folder."
            )
        row = {METADATA: {}, **given}
        for name in (KEY, PATH):
            if not isinstance(row.get(name), str) or not row[name]:
                raise ValueError(
                    f"Row {place}: {name}={row.get(name)!r}, expected text."
                )
        if not isinstance(row[METADATA], Mapping):
            raise ValueError(
                f"{row[KEY]}: its metadata are {row[METADATA]!r:.80}, expected an "
                f"object, or none."
            )
        if row[KEY] in found:
            raise ValueError(f"Two clips are called {row[KEY]!r}: name each apart.")
        _check_failure(row)
        # As they will be written: NumPy's numbers are Python's from here on.
        found[row[KEY]] = json.loads(canonical(row, f"The values of {row[KEY]}"))
    return [found[key] for key in sorted(found)]


def with_content(row: Row) -> Row:
    """Returns a row with the SHA-256 of its file, or with a failure.

    The file is read again by every run: what another has put under its name is another
    clip.
    """
    if FAILURE in row:
        return row
    digest, size = hashlib.sha256(), 0
    try:
        if not stat.S_ISREG(os.stat(row[PATH]).st_mode):  # a pipe would never end
            return failed(row, CONTENT, UNREADABLE, f"{row[PATH]} is no file.")
        with open(row[PATH], "rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
                size += len(piece)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        return failed(row, CONTENT, UNREADABLE, f"{row[PATH]}: {why}.")
    if not size:
        return failed(row, CONTENT, EMPTY, f"{row[PATH]} has no bytes.")
    return {**row, CONTENT: digest.hexdigest()}


def without_duplicates(rows: Iterable[Row]) -> list[Row]:
    """Returns the rows by `key`; of equal files the first stays, the others fail."""
    first: dict[str, str] = {}
    found = []
    for row in sorted(rows, key=lambda row: row[KEY]):
        if FAILURE not in row and first.setdefault(row[CONTENT], row[KEY]) != row[KEY]:
            detail = f"The same bytes as {first[row[CONTENT]]}."
            row = failed(row, CONTENT, DUPLICATE, detail)
        found.append(row)
    return found


def _check_failure(row: Row) -> None:
    """Refuses a failure that nothing could be counted by."""
    if FAILURE not in row:
        return
    said = row[FAILURE]
    known = said if isinstance(said, Mapping) else {}
    if not all(isinstance(known.get(name), str) for name in ("stage", "reason")):
        raise ValueError(
            f"{row[KEY]}: {FAILURE}={said!r:.80}, expected an object of stage, reason "
            f"and detail, or no {FAILURE}."
        )


def _with_metadata(row: Row) -> Row:
    """Returns a row with what its JSON file says, or with a failure."""
    beside = Path(row[PATH]).with_suffix(".json")
    if not os.path.lexists(beside):
        return row
    try:
        if not stat.S_ISREG(os.stat(beside).st_mode):
            raise ValueError("no file")
        said = json.loads(beside.read_text(encoding="utf-8-sig"))
        if not isinstance(said, dict):
            raise ValueError(f"{said!r:.80}")
        canonical(said, "Its values")
    except (OSError, ValueError, RecursionError) as error:
        why = f"{beside}: {str(error).rstrip('.')}. Expected a JSON object."
        return failed(row, METADATA, BAD_METADATA, why[:500])
    return {**row, METADATA: said}
