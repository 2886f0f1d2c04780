"""Write the photograph test set: cut-out photographs among Tux Paint stamps.

Run ``python -m projects.emoji.data.tuxpaint --output DIR`` after ``prepare``,
into the same folder. The stamps stay in the Debian package and the shards; no
image is committed.
"""

import argparse
import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from keras_pe.files import write_atomically
from projects.emoji.data.packages import PackageError
from projects.emoji.data.render import encode_webp
from projects.emoji.data.shards import (
    Record,
    to_json_bytes,
    write_shards,
)
from projects.emoji.data.stamps import PACKAGE, Stamp, read_stamps

LIST = Path(__file__).with_name("tuxpaint_photographs.json")
SHARDS, SPLIT, VENDOR = "tuxpaint", "photo", "tuxpaint"


def fit_square(image: Image.Image, size: int) -> Image.Image:
    """Crops to what is visible and scales it, unstretched, onto a clear square."""
    image = image.convert("RGBA")
    image = image.crop(image.getchannel("A").getbbox())
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    # Premultiplied, so that hidden colours do not bleed into the edge.
    small = image.convert("RGBa").resize((width, height), Image.Resampling.LANCZOS)
    canvas = Image.new("RGBA", (size, size))
    canvas.paste(small.convert("RGBA"), ((size - width) // 2, (size - height) // 2))
    return canvas


def photo_record(stamp: Stamp, concept: Mapping[str, Any]) -> Record:
    """Describes a stamp like an emoji image, with its own English sentence."""
    record = {k: v for k, v in concept.items() if k not in ("id", "vendors")}
    stem = re.sub(r"[^a-z0-9]+", "-", stamp.name.removesuffix(".png").lower())
    return record | {
        "concept": concept["id"],
        "key": f"{VENDOR}_{stem}",
        "vendor": VENDOR,
        "split": SPLIT,
        "description": stamp.description,
    }


def prepare_photographs(output: Path, cache: Path) -> dict[str, Any]:
    """Writes the shards and ``tuxpaint.json``; returns the latter."""
    listed: dict[str, str] = json.loads(LIST.read_text(encoding="utf-8"))
    table = json.loads((output / "concepts.json").read_text(encoding="utf-8"))
    size = json.loads((output / "index.json").read_text(encoding="utf-8"))["size"]
    concepts = {concept["hexcode"]: concept for concept in table}
    stamps = read_stamps(cache, listed.__contains__)
    missing = listed.keys() - {stamp.name for stamp in stamps}
    if missing:
        raise PackageError(f"The package lacks {sorted(missing)[:3]}.")
    samples = [
        (
            photo_record(stamp, concepts[listed[stamp.name]]),
            encode_webp(fit_square(stamp.image, size)),
        )
        for stamp in stamps
    ]
    index = {
        "package": dataclasses.asdict(PACKAGE),
        "licence": "GPL-2",
        "size": size,
        "samples": len(samples),
        "concepts": len({record["concept"] for record, _ in samples}),
        "heldout_samples": sum(record["heldout"] for record, _ in samples),
        "shards": write_shards(output, SHARDS, samples),
    }
    write_atomically(output / "tuxpaint.json", to_json_bytes(index, indent=1))
    return index


def main(arguments: Sequence[str] | None = None) -> None:
    """Parses the command line and writes the photographs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=None)
    options = parser.parse_args(arguments)
    try:
        index = prepare_photographs(
            options.output, options.cache or options.output / "cache"
        )
    except PackageError as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    print({k: index[k] for k in ("samples", "concepts", "heldout_samples")})


if __name__ == "__main__":
    main()
