"""The clips that the page shows, and what people have written of them."""

import json
import threading
from pathlib import Path
from typing import Any

from keras_pe.data_engine import Row, StageFailure, append_edit, read_edits, undo_edit
from keras_pe.data_engine.captions import clean

# What browsers show, by the ending of the file: all else is offered as a file.
KINDS = {
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".png": "image/png",
    ".apng": "image/apng",
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/mp4",
    ".webm": "video/webm",
    ".mkv": "video/webm",
}


class Clips:
    """Rows of an engine by their place, and edits by their content.

    Args:
        rows: `rows.jsonl` of an engine.
        edits: the file that edits are added to.

    Raises:
        ValueError: if there are no rows, or a file is none of these.
    """

    def __init__(self, rows: Path, edits: Path) -> None:
        self._rows = rows_of(rows)
        self._places = {row["content"]: n for n, row in enumerate(self._rows)}
        if not self._rows:
            raise ValueError(f"{rows} has no clips: failures.jsonl says why.")
        self._file, self.edits = edits, read_edits(edits)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._rows)

    def counts(self) -> dict[str, int]:
        """Returns how many clips there are, and how many of them have an edit."""
        return {"clips": len(self), "done": len(self.edits.keys() & self._places)}

    def shown(self, place: int) -> dict[str, Any]:
        """Returns what the page shows of a clip.

        Raises:
            IndexError: if there is no such place.
        """
        if not 0 <= place < len(self):
            raise IndexError(place)
        row = self._rows[place]
        content = row["content"]
        kind = KINDS.get(Path(row["path"]).suffix.lower(), "")
        return {
            "place": place,
            "content": content,
            "key": row["key"],
            "kind": kind.partition("/")[0],
            "model": row.get("video_caption", row.get("caption", "")),
            "caption": row.get("caption", ""),
            "frames": row.get("frame_captions", []),
            "edited": content in self.edits,
            "edit": self.edits.get(content),
            **self.counts(),
        }

    def file_of(self, content: str) -> tuple[Path, str]:
        """Returns the file of a clip and what browsers take it for.

        Raises:
            KeyError: if no row has this content: no other file is ever served.
        """
        path = Path(self._rows[self._places[content]]["path"])
        return path, KINDS.get(path.suffix.lower(), "application/octet-stream")

    def next_without_edit(self, place: int) -> int:
        """Returns the next clip that nobody has looked at, or the place itself."""
        for step in range(1, len(self)):
            there = (place + step) % len(self)
            if self._rows[there]["content"] not in self.edits:
                return there
        return place

    def save(self, content: str, caption: str | None) -> dict[str, Any]:
        """Writes an edit to the disk; None refuses the clip.

        Raises:
            KeyError: if there is no such clip.
            ValueError: if it is no caption.
            OSError: if it can't be written; nothing has changed.
        """
        place = self._places[content]
        if caption is not None:
            try:
                caption = clean(caption, "The caption")
            except StageFailure as failure:
                raise ValueError(str(failure)) from None
        with self._lock:
            append_edit(self._file, content, caption)
            self.edits[content] = caption
        return self.shown(place)

    def undo(self, content: str) -> dict[str, Any]:
        """Takes back the last edit of a clip, as `save` writes one."""
        place = self._places[content]
        with self._lock:
            if content in self.edits:
                undo_edit(self._file, content)
                self.edits = read_edits(self._file)
        return self.shown(place)


def rows_of(path: Path) -> list[Row]:
    """Reads rows that an engine wrote.

    Raises:
        ValueError: if the file is missing, or naming the line that is none of an
            engine's.
    """
    rows: list[Row] = []
    try:
        lines = path.read_text("utf-8").splitlines()
        rows.extend(_row_of(json.loads(line)) for line in lines)
    except FileNotFoundError:
        raise ValueError(
            f"{path} is missing: expected the folder that "
            f"`python -m projects.video_engine` wrote."
        ) from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no list of an engine: {error}.") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}, line {len(rows) + 1}, is none of an engine: {error}. Run "
            f"`python -m projects.video_engine` again: what it knows it does not "
            f"compute twice."
        ) from None
    return rows


def _row_of(said: Any) -> Row:
    """Returns a row, or says what it lacks; the content of unreadable clips is null."""
    row = said if isinstance(said, dict) else {}
    wrong = [name for name in ("key", "path") if not isinstance(row.get(name), str)]
    if not isinstance(row.get("content", 0), str | None):
        wrong.append("content")
    if wrong:
        raise ValueError(f"{said!r:.60} has no {', '.join(wrong)}")
    return row
