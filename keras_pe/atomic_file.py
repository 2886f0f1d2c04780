"""Files that appear whole or not at all."""

import os
from pathlib import Path


def write_atomically(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Writes a file aside and renames it: readers see the old one or the new one.

    Args:
        path: where; replaced if it is there. Its folder is made if it is missing.
        content: text, which becomes UTF-8 with its newlines as they are, or bytes.

    Raises:
        OSError: if it can't be written; what was there stays.

    Example:
        >>> write_atomically("runs/mine/config.json", "{}")         # doctest: +SKIP
    """
    target = Path(path)
    data = content.encode("utf-8") if isinstance(content, str) else content
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, target)
    finally:
        aside.unlink(missing_ok=True)
