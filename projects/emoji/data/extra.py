"""The shard set ``extra_train``: images added to training by several commands.

Each command replaces the images of its own vendors and leaves the others as
they are, so the commands may run in any order and more than once. The shards of
``prepare`` are only read.
"""

import io
import json
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from keras_pe.files import write_atomically
from projects.emoji.data.floor import descriptors
from projects.emoji.data.shards import (
    Record,
    load_arrays,
    to_json_bytes,
    write_shards,
)
from projects.emoji.data.splits import unit_hash
from projects.emoji.data.table import Concept

SPLIT, INDEX = "extra_train", "extra.json"
FIRST_ID = 100_000  # concepts that are no emoji count from here
MAX_KEYWORDS = 12
LEAST_INK = 0.03  # thin outlines and pale drawings below it look like blank pages
Sample = tuple[Record, bytes]
SIDE, LIMIT = 24, 0.06  # of near copies: mean absolute difference on white, in [0, 1]


def read_concepts(directory: Path) -> list[Concept]:
    """Reads the concept table that ``prepare`` wrote."""
    text = (directory / "concepts.json").read_text(encoding="utf-8")
    return [Concept(**entry) for entry in json.loads(text)]


def image_size(directory: Path) -> int:
    """Returns the side of the images that ``prepare`` wrote."""
    text = (directory / "index.json").read_text(encoding="utf-8")
    return int(json.loads(text)["size"])


def emoji_by_label(concepts: Iterable[Concept]) -> dict[str, Concept]:
    """Maps lower-case labels of training concepts to them."""
    usable = (c for c in concepts if not (c.heldout or c.is_flag))
    return {concept.label.lower(): concept for concept in usable}


def titled_record(
    title: str,
    keywords: Iterable[str],
    vendor: str,
    key: str,
    group: str,
    emoji: Mapping[str, Concept],
) -> Record:
    """Describes a titled image like an emoji's.

    A title that is an emoji's label makes it an image of that concept. Others
    get their number, by title, when the shards are written.
    """
    words = [word for word in dict.fromkeys(keywords) if word != title]
    concept = emoji.get(title.lower()) or Concept(
        id=-1,
        hexcode="",
        label=title,
        tags=[],
        keywords=[],
        group=group,
        subgroup="",
        family="",
        heldout=False,
        is_flag=False,
        is_symbol=False,
    )
    record = concept.to_json()
    del record["vendors"]
    record["concept"] = record.pop("id")
    own = dict.fromkeys([*words[:MAX_KEYWORDS], *concept.keywords])
    return record | {
        "keywords": list(own),
        "vendor": vendor,
        "key": f"{vendor}_{key}",
        "split": SPLIT,
    }


def keep_distinct(samples: Iterable[Sample], dropped: Counter[str]) -> list[Sample]:
    """Leaves out images that equal an earlier one, and hardly visible ones."""
    seen: dict[bytes, Sample] = {}
    for sample in samples:
        if sample[1] in seen:
            dropped["equal image"] += 1
        elif ink(sample[1]) < LEAST_INK:
            dropped["hardly visible on white"] += 1
        else:
            seen[sample[1]] = sample
    return list(seen.values())


def keep_independent(
    samples: Sequence[Sample], directory: Path, dropped: Counter[str]
) -> tuple[list[Sample], dict[str, float]]:
    """Leaves out near copies of validation and test images of the same concept.

    Returns what is kept and, by split, the share of near copies among all
    samples whose concept the split holds.
    """
    shares: dict[str, float] = {}
    copies: set[int] = set()
    for split in ("test", "val_seen"):
        nearest = nearest_of_same_concept(samples, directory, split)
        near = {n for n, d in enumerate(nearest) if d is not None and d < LIMIT}
        shares[split] = round(
            len(near) / max(1, sum(d is not None for d in nearest)), 4
        )
        dropped[f"near copy of a {split} image"] += len(near - copies)
        copies |= near
    return [s for n, s in enumerate(samples) if n not in copies], shares


