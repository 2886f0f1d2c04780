"""What was computed already, by what it was computed from.

A result lies under the hash of the stage, its settings, and what it reads of the row:
the content of the clip among them, its name not. So a run that was stopped goes on
where it was, with any number of workers; a stage whose settings changed, and all that
reads what it gives, is computed anew, and nothing else.
"""

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any, Protocol

from keras_pe.data_engine.stage import CONTENT, Row, Stage, canonical
from keras_pe.files import FilePath, check_directory_target, write_atomically

FORMAT = 1  # of an entry; another one is not read


class Ledger(Protocol):
    """Where results are kept. Several processes read and write it at a time.

    Example:
        >>> class Memory(dict):
        ...     def read(self, stage, key): return self.get((stage, key))
        ...     def write(self, stage, key, entry): self[stage, key] = entry
        >>> ledger: Ledger = Memory()
        >>> ledger.write("probe", "0" * 64, {"fields": {"motion": 0.1}})
        >>> ledger.read("probe", "0" * 64)
        {'fields': {'motion': 0.1}}
    """

    def read(self, stage: str, key: str) -> dict[str, Any] | None:
        """Returns the entry, or None if there is no sound one."""

    def write(self, stage: str, key: str, entry: dict[str, Any]) -> None:
        """Keeps an entry, whole or not at all."""


class FolderLedger:
    """A ledger of small files: `FOLDER/STAGE/ab/cd/ef....json`.

    Each holds a checksum: what a crash of the machine damaged is computed again.

    Args:
        folder: where; made when the first entry is written.

    Example:
        >>> ledger = FolderLedger("runs/engine/ledger")
        >>> ledger.write("probe", "0" * 64, {"fields": {"frames": 8}})
        >>> ledger.read("probe", "0" * 64)
        {'fields': {'frames': 8}}
    """

    def __init__(self, folder: FilePath) -> None:
        check_directory_target(folder)
        self.folder = Path(folder)

    def _path(self, stage: str, key: str) -> Path:
        # Two folders deep: some hundred files a folder of ten million clips.
        return self.folder / stage / key[:2] / key[2:4] / f"{key[4:]}.json"

    def read(self, stage: str, key: str) -> dict[str, Any] | None:
        """Returns the entry, or None if there is no sound one."""
        try:
            said = json.loads(self._path(stage, key).read_bytes())
            entry = said["entry"]
            sound = said["format"] == FORMAT and said["sum"] == _sum(entry)
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None
        return entry if sound and isinstance(entry, dict) else None

    def write(self, stage: str, key: str, entry: dict[str, Any]) -> None:
        """Keeps an entry, whole or not at all.

        Raises:
            OSError: if it can't be written, as on a full disk.
        """
        said = {"format": FORMAT, "sum": _sum(entry), "entry": entry}
        write_atomically(self._path(stage, key), canonical(said, "Entries"))

    def clear_unfinished(self) -> None:
        """Removes what killed processes left half written. None may be running."""
        for folder, _, names in os.walk(self.folder):
            for name in names:
                if name.startswith("."):
                    with contextlib.suppress(OSError):
                        os.unlink(os.path.join(folder, name))


def ledger_key(stage: Stage, row: Row) -> str:
    """Returns the hash of all that a stage's result depends on.

    Raises:
        ValueError: if the row has not what the stage reads: another one comes before.
    """
    missing = [name for name in (CONTENT, *stage.reads) if name not in row]
    if missing:
        raise ValueError(
            f"The stage {stage.name} reads {', '.join(missing)}, which no stage before "
            f"it gave {row.get('key')!r}."
        )
    read = {name: row[name] for name in (CONTENT, *stage.reads)}
    more = getattr(stage, "key_of", lambda row: None)(row)
    said = [stage.name, stage.settings(), list(stage.gives), read, more]
    return hashlib.sha256(
        canonical(said, f"Of {stage.name}, {read}").encode()
    ).hexdigest()


def _sum(entry: Any) -> str:
    return hashlib.sha256(canonical(entry, "Entries").encode()).hexdigest()[:16]
