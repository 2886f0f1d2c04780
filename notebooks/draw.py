"""Makes `notebooks/drawings/` from the emoji data: a folder a kind, a file a drawing.

    python -m notebooks.draw --data data/emoji

The drawings are of the vendor that no bundled preset was trained on, 72 pixels wide,
with transparency. Which ones: for each kind the first by a hash of their names, so
that nobody chose those that a model gets right.
"""

import argparse
import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

DRAWINGS = Path(__file__).parent / "drawings"
MOST_OF_A_KIND = 32
KINDS = {  # subgroups of the emoji standard
    "animal": ("animal-mammal", "animal-bird", "animal-marine", "animal-bug"),
    "clothing": ("clothing",),
    "food": ("food-fruit", "food-vegetable", "food-prepared", "food-sweet", "drink"),
    "plant": ("plant-flower", "plant-other"),
    "thing": ("musical-instrument", "household", "tool"),
    "transport": ("transport-ground", "transport-air", "transport-water"),
}


def select(records: Sequence[dict[str, str]]) -> list[tuple[str, dict[str, str]]]:
    """Returns (kind, record) of the drawings to be kept, in the order of their names.

    Args:
        records: of all drawings, with `label` and `subgroup`.
    """
    chosen: list[tuple[str, dict[str, str]]] = []
    for kind, subgroups in KINDS.items():
        # Names of other letters would not be the same in all file systems.
        of_kind = [
            record
            for record in records
            if record["subgroup"] in subgroups and record["label"].isascii()
        ]
        of_kind.sort(key=lambda r: hashlib.sha256(r["label"].encode()).digest())
        chosen += [(kind, record) for record in of_kind[:MOST_OF_A_KIND]]
    return sorted(chosen, key=lambda pair: (pair[0], pair[1]["label"]))


def draw(shard: Path, output: Path) -> int:
    """Writes the drawings of a shard as PNG files; returns how many.

    Args:
        shard: a tar file of `KEY.json` beside `KEY.webp`.
        output: folder, made if missing.
    """
    with tarfile.open(shard) as tar:
        members = {
            member.name: tar.extractfile(member).read()  # type: ignore[union-attr]
            for member in tar
        }
    records = [json.loads(members[name]) for name in members if name.endswith(".json")]
    chosen = select(records)
    for kind, record in chosen:
        path = output / kind / f"{record['label'].replace(' ', '_')}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(io.BytesIO(members[f"{record['key']}.webp"])) as image:
            image.save(path, optimize=True)
    return len(chosen)


def main() -> None:
    """Parses the command line and writes the drawings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the emoji data")
    parser.add_argument("--output", type=Path, default=DRAWINGS)
    options = parser.parse_args()
    count = draw(options.data / "test-00000.tar", options.output)
    print(f"{count} drawings in {options.output}")


if __name__ == "__main__":
    main()
