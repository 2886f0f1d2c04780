"""Write the rendition test set: Fluent emoji modelled in three dimensions.

Run ``python -m projects.emoji.data.rendition --output DIR`` after ``prepare``,
into the same folder. The images come from the vendor of the test split, so the
two are not independent; neither is for training.
"""

import argparse
import io
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image, ImageOps

from keras_pe.files import write_atomically
from projects.emoji.data.concepts import normalise_hexcode
from projects.emoji.data.extra import Sample, image_size, read_concepts
from projects.emoji.data.packages import (
    EXTRA_LIST,
    Package,
    PackageError,
    load_packages,
    obtain,
    read_members,
)
from projects.emoji.data.prepare import record_of
from projects.emoji.data.render import encode_webp
from projects.emoji.data.shards import to_json_bytes, write_shards

SPLIT, VENDOR = "rendition", "fluent-emoji-3d"


def shrink(data: bytes, size: int) -> bytes:
    """Scales an image, margins included, onto a square like the others'."""
    with Image.open(io.BytesIO(data)) as image:
        square = (max(image.size),) * 2
        # A few are a little higher than wide: padded, not stretched.
        padded = ImageOps.pad(image.convert("RGBA"), square, color=(0, 0, 0, 0))
    # Premultiplied, so that hidden colours do not bleed into the edge.
    small = padded.convert("RGBa").resize((size, size), Image.Resampling.LANCZOS)
    return encode_webp(small.convert("RGBA"))


def prepare_rendition(
    output: Path, package: Package, members: Mapping[str, bytes]
) -> dict[str, Any]:
    """Writes the shards and ``rendition.json``; returns the latter."""
    concepts, size = read_concepts(output), image_size(output)
    files = {
        normalise_hexcode(PurePosixPath(name).stem): data
        for name, data in members.items()
    }
    samples: list[Sample] = []
    for concept in concepts:
        if not concept.is_flag and concept.hexcode in files:
            record = record_of(concept, VENDOR, package.role) | {"split": SPLIT}
            samples.append((record, shrink(files[concept.hexcode], size)))
    records = [record for record, _ in samples]
    index = {
        "package": {"name": package.name, "version": package.version},
        "sha512": package.sha512,
        "licence": package.licence,
        "size": size,
        "samples": len(samples),
        "symbols": sum(record["is_symbol"] for record in records),
        "heldout_samples": sum(record["heldout"] for record in records),
        "shards": write_shards(output, SPLIT, samples),
    }
    write_atomically(output / "rendition.json", to_json_bytes(index, indent=1))
    return index


def main(arguments: Sequence[str] | None = None) -> None:
    """Parses the command line and writes the test set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=None)
    options = parser.parse_args(arguments)
    cache = options.cache or options.output / "cache"
    (package,) = (p for p in load_packages(EXTRA_LIST) if p.vendor == VENDOR)
    try:
        members = read_members(obtain(package, cache), package.members)
        index = prepare_rendition(options.output, package, members)
    except PackageError as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    print({k: index[k] for k in ("samples", "symbols", "heldout_samples")})


if __name__ == "__main__":
    main()
