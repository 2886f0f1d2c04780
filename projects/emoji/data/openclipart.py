"""Add the Open Clip Art Library's titled drawings to the training images.

Run ``python -m projects.emoji.data.openclipart --output DIR`` after ``prepare``,
into the same folder; it takes one or two minutes. The drawings come from many
hands: each is rendered in a process with a time and a memory limit.
"""

import argparse
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from projects.emoji.data.clip_art import (
    LEFT_OUT,
    PUBLIC_DOMAIN,
    ClipArt,
    clean_keywords,
    plain_words,
    read_clip_art,
    titles_of,
)
from projects.emoji.data.debian import DebianPackage, obtain_deb, read_deb
from projects.emoji.data.extra import (
    Sample,
    emoji_by_label,
    image_size,
    keep_distinct,
    keep_independent,
    read_concepts,
    replace_vendors,
    titled_record,
)
from projects.emoji.data.guarded_render import RenderError, render_guarded
from projects.emoji.data.heldout_words import HeldoutWords
from projects.emoji.data.packages import PackageError
from projects.emoji.data.shards import Record
from projects.emoji.data.table import Concept

PACKAGE = DebianPackage(
    "openclipart-svg",
    "1:0.18+dfsg-19",
    "989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5",
)
FOLDER = "./usr/share/openclipart/svg/"
VENDOR, LICENCE = "openclipart", "public domain dedication"
# Spirals, icon themes with the theme's title, swatches, flags, letters, cards.
SKIPPED = re.compile(
    r"shapes/stars/|computer/icons/|special/|signs_and_symbols/(flags|led)/"
    r"|recreation/games/cards/|computer/bb_"
)


def usable(
    members: Iterable[tuple[str, bytes]], dropped: Counter[str]
) -> list[ClipArt]:
    """Reads the drawings of the folders that show things, sorted by path."""
    drawings = []
    for path, data in sorted(members):
        if SKIPPED.match(path):
            dropped["kind of image"] += 1
            continue
        if any(fnmatchcase(path.lower(), name) for name in LEFT_OUT):
            dropped["left out by hand"] += 1
            continue
        try:
            drawing = read_clip_art(path, data)
        except (ValueError, LookupError):
            dropped["not well formed"] += 1
            continue
        if drawing.licence not in PUBLIC_DOMAIN:
            dropped["licence not stated"] += 1
        elif drawing.lettered:
            dropped["shows text, which depends on fonts"] += 1
        elif drawing.raster:
            dropped["shows a bitmap"] += 1
        else:
            drawings.append(drawing)
    return drawings


def describe(
    drawings: Sequence[ClipArt], concepts: Sequence[Concept], dropped: Counter[str]
) -> list[tuple[Record, str]]:
    """Returns record and document of each drawing that training may see."""
    heldout, emoji = HeldoutWords(concepts), emoji_by_label(concepts)
    english = {word for name in emoji for word in plain_words(name)}
    used: Counter[str] = Counter()
    described = []
    for drawing, title in zip(drawings, titles_of(drawings, english), strict=True):
        if title is None:
            dropped["no usable title"] += 1
            continue
        if "flag" in plain_words(" ".join((title, *drawing.keywords))):
            dropped["flag"] += 1
            continue
        # What the file is called and filed under may tell more than its title.
        about = (drawing.path, *drawing.keywords)
        if heldout.in_title(title) or any(map(heldout.in_text, about)):
            dropped["names a held-out concept"] += 1
            continue
        key = re.sub(r"[^a-z0-9]+", "-", drawing.path.removesuffix(".svg").lower())
        used[key] += 1
        if used[key] > 1:  # paths that differ in signs only
            key += f"-{used[key]}"
        keywords = clean_keywords(drawing, title)
        record = titled_record(title, keywords, VENDOR, key, "clip art", emoji)
        described.append((record, drawing.svg))
    return described


def prepare_clip_art(
    output: Path, members: Iterable[tuple[str, bytes]], workers: int = 2
) -> dict[str, Any]:
    """Renders and writes the drawings; returns the index of the shard set."""
    concepts, size = read_concepts(output), image_size(output)
    dropped: Counter[str] = Counter()
    described = describe(usable(members, dropped), concepts, dropped)
    images = render_guarded([svg for _, svg in described], size, workers)
    samples: list[Sample] = []
    for (record, _), image in zip(described, images, strict=True):
        if isinstance(image, RenderError):
            dropped[f"not rendered: {image}"] += 1
        else:
            samples.append((record, image))
    samples = keep_distinct(samples, dropped)
    samples, near = keep_independent(samples, output, dropped)
    about = {
        "package": PACKAGE.name,
        "version": PACKAGE.version,
        "sha256": PACKAGE.sha256,
        "licence": LICENCE,
        "samples": len(samples),
        "concepts": len({record["label"].lower() for record, _ in samples}),
        "dropped": dict(dropped),
        "near_copies": near,
    }
    return replace_vendors(output, samples, {VENDOR: about})


def main(arguments: Sequence[str] | None = None) -> None:
    """Parses the command line and writes the drawings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=None)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)
    cache = options.cache or options.output / "cache"
    try:
        members = read_deb(
            obtain_deb(PACKAGE, cache), FOLDER, lambda name: name.endswith(".svg")
        )
        index = prepare_clip_art(options.output, members, options.workers)
    except PackageError as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    print(index["vendors"][VENDOR])
    print({k: index[k] for k in ("samples", "emoji_concepts", "other_concepts")})


if __name__ == "__main__":
    main()
