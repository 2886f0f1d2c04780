"""The Tux Paint stamps, some of them, read without unpacking to disk."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from projects.emoji.data.debian import DebianPackage, obtain_deb, read_deb

PACKAGE = DebianPackage(
    "tuxpaint-stamps-default",
    "2022.06.04-1",
    "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
)
FOLDER = "./usr/share/tuxpaint/stamps/"


@dataclass(frozen=True)
class Stamp:
    """An image with the English line that describes it."""

    name: str
    image: Image.Image
    description: str


def read_stamps(cache: Path, wanted: Callable[[str], bool]) -> list[Stamp]:
    """Reads the wanted PNG stamps that have a description, sorted by name.

    The package is downloaded when the cache lacks it.
    """

    def needed(name: str) -> bool:
        stem, _, kind = name.rpartition(".")
        return kind in ("png", "txt") and wanted(f"{stem}.png")

    files = dict(read_deb(obtain_deb(PACKAGE, cache), FOLDER, needed))
    stamps = []
    for name in sorted(name for name in files if name.endswith(".png")):
        text = files.get(f"{name.removesuffix('.png')}.txt")
        if text is not None:
            description = text.decode("utf-8").partition("\n")[0].strip()
            with Image.open(io.BytesIO(files[name])) as image:
                stamps.append(Stamp(name, image.convert("RGBA"), description))
    return stamps
