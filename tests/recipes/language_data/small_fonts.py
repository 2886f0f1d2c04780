"""Fonts that come with matplotlib, and a list of words."""

from pathlib import Path

import matplotlib

from recipes.language_data.fonts import read_face

FOLDER = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
WORDS = [
    f"{first}{vowel}{last}"
    for first in "bcdfglmnprst"
    for vowel in "aeio"
    for last in ("n", "t", "sk", "ll")
]


def faces():
    """DejaVu Sans to train with, DejaVu Serif to keep back."""
    names = {"train": ("DejaVuSans", "DejaVuSans-Bold"), "test": ("DejaVuSerif",)}
    return {
        part: [read_face(FOLDER / f"{name}.ttf") for name in those]
        for part, those in names.items()
    }
