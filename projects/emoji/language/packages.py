"""Fonts and words of pinned Debian packages, unpacked beside the other data."""

import json
from dataclasses import dataclass
from pathlib import Path

from keras_pe.files import write_atomically, write_directory
from projects.emoji.data.debian import DebianPackage, obtain_deb, read_deb

LIST = Path(__file__).with_name("packages.json")
FONT_FOLDER, WORD_FOLDER = "./usr/share/fonts/", "./usr/share/dict/scowl/"
ENDINGS = (".ttf", ".otf")
# The commonest words of the list, some forty thousand: its sizes 10, 20 and 35.
WORD_LISTS = ("english-words.10", "english-words.20", "english-words.35")
# Draws every letter as a key of a keyboard.
LEFT_OUT = ("LinBiolinum_K.otf",)


@dataclass(frozen=True)
class Listed:
    """A package of the list.

    Attributes:
        package: what is fetched.
        role: "train" or "test" for fonts, "words" for the words.
        licence: of what is taken from it.
    """

    package: DebianPackage
    role: str
    licence: str


def read_list() -> list[Listed]:
    """Reads the committed list of packages.

    No design is on both sides: what derives from one family (Carlito from Lato) plays
    the same role.
    """
    table = json.loads(LIST.read_text(encoding="utf-8"))
    return [
        Listed(
            DebianPackage(name, entry["version"], entry["sha256"]),
            entry["role"],
            entry["licence"],
        )
        for name, entry in table.items()
    ]


def unpack_fonts(target: Path, cache: Path, listed: list[Listed]) -> None:
    """Writes the fonts of packages to a folder, one folder for each role and package.

    Args:
        target: the folder; one that is there is replaced.
        cache: where packages are kept; what it lacks is downloaded.
        listed: the packages.
    """
    with write_directory(target) as aside:
        for one in listed:
            if one.role == "words":
                continue
            folder = aside / one.role / one.package.name
            folder.mkdir(parents=True)
            path = obtain_deb(one.package, cache)
            for name, content in read_deb(path, FONT_FOLDER, _is_font):
                (folder / name.rpartition("/")[2]).write_bytes(content)


def _is_font(name: str) -> bool:
    return name.lower().endswith(ENDINGS) and not name.endswith(LEFT_OUT)


def unpack_words(target: Path, cache: Path, listed: list[Listed]) -> None:
    """Writes the words of the package as one list, one word a line."""
    (package,) = (one.package for one in listed if one.role == "words")
    files = dict(
        read_deb(obtain_deb(package, cache), WORD_FOLDER, WORD_LISTS.__contains__)
    )
    write_atomically(target, b"".join(files[name] for name in WORD_LISTS))
