"""Which files of a folder are images or videos, in one place for the whole package.

Folders come from other people's computers: macOS leaves `._cat.jpg` beside
`cat.jpg` and a `__MACOSX` beside the folders of a zip, Jupyter an
`.ipynb_checkpoints`, a NAS an `@eaDir`, Windows a `Thumbs.db`. None of them is an
image or a class.
"""

import os
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path

# Every ending of the formats in `image_decoding.DEFAULT_FORMATS`.
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    *(".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
)
# Of images that nothing here opens, and are no texts all the same.
OTHER_IMAGE_SUFFIXES = (
    *(".heic", ".heif", ".avif", ".jxl", ".jp2", ".ico", ".tga", ".psd", ".svg"),
    *(".eps", ".exr", ".hdr", ".dng", ".cr2", ".nef", ".arw"),
)
# Every usual ending of the containers in `image_errors.CONTAINERS`, and the animations.
VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".mkv", ".webm", ".avi"),
    *(".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".flv", ".ogv", ".ogg"),
    *(".wmv", ".asf", ".gif", ".webp", ".apng"),
)

# What operating systems and servers leave behind under names without a dot.
_SYSTEM_NAMES = frozenset(
    {
        "__macosx",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "@eadir",
        "#recycle",
        "$recycle.bin",
        "system volume information",
        "lost+found",
    }
)


def visible(name: str | os.PathLike[str]) -> bool:
    """Returns whether a name is a user's own, not hidden and not left by a system.

    Args:
        name: of a file or folder; of a path, its last part counts.

    Returns:
        False for names that begin with a dot and for those that systems leave.

    Example:
        >>> visible("cat.jpg"), visible("._cat.jpg"), visible("__MACOSX")
        (True, False, False)
    """
    last = os.path.basename(os.fsdecode(name))
    return not last.startswith(".") and last.lower() not in _SYSTEM_NAMES


def has_suffix(path: str | os.PathLike[str], suffixes: Collection[str]) -> bool:
    """Returns whether a file's name ends in one of `suffixes`, in capitals or not."""
    return os.path.splitext(os.fsdecode(path))[1].lower() in suffixes


def list_files(
    folder: str | os.PathLike[str],
    suffixes: Collection[str] = IMAGE_SUFFIXES,
    recursive: bool = False,
) -> list[Path]:
    """Lists the visible files of a folder, sorted by path.

    Links are followed, each folder is read once however many links lead to it, so
    a link to a folder above does no harm. A link that leads nowhere is listed: it
    is a missing image, which whoever opens it will name.

    Args:
        folder: where to look; it may itself be hidden.
        suffixes: endings to take, in small letters; none takes every file.
        recursive: look in the visible folders below, too.

    Returns:
        Paths that begin with `folder`.

    Raises:
        OSError: if the folder or one below can't be read: what is missing would
            otherwise be missing in silence.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("b.JPG", "a.png", "._a.png", "notes.txt"):
        ...     _ = (folder / name).write_bytes(b"")
        >>> [path.name for path in list_files(folder)]
        ['a.png', 'b.JPG']
    """
    found: list[Path] = []
    read: set[tuple[int, int]] = set()
    waiting = [os.fspath(folder)]
    linked: list[str] = []
    while waiting or linked:
        # Real folders first: an image is known by its own path, not by a link's.
        place = waiting.pop() if waiting else linked.pop(0)
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in read:
            continue
        read.add((status.st_dev, status.st_ino))
        for entry in sorted(_entries(place), key=lambda entry: entry.name):
            if not os.path.isdir(entry.path):  # no error for a link to itself
                if not suffixes or has_suffix(entry.name, suffixes):
                    found.append(Path(entry.path))
            elif recursive:
                (linked if entry.is_symlink() else waiting).append(entry.path)
    return sorted(found)


def list_classes(
    root: str | os.PathLike[str], suffixes: Collection[str] = IMAGE_SUFFIXES
) -> dict[str, list[Path]]:
    """Lists the files of folders that are named after their class.

    Args:
        root: holds one folder for each class.
        suffixes: endings to take, in small letters.

    Returns:
        Sorted names of the visible folders, and the sorted files in each. A folder
        without files is there, with an empty list, and a warning names it.

    Raises:
        OSError: if a folder can't be read.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> for name in ("owl", "crow", "__MACOSX"):
        ...     (root / name).mkdir()
        ...     _ = (root / name / "1.jpg").write_bytes(b"")
        >>> list(list_classes(root))
        ['crow', 'owl']
    """
    folders = sorted(
        entry.name for entry in _entries(root) if os.path.isdir(entry.path)
    )
    classes = {name: list_files(Path(root, name), suffixes) for name in folders}
    empty = [name for name, files in classes.items() if not files]
    if empty and len(empty) < len(classes):
        names = ", ".join(map(repr, empty[:5])) + (", ..." if len(empty) > 5 else "")
        warnings.warn(
            f"{len(empty)} of {len(classes)} class folders in {root} hold no file "
            f"that ends in {', '.join(suffixes)}: {names}. They count as classes "
            "without samples; if they are none, move them elsewhere.",
            stacklevel=3,
        )
    return classes


def _entries(folder: str | os.PathLike[str]) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from (entry for entry in entries if visible(entry.name))
