"""What would be lost where a folder takes the place of another one."""

from collections.abc import Container
from pathlib import Path


def would_be_lost(folder: Path, own: Container[str], mark: str | None) -> list[str]:
    """Returns what a folder holds beside what is written there anyway.

    Args:
        folder: that is to be replaced; it need not exist.
        own: names that whoever replaces it writes.
        mark: the name without which nothing in it was written by the same; None if
            there is none.

    Returns:
        Names, sorted; empty if nothing would be lost.

    Example:
        >>> folder = Path("photos")
        >>> folder.mkdir()
        >>> _ = (folder / "cat.jpg").write_bytes(b"...")
        >>> would_be_lost(folder, {"index.json"}, "index.json")
        ['cat.jpg']
    """
    names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if mark is not None and mark not in names:
        return sorted(names)
    return sorted(name for name in names if name not in own)
