"""Build the emoji shards: fetch, check, join, render, write.

Run ``python -m projects.emoji.data.prepare --output DIR``.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from keras_pe.files import write_atomically
from projects.emoji.data.icons import IconSet, join
from projects.emoji.data.packages import (
    Package,
    PackageError,
    load_packages,
    obtain,
    read_members,
)
from projects.emoji.data.render import render_all
from projects.emoji.data.shards import (
    Record,
    to_json_bytes,
    write_shards,
)
from projects.emoji.data.splits import split_of, unit_hash
from projects.emoji.data.table import Concept, table_from_members

SPLITS = ("train", "val_seen", "heldout", "test")


def record_of(concept: Concept, vendor: str, role: str) -> Record:
    """Describes one image, as it is stored beside the pixels."""
    record = concept.to_json()
    del record["vendors"]
    record["concept"] = record.pop("id")
    record["vendor"] = vendor
    record["key"] = f"{vendor}_{concept.hexcode.lower()}"
    record["split"] = split_of(role, concept.heldout, vendor, concept.hexcode)
    return record


def collect(
    packages: Sequence[Package], members: dict[str, dict[str, bytes]]
) -> tuple[list[Concept], list[Record], list[str]]:
    """Joins all vendors to the concept table; returns table, records and SVGs."""
    concepts = table_from_members(members["emojibase-data"], members["emojilib"])
    records: list[Record] = []
    documents: list[str] = []
    for package in packages:
        if package.vendor is None:
            continue
        icons = join(IconSet.from_members(members[package.name]), concepts)
        for number, icon in sorted(icons.items()):
            concepts[number].vendors.append(package.vendor)
            records.append(record_of(concepts[number], package.vendor, package.role))
            documents.append(icon.to_svg())
    return concepts, records, documents


def clashes(samples: Sequence[tuple[Record, bytes]]) -> list[tuple[str, str]]:
    """Finds held-out images that equal a training image, pixel by pixel."""
    seen = {p: r["key"] for r, p in samples if r["split"] in ("train", "val_seen")}
    return [
        (record["key"], seen[image])
        for record, image in samples
        if record["split"] == "heldout" and image in seen
    ]


def write_dataset(
    output: Path,
    concepts: Sequence[Concept],
    samples: Sequence[tuple[Record, bytes]],
    packages: Sequence[Package],
    size: int,
) -> dict[str, Any]:
    """Writes shards, the concept table and, last of all, the index."""
    equal = clashes(samples)
    if equal:
        raise ValueError(f"held-out images equal training images: {equal[:5]}")
    shards = []
    for split in SPLITS:
        part = [sample for sample in samples if sample[0]["split"] == split]
        # A fixed shuffle, so that every shard mixes vendors and concepts.
        part.sort(key=lambda sample: unit_hash("emoji-order-v1", sample[0]["key"]))
        shards += write_shards(output, split, part)
    table = [concept.to_json() for concept in concepts]
    write_atomically(output / "concepts.json", to_json_bytes(table, indent=1))
    index = {
        "size": size,
        "concepts": len(concepts),
        "families": len({concept.family for concept in concepts}),
        "heldout_concepts": sum(concept.heldout for concept in concepts),
        "heldout_families": len({c.family for c in concepts if c.heldout}),
        "samples": dict(Counter(record["split"] for record, _ in samples)),
        "samples_by_vendor": _by_vendor(samples),
        "shards": shards,
        "packages": {
            p.name: {"version": p.version, "licence": p.licence, "sha512": p.sha512}
            for p in packages
        },
        "renderer": {name: version(name) for name in ("resvg_py", "pillow")},
    }
    write_atomically(output / "index.json", to_json_bytes(index, indent=1))
    return index


def _by_vendor(samples: Sequence[tuple[Record, bytes]]) -> dict[str, dict[str, int]]:
    """Counts images by vendor and split."""
    counts: dict[str, Counter[str]] = {}
    for record, _ in samples:
        counts.setdefault(record["vendor"], Counter())[record["split"]] += 1
    return {vendor: dict(counter) for vendor, counter in counts.items()}


def prepare(
    output: Path, cache: Path, size: int = 72, workers: int = 2
) -> dict[str, Any]:
    """Builds the whole data set and returns its index."""
    packages = load_packages()
    members = {
        package.name: read_members(obtain(package, cache), package.members)
        for package in packages
    }
    concepts, records, documents = collect(packages, members)
    images = render_all(documents, size, workers)
    samples = list(zip(records, images, strict=True))
    return write_dataset(output, concepts, samples, packages, size)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parses the command line and builds the data set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=None)
    parser.add_argument("--size", type=int, default=72)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)
    cache = options.cache or options.output / "cache"
    try:
        index = prepare(options.output, cache, options.size, options.workers)
    except PackageError as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    print("samples:", index["samples"])
    for vendor, counts in index["samples_by_vendor"].items():
        print(f"  {vendor}: {counts}")


if __name__ == "__main__":
    main()
