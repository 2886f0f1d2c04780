"""Write scenes of real artwork with exact masks, for semantic segmentation.

Run ``python -m projects.emoji.probing.scenes --data data/emoji
--output data/probing`` after the recipes of the emoji data; it takes about a minute.
Nothing is downloaded.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from projects.emoji.data.shards import load_arrays
from projects.emoji.data.splits import unit_hash
from projects.emoji.pairs import crop
from projects.emoji.probing.scene_classes import CLASS_NAMES, class_of
from projects.emoji.probing.scene_images import Drawing, Picker, compose_scene
from projects.emoji.probing.segmentation_set import (
    SegmentationSet,
    collect,
    load,
    save,
    split_path,
)

VALIDATION_SHARE = 0.15
LEAST_SOLID = 0.5  # below, a drawing is mostly translucent: its mask would be rim


@dataclass(frozen=True)
class Split:
    """Where the drawings of a split come from.

    Attributes:
        number: part of the seed; never changes.
        shards: split of the emoji data.
        scenes: how many are written.
        about: what the drawings are to the emoji model.
    """

    number: int
    shards: str
    scenes: int
    about: str


SPLITS = {
    "train": Split(0, "train", 1200, "drawings that the emoji model was trained on"),
    "validation": Split(
        1, "train", 300, "other drawings that the emoji model was trained on"
    ),
    "test_seen": Split(2, "val_seen", 300, "unseen drawings of the training vendors"),
    "test_unseen": Split(3, "test", 600, "drawings of the unseen test vendor"),
    "test_rendition": Split(
        4, "rendition", 300, "the test vendor's emoji modelled in three dimensions"
    ),
    "test_photographs": Split(5, "tuxpaint", 200, "photographs of Tux Paint's stamps"),
}


def load_scenes(directory: Path | str, split: str) -> SegmentationSet:
    """Reads the scenes of a split.

    Args:
        directory: what was given as ``--output``.
        split: "train", "validation", "test_seen", "test_unseen", ...
    """
    return load(split_path(directory, "scenes", split, list(SPLITS)))


def load_sources(
    data: Path, split: str
) -> tuple[list[Drawing], list[Image.Image], Counter[str]]:
    """Returns drawings of the classes, textures for backgrounds, and what was dropped.

    Training and validation share no drawing, and no two of one vendor's drawings of a
    family ("woman running", "man running"); nor does training share any with the
    drawings of ``test_seen``.
    """
    images, records = load_arrays(data, SPLITS[split].shards)
    kept_back = set()
    if split in ("train", "validation"):
        _, unseen = load_arrays(data, SPLITS["test_seen"].shards)
        kept_back = {(record["vendor"], record["family"]) for record in unseen}
    drawings: list[Drawing] = []
    textures: list[Image.Image] = []
    dropped: Counter[str] = Counter()
    for image, record in zip(images, records, strict=True):
        if record["is_flag"] or record["is_symbol"]:
            textures.append(crop(image))
            continue
        class_id = class_of(record)
        if class_id is None:
            dropped["no class"] += 1
        elif (record["vendor"], record["family"]) in kept_back:
            dropped["family in test_seen"] += 1
        elif solid_share(image) < LEAST_SOLID:
            dropped["translucent"] += 1
        elif split in ("train", "validation") and _part(record) != split:
            dropped["other split"] += 1
        else:
            drawings.append(Drawing(crop(image), record, class_id))
    return drawings, textures, dropped


def solid_share(image: np.ndarray) -> float:  # uint8 (height, width, 4)
    """Returns which share of a drawing's pixels is nearly opaque."""
    alpha = image[..., 3]
    return float((alpha >= 0.9 * 255).sum() / max((alpha > 0.1 * 255).sum(), 1))


def _part(record: dict[str, Any]) -> str:
    """Returns the split of a training drawing."""
    name = f"{record['vendor']}:{record['family']}"
    chosen = unit_hash("probing-scenes-v1", name)
    return "validation" if chosen < VALIDATION_SHARE else "train"


def make_scenes(
    data: Path,
    split: str,
    size: int = 128,
    seed: int = 0,
    scenes: int | None = None,
    quiet: bool = False,
) -> SegmentationSet:
    """Composes the scenes of a split; scene i depends on seed, split and i alone.

    Args:
        data: output of ``projects.emoji.data``.
        split: one of `SPLITS`.
        size: side of the images. The drawings are held at 72 px: above 128, they
            are magnified.
        seed: seed of everything random.
        scenes: how many; None for the number in `SPLITS`.
        quiet: whether to show no progress bar.
    """
    how = SPLITS[split]
    drawings, textures, dropped = load_sources(data, split)
    picker = Picker(drawings)
    count = how.scenes if scenes is None else scenes
    numbers = tqdm(range(count), desc=f"scenes {split}", disable=quiet)
    images = (
        compose_scene(
            picker, size, textures, np.random.default_rng([seed, how.number, number])
        )
        for number in numbers
    )
    names = Counter(CLASS_NAMES[drawing.class_id] for drawing in drawings)
    about = {
        "kind": "scenes",
        "split": split,
        "seed": seed,
        "size": size,
        "source": f"split {how.shards!r} of the emoji data: {how.about}",
        "drawings": len(drawings),
        "drawings_by_class": {name: names[name] for name in CLASS_NAMES[1:]},
        "drawings_by_vendor": dict(Counter(d.record["vendor"] for d in drawings)),
        "dropped": dict(dropped),
    }
    return collect(images, CLASS_NAMES, about)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parses the command line and writes the scenes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    for split in SPLITS:
        data = make_scenes(options.data, split, options.size, options.seed)
        save(split_path(options.output, "scenes", split, list(SPLITS)), data)
        objects = sum(map(len, data.objects))
        print(f"{split}: {len(data)} scenes, {objects} objects,", data.about["dropped"])


if __name__ == "__main__":
    main()