def replace_vendors(
    directory: Path, samples: Sequence[Sample], about: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Puts these vendors' images into the shard set; returns the new index.

    Args:
        directory: output of ``prepare``.
        samples: records and WebP images of the vendors in ``about``.
        about: by vendor, what the index says of it: package, licence, counts.
    """
    everything = [
        sample
        for sample in read_samples(sorted(directory.glob(f"{SPLIT}-[0-9]*.tar")))
        if sample[0]["vendor"] not in about
    ]
    everything += samples
    if repeated := _repeated(record["key"] for record, _ in everything):
        raise ValueError(f"keys that occur twice: {repeated[:5]}")
    # A fixed shuffle, so that every shard mixes vendors and concepts.
    everything.sort(key=lambda sample: unit_hash("emoji-order-v1", sample[0]["key"]))
    number_titles([record for record, _ in everything])
    shards = write_shards(directory, SPLIT, everything)
    path = directory / INDEX
    old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    counts = Counter(record["vendor"] for record, _ in everything)
    concepts = {record["concept"] for record, _ in everything}
    index = {
        "size": image_size(directory),
        "samples": len(everything),
        "samples_by_vendor": dict(counts),
        "emoji_concepts": sum(number < FIRST_ID for number in concepts),
        "other_concepts": sum(number >= FIRST_ID for number in concepts),
        "vendors": old.get("vendors", {}) | {v: dict(a) for v, a in about.items()},
        "shards": shards,
    }
    write_atomically(path, to_json_bytes(index, indent=1))
    return index


def number_titles(records: Sequence[Record]) -> None:
    """Gives each distinct title that is no emoji's label a number of its own."""
    others = [r for r in records if not 0 <= r["concept"] < FIRST_ID]
    titles = sorted({record["label"].lower() for record in others})
    numbers = {title: FIRST_ID + number for number, title in enumerate(titles)}
    for record in others:
        record["concept"] = numbers[record["label"].lower()]


def read_samples(paths: Iterable[Path]) -> Iterator[Sample]:
    """Yields records and images of shards as they are stored, undecoded."""
    for path in paths:
        members: dict[str, bytes] = {}
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                stream = archive.extractfile(member)
                assert stream is not None
                members[member.name] = stream.read()
        for name, data in members.items():
            if name.endswith(".json"):
                yield json.loads(data), members[name.removesuffix("json") + "webp"]


def _repeated(keys: Iterable[str]) -> list[str]:
    """Lists the keys that occur more than once."""
    return [key for key, count in Counter(keys).items() if count > 1]


# === Near copies of another set, pixel by pixel ===
def pixels_of(content: bytes) -> npt.NDArray[np.uint8]:
    """Decodes one WebP content to uint8 ``(size, size, 4)``."""
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGBA"), dtype=np.uint8)


def ink(image: bytes) -> float:
    """Returns the mean difference from a white page, in [0, 1]."""
    return float(1 - descriptors(pixels_of(image)[None], SIDE, "as drawn").mean())


def nearest_of_same_concept(
    samples: Sequence[tuple[Record, bytes]], directory: Path, split: str
) -> list[float | None]:
    """Returns each sample's least distance to the split's images of its concept.

    None where the split has no such image; flags, which all vendors draw
    alike, count like everything else.
    """
    gallery: dict[int, list[npt.NDArray[np.float32]]] = defaultdict(list)
    arrays, records = load_arrays(directory, split)
    for row, record in zip(descriptors(arrays, SIDE, "as drawn"), records, strict=True):
        gallery[record["concept"]].append(row)
    distances: list[float | None] = []
    for record, image in samples:
        others = gallery.get(record["concept"])
        if others is None:
            distances.append(None)
            continue
        row = descriptors(pixels_of(image)[None], SIDE, "as drawn")
        distances.append(float(np.abs(np.stack(others) - row).mean(axis=1).min()))
    return distances
