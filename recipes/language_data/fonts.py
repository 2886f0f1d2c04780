"""Read what fonts there are in a folder: family, letters, and how large they are."""

import dataclasses
import functools
import string
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

ENDINGS = (".ttf", ".otf", ".ttc")
MEASURED = 200  # point size at which letters are measured
# Fonts of symbols, and those that draw every letter large or reduced, are no use: what
# is written could not be told from what is seen.
NEEDED = string.ascii_letters + string.digits
UNLIKE = "abdeghnqr"  # letters whose small form is another shape than the large one
# Mean difference of coverage up to which two shapes are one. Small capitals have a
# median of 0.07, hairlines 0.09, what can be read 0.14 and more.
SAME = 0.1


class FontError(ValueError):
    """A font that can't be used, and why."""


@dataclasses.dataclass(frozen=True)
class Face:
    """One font file.

    Attributes:
        path: where it is.
        family: what its makers call all of its weights and slants together.
        style: what sets this one apart, such as "Bold Italic".
        letters: what it can draw.
        x_height: height of an x as a share of the point size.
    """

    path: Path
    family: str
    style: str
    letters: frozenset[str]
    x_height: float

    def draws(self, text: str) -> bool:
        """Tells whether there is a glyph for every sign; a space needs none."""
        return self.letters.issuperset(text.replace(" ", ""))

    def at(self, size: int) -> ImageFont.FreeTypeFont:
        """Returns the font at a size in pixels."""
        return _loaded(self.path, size)


@functools.lru_cache(maxsize=256)
def _loaded(path: Path, size: int) -> ImageFont.FreeTypeFont:
    # Not whichever engine is installed: pictures are to be the same anywhere.
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


def read_face(path: Path) -> Face:
    """Reads a font file.

    Raises:
        FontError: if it can't be read, or lacks letters or digits of its own.
        ImportError: if fontTools is not installed.
    """
    try:
        from fontTools.ttLib import TTFont, TTLibError
    except ModuleNotFoundError as error:
        raise ImportError(
            "Fonts are read with fontTools, which is not installed: pip install "
            "fonttools."
        ) from error
    try:
        with TTFont(path, lazy=True, fontNumber=0) as file:
            table, names = file.getBestCmap() or {}, file["name"]
            family = names.getBestFamilyName()
            style = names.getBestSubFamilyName()
        font = _loaded(path, MEASURED)
    except (TTLibError, OSError, KeyError, AssertionError) as error:
        raise FontError(f"can't be read: {error}") from error
    letters = frozenset(chr(code) for code in table)
    missing = [letter for letter in NEEDED if letter not in letters]
    if missing:
        raise FontError(f"has no glyph for {''.join(missing[:5])}")
    if not family:
        raise FontError("has no family name")
    for letter in NEEDED:  # a table may name glyphs that are empty
        if font.getmask(letter).getbbox() is None:
            raise FontError(f"draws nothing for {letter}")
    if float(np.median([_difference(font, letter) for letter in UNLIKE])) < SAME:
        raise FontError("draws small letters like large ones, or hardly anything")
    _, top, _, bottom = font.getbbox("x")
    return Face(path, family, style or "", letters, (bottom - top) / MEASURED)


def _difference(font: ImageFont.FreeTypeFont, letter: str) -> float:
    """Returns how much a small letter differs from its large one, sizes apart."""
    small, large = (_shape(font, sign) for sign in (letter, letter.upper()))
    return float(np.abs(small - large).mean())


def _shape(font: ImageFont.FreeTypeFont, letter: str) -> np.ndarray:
    image = Image.new("L", (2 * MEASURED, 2 * MEASURED))
    ImageDraw.Draw(image).text((MEASURED // 2, MEASURED // 4), letter, 255, font)
    small = image.crop(image.getbbox()).resize((24, 24), Image.Resampling.BOX)
    return np.asarray(small, "float32") / 255


def read_fonts(folder: Path) -> tuple[list[Face], dict[str, str]]:
    """Reads the fonts of a folder and of those in it.

    Args:
        folder: where they are.

    Returns:
        The faces, in the order of their paths, and why which file was refused.

    Raises:
        FileNotFoundError: if none can be used.
    """
    faces: list[Face] = []
    refused: dict[str, str] = {}
    paths = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in ENDINGS]
    for path in paths:
        try:
            faces.append(read_face(path))
        except FontError as error:
            refused[str(path.relative_to(folder))] = str(error)
    if not faces:
        raise FileNotFoundError(
            f"{folder}: none of {len(paths)} fonts can be used ({refused}). Give a "
            f"folder with files that end in {', '.join(ENDINGS)}."
        )
    return faces, refused


def families_of(faces: Sequence[Face]) -> dict[str, int]:
    """Returns how many faces each family has, sorted by name."""
    return dict(sorted(Counter(face.family for face in faces).items()))
