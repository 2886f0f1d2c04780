"""Which files of this machine a page may read: those of one folder, and no other."""

import os
from pathlib import Path

from keras_pe.preprocessing.media_folders import list_files
from keras_pe.printable_text import printable


class AllowedFolder:
    """The folder whose pictures a visitor of the page may see.

    What is typed in the page is looked for below it. A path that leads elsewhere, by
    `..`, from the top or by a link, is refused before anything is looked at, so that
    nobody learns whether it exists. Pictures that are links to places outside are
    left out.

    Args:
        root: the folder, as it was named on the command line.

    Raises:
        ValueError: if there is no such folder.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> (root / "trip").mkdir()
        >>> AllowedFolder(root).below("trip").name
        'trip'
        >>> AllowedFolder(root).below("../..")
        Traceback (most recent call last):
        ValueError: '../..' leads out of the folder that this page may read. Type a \
folder below it, such as trip/day1, or nothing for all of it.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        if not os.fspath(root) or not os.path.isdir(root):
            raise ValueError(f"No such folder: {printable(root) or '(empty)'}")
        self.root = Path(os.path.realpath(root))
        self.name = printable(self.root.name or self.root)

    def below(self, typed: str) -> Path:
        """Returns the folder that was typed.

        Args:
            typed: a path below the root; nothing means the root.

        Raises:
            ValueError: if it leads out of the root, or there is no such folder.
        """
        shown = printable(typed)[:200]
        try:
            found = Path(os.path.realpath(self.root / typed.strip()))
            inside = found.is_relative_to(self.root)
        except (ValueError, OSError):  # a null byte, a name that is too long
            inside = False
        if not inside:
            raise ValueError(
                f"'{shown}' leads out of the folder that this page may read. Type a "
                f"folder below it, such as trip/day1, or nothing for all of it."
            )
        if not os.path.isdir(found):
            raise ValueError(
                f"There is no folder '{shown}' in {self.name}. Type one that is "
                f"there, or nothing for all of it."
            )
        return found

    def pictures(self, folder: Path) -> list[Path]:
        """Returns the image files of a folder and all below it.

        Args:
            folder: from `below`.

        Raises:
            ValueError: if there are none.
        """
        found = [path for path in list_files(folder, recursive=True) if self.has(path)]
        if not found:
            raise ValueError(
                f"There are no pictures in {printable(folder.name)}. Choose another "
                f"folder."
            )
        return found

    def has(self, path: Path) -> bool:
        """Says whether a file lies below the root, links followed."""
        return Path(os.path.realpath(path)).is_relative_to(self.root)
