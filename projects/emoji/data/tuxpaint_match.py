"""Propose photographs among the Tux Paint stamps, for checking by eye.

``python -m projects.emoji.data.tuxpaint_match --data DIR`` prints candidates
that ``tuxpaint_photographs.json`` does not list yet. The list itself was made
from such candidates: every image in it was looked at on a contact sheet.
"""

import argparse
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from projects.emoji.data.stamps import read_stamps

_SKIPPED_FOLDERS = {"symbols", "cartoon", "flags", "roadsigns"}


def head_noun(description: str) -> str:
    """Returns what the first clause of an English description names.

    >>> head_noun("A very small pumpkin.")
    'pumpkin'
    >>> head_noun("A pair of cherries.")
    'cherries'
    """
    clause = re.split(r"[.,!?;:(—]| with | in | from | that ", description)[0]
    clause = clause.lower().replace("“", "").replace("”", "").strip()
    return clause.split(" of ")[-1].split(" ")[-1]


def is_photo_like(image: Image.Image) -> bool:
    """Guesses from its colours whether a cut-out is a photograph.

    A photograph has many colours for its size and few flat stretches; small
    or nearly empty images are not considered.
    """
    pixels = np.asarray(image.convert("RGBA")).astype(np.int64)
    solid = pixels[..., 3] > 200
    if solid.sum() < 400:
        return False
    codes = pixels[..., :3] @ np.array([65536, 256, 1])
    variety = len(np.unique(codes[solid])) / solid.sum()
    pairs = solid[:, 1:] & solid[:, :-1]
    flat = (codes[:, 1:] == codes[:, :-1])[pairs].mean() if pairs.any() else 1.0
    return bool(variety > 0.15 and flat < 0.25)


def match(description: str, concepts: Iterable[Mapping[str, Any]]) -> list[str]:
    """Returns hexcodes of concepts whose label, or else a word, is the noun."""
    noun = head_noun(description)
    usable = [c for c in concepts if not (c["is_flag"] or c["is_symbol"])]
    exact = [c["hexcode"] for c in usable if c["label"].lower() == noun]
    if exact:
        return exact
    return [c["hexcode"] for c in usable if noun in (*c["tags"], *c["keywords"])]


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the candidates that are not in the committed list."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=None)
    options = parser.parse_args(arguments)
    concepts = json.loads((options.data / "concepts.json").read_text("utf-8"))
    listed = json.loads(
        Path(__file__).with_name("tuxpaint_photographs.json").read_text("utf-8")
    )
    stamps = read_stamps(
        options.cache or options.data / "cache",
        lambda name: not _SKIPPED_FOLDERS & set(name.split("/")),
    )
    for stamp in stamps:
        if stamp.name not in listed and is_photo_like(stamp.image):
            print(stamp.name, stamp.description, match(stamp.description, concepts))


if __name__ == "__main__":
    main()
