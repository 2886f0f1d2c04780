"""Add further emoji vendors and colour icons to the training images.

Run ``python -m projects.emoji.data.color_icons --output DIR`` after ``prepare``,
into the same folder; it takes under a minute.
"""

import argparse
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from projects.emoji.data.extra import (
    SPLIT,
    Sample,
    emoji_by_label,
    image_size,
    keep_distinct,
    keep_independent,
    read_concepts,
    replace_vendors,
    titled_record,
)
from projects.emoji.data.extra_vendors import join_vendor
from projects.emoji.data.heldout_words import HeldoutWords
from projects.emoji.data.icons import IconSet
from projects.emoji.data.packages import (
    EXTRA_LIST,
    Package,
    PackageError,
    load_packages,
    obtain,
    read_members,
)
from projects.emoji.data.prepare import record_of
from projects.emoji.data.render import render_all
from projects.emoji.data.shards import Record
from projects.emoji.data.table import Concept

Described = list[tuple[Record, str]]  # records and SVG documents


def emoji_images(
    package: Package,
    icons: IconSet,
    concepts: Sequence[Concept],
    dropped: Counter[str],
) -> Described:
    """Describes a vendor's drawings of the concepts that training may see."""
    vendor = str(package.vendor)
    described: Described = []
    for concept, number, icon in join_vendor(icons, vendor, concepts):
        if concepts[concept].heldout:
            dropped["held-out concept"] += 1
        elif concepts[concept].is_flag:
            dropped["flag"] += 1
        else:
            record = record_of(concepts[concept], vendor, package.role)
            record["split"] = SPLIT
            if number > 1:
                record["key"] += f"-{number}"
            described.append((record, icon.to_svg()))
    return described


def icon_title(name: str) -> str | None:
    """Turns an icon's name to words, without its number; None for a brand.

    >>> icon_title("aircraft-hot-air-balloon-2")
    'aircraft hot air balloon'
    """
    words = [word for word in name.split("-") if not word.isdigit()]
    if "logo" in words or not any(re.search("[a-z]{3}", word) for word in words):
        return None
    return " ".join(words)


def icon_images(
    package: Package,
    icons: IconSet,
    concepts: Sequence[Concept],
    dropped: Counter[str],
) -> Described:
    """Describes the icons whose names hold nothing that is held out."""
    heldout, emoji = HeldoutWords(concepts), emoji_by_label(concepts)
    described: Described = []
    for name in sorted(icons.icons):
        title = icon_title(name)
        if title is None:
            dropped["brand or no words"] += 1
        elif heldout.in_title(title):
            dropped["names a held-out concept"] += 1
        else:
            record = titled_record(title, (), str(package.vendor), name, "icons", emoji)
            described.append((record, icons.icon(name).to_svg()))
    return described


def without_left_out(
    icons: IconSet, package: Package, dropped: Counter[str]
) -> IconSet:
    """Leaves out what the package list names: checked by eye on contact sheets."""
    kept = {
        name: data
        for name, data in icons.icons.items()
        if not any(fnmatchcase(name, pattern) for pattern in package.left_out)
    }
    dropped["left out by hand"] = len(icons.icons) - len(kept)
    return replace(icons, icons=kept)


def describe_package(
    package: Package, samples: Sequence[Sample], dropped: Counter[str], near: Any
) -> dict[str, Any]:
    """Returns what the index says of a vendor."""
    return {
        "package": package.name,
        "version": package.version,
        "sha512": package.sha512,
        "licence": package.licence,
        "samples": len(samples),
        "concepts": len({record["label"].lower() for record, _ in samples}),
        "dropped": dict(dropped),
        "near_copies": near,
    }


def prepare_icons(
    output: Path,
    packages: Sequence[Package],
    members: Mapping[str, Mapping[str, bytes]],
    workers: int = 2,
) -> dict[str, Any]:
    """Renders and writes the images of the packages; returns the index."""
    concepts, size = read_concepts(output), image_size(output)
    everything: list[Sample] = []
    about: dict[str, dict[str, Any]] = {}
    for package in packages:
        dropped: Counter[str] = Counter()
        icons = IconSet.from_members(members[package.name])
        icons = without_left_out(icons, package, dropped)
        describe = emoji_images if package.role == "train" else icon_images
        described = describe(package, icons, concepts, dropped)
        images = render_all([svg for _, svg in described], size, workers)
        samples = list(zip((record for record, _ in described), images, strict=True))
        samples = keep_distinct(samples, dropped)
        samples, near = keep_independent(samples, output, dropped)
        about[str(package.vendor)] = describe_package(package, samples, dropped, near)
        everything += samples
    return replace_vendors(output, everything, about)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parses the command line and writes the images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=None)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)
    cache = options.cache or options.output / "cache"
    packages = [p for p in load_packages(EXTRA_LIST) if p.role != "test"]
    try:
        members = {p.name: read_members(obtain(p, cache), p.members) for p in packages}
    except PackageError as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    index = prepare_icons(options.output, packages, members, options.workers)
    for package in packages:
        print(package.vendor, index["vendors"][package.vendor])
    print({k: index[k] for k in ("samples", "emoji_concepts", "other_concepts")})


if __name__ == "__main__":
    main()
