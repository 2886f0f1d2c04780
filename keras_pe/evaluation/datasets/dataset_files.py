"""Looking for files, and saying clearly which are not there."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def folder(path: str | os.PathLike[str], what: str) -> Path:
    """Returns a folder.

    Raises:
        FileNotFoundError: if it is none, saying what was expected there.
    """
    found = Path(path)
    if not found.is_dir():
        raise FileNotFoundError(f"No folder {found}: expected {what}.")
    return found


def check_there(paths: Iterable[Path], what: str) -> None:
    """Raises FileNotFoundError naming the first files that are missing."""
    missing = [path for path in paths if not path.exists()]
    if missing:
        more = f", and {len(missing) - 3} more" if len(missing) > 3 else ""
        names = ", ".join(map(str, missing[:3]))
        raise FileNotFoundError(f"Missing {what}: {names}{more}.")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Returns the content of a JSON file.

    Raises:
        FileNotFoundError: if it is missing.
        ValueError: if it is damaged.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON file: {error}.") from error


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """Returns the lines of a text file that are not empty."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text ({error}). Save it so.") from error
    return [line.strip() for line in lines if line.strip()]
