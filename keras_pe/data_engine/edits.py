"""What people wrote of clips: a file of lines that only grows."""

import json
import os
from pathlib import Path
from typing import Any

from keras_pe.files import FilePath

EXPECTED = '{"content": "...", "caption": "..."}'


def read_edits(path: FilePath) -> dict[str, str | None]:
    """Reads the captions that people gave: JSON lines of `content` and `caption`.

    A line `{"content": ..., "undone": true}` takes back the last one of its clip.

    Args:
        path: of the file; one that is missing has no edits. Of several lines about one
            clip the last holds.

    Returns:
        The caption, or None for a clip that was refused, by the SHA-256 of the clip.

    Raises:
        ValueError: naming the line that is none. A last line that was cut off, as by a
            full disk, is left out.

    Example:
        >>> append_edit("edits.jsonl", "0" * 64, "an owl turns its head")
        >>> list(read_edits("edits.jsonl").values())
        ['an owl turns its head']
    """
    try:
        with open(path, encoding="utf-8", newline="\n") as file:
            lines = file.read().split("\n")
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError as error:
        raise ValueError(f"{os.fspath(path)} is no UTF-8: {error}.") from None
    found: dict[str, list[str | None]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            said = json.loads(line)
            content = said["content"]
            caption = None if said.get("undone") is True else said["caption"]
            if not isinstance(content, str) or not isinstance(caption, str | None):
                raise TypeError("content and caption are texts")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as why:
            if number == len(lines):  # no newline: it was never whole
                break
            raise ValueError(
                f"{os.fspath(path)}, line {number}: {why}. Expected {EXPECTED}."
            ) from None
        edits = found.setdefault(content, [])
        if said.get("undone") is not True:
            edits.append(caption)
        elif edits:
            edits.pop()
    return {content: edits[-1] for content, edits in found.items() if edits}


def append_edit(path: FilePath, content: str, caption: str | None) -> None:
    """Adds a caption to the file, and waits until it is on the disk.

    Args:
        path: of the file; made if it is missing. A last line that was cut off is
            removed.
        content: SHA-256 of the clip.
        caption: of the clip; None refuses it.

    Raises:
        OSError: if it can't be written: the file is as before.

    Example:
        >>> append_edit("edits.jsonl", "0" * 64, None)
    """
    _append(path, {"content": content, "caption": caption})


def undo_edit(path: FilePath, content: str) -> None:
    """Takes back the last edit of a clip, see `append_edit`.

    Example:
        >>> append_edit("undone.jsonl", "0" * 64, "an owl")
        >>> undo_edit("undone.jsonl", "0" * 64)
        >>> read_edits("undone.jsonl")
        {}
    """
    _append(path, {"content": content, "undone": True})


def _append(path: FilePath, said: dict[str, Any]) -> None:
    line = json.dumps(said, ensure_ascii=True) + "\n"
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b") as file:
        whole = _whole(file)
        file.truncate(whole)
        try:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            os.truncate(path, whole)
            raise


def _whole(file: Any) -> int:
    """Returns where the last whole line of a file ends."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - 65536)
        file.seek(start)
        place = file.read(end - start).rfind(b"\n")
        if place >= 0:
            return int(start + place + 1)
        end = start
    return 0
