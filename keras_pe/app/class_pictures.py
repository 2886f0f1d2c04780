"""Pictures in folders of their class: of this machine, or in a zip that was sent."""

import dataclasses
import os
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from keras_pe.app.allowed_folder import AllowedFolder
from keras_pe.evaluation.datasets import read_image_folder
from keras_pe.preprocessing.media_folders import IMAGE_SUFFIXES, has_suffix, visible
from keras_pe.printable_text import printable

# What a zip may hold: more belongs on the command line, `keras-pe probe`.
MOST_FILES = 5_000
MOST_BYTES = 256 * 2**20
PIECE = 1 << 20
USUAL = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclasses.dataclass(frozen=True)
class ClassPictures:
    """Pictures and their classes.

    Attributes:
        paths: the files.
        names: what to call each, such as `owl/3.png`.
        labels: the class of each, its place in `class_names`.
        class_names: the classes.
    """

    paths: list[Path]
    names: list[str]
    labels: list[int]
    class_names: list[str]


def folder_classes(allowed: AllowedFolder, folder: Path) -> ClassPictures:
    """Returns the pictures of a folder that holds one folder a class.

    Args:
        allowed: what may be read.
        folder: from `allowed.below`.

    Raises:
        ValueError: if there are no pictures in folders in it.
    """
    try:
        found = read_image_folder(folder)
    except FileNotFoundError as error:
        raise ValueError(_expected(f"'{printable(folder.name)}'")) from error
    kept = [n for n, path in enumerate(found.samples) if allowed.has(Path(path))]
    paths = [Path(found.samples[number]) for number in kept]
    return _of_classes(
        paths,
        [found.class_names[found.labels[number]] for number in kept],
        [f"{path.parent.name}/{path.name}" for path in paths],
        f"'{printable(folder.name)}'",
    )


def zip_classes(archive: str | os.PathLike[str], directory: Path) -> ClassPictures:
    """Unpacks the pictures of a zip; the folder that a picture lies in is its class.

    Files get names of our own, so that no name of the archive leads anywhere, and
    what is no picture stays inside.

    Args:
        archive: the zip.
        directory: an empty folder, which gets the files.

    Returns:
        The pictures, in the order of their names.

    Raises:
        ValueError: if it is no zip, is damaged, encrypted or too large, or holds no
            pictures in folders.
    """
    name = printable(Path(archive).name)
    try:
        with zipfile.ZipFile(archive) as opened:
            members = _members(opened, name)
            left = MOST_BYTES
            paths = []
            for number, member in enumerate(members):
                suffix = PurePosixPath(member.filename).suffix.lower()
                path = directory / f"{number:05}{suffix}"
                left -= _unpack(opened, member, path, left, name)
                paths.append(path)
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error) as error:
        raise ValueError(
            f"{name} is no sound zip file: {error}. Make it anew, as an ordinary zip."
        ) from error
    places = [PurePosixPath(member.filename) for member in members]
    return _of_classes(
        paths,
        [place.parent.name.replace("_", " ") for place in places],
        [f"{place.parent.name}/{place.name}" for place in places],
        name,
    )


def _members(opened: zipfile.ZipFile, name: str) -> list[zipfile.ZipInfo]:
    """Returns the pictures of an archive that lie in folders."""
    members = [
        member
        for member in opened.infolist()
        if not member.is_dir()
        and has_suffix(member.filename, IMAGE_SUFFIXES)
        and all(visible(part) for part in PurePosixPath(member.filename).parts)
        and PurePosixPath(member.filename).parent.name
    ]
    if len(members) > MOST_FILES:
        raise ValueError(
            f"{name} holds {len(members):,} pictures; this page takes at most "
            f"{MOST_FILES:,}. Use fewer, or `keras-pe probe` on the folder itself."
        )
    if any(member.flag_bits & 1 for member in members):
        raise ValueError(f"{name} is encrypted. Make it anew, without a password.")
    if any(member.compress_type not in USUAL for member in members):
        raise ValueError(f"{name} is compressed in an unusual way. Make it anew.")
    return sorted(members, key=lambda member: member.filename)


def _unpack(
    opened: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, left: int, name: str
) -> int:
    """Writes a member to a file; returns its bytes, whatever the archive says."""
    with opened.open(member) as source, open(path, "wb") as target:
        size = 0
        while piece := source.read(min(PIECE, left - size + 1)):
            size += len(piece)
            if size > left:
                raise ValueError(
                    f"{name} unpacks to more than {MOST_BYTES >> 20} MB. Use fewer or "
                    f"smaller pictures, or `keras-pe probe` on the folder itself."
                )
            target.write(piece)
    return size


def _of_classes(
    paths: list[Path], classes: list[str], names: list[str], where: str
) -> ClassPictures:
    found = sorted(set(classes))
    if len(found) < 2:
        raise ValueError(_expected(where))
    labels = [found.index(name) for name in classes]
    return ClassPictures(paths, [printable(name) for name in names], labels, found)


def _expected(where: str) -> str:
    return (
        f"{where} holds no pictures in two or more folders. Expected one folder a "
        f"class, with its pictures in it: flowers/rose/1.jpg, flowers/tulip/2.jpg."
    )
