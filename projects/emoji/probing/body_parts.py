"""Write images of people with masks of their parts: skin, hair, and the rest.

Run ``python -m projects.emoji.probing.body_parts --data data/emoji
--output data/probing`` after ``projects.emoji.data.prepare``. It fetches the
package ``openmoji`` (4 MB) with npm; its SVG drawings keep the named layers that
the icon package has lost. All drawings are one vendor's,
which the emoji model was trained on.
"""

import argparse
import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from tqdm import tqdm

from projects.emoji.data.concepts import normalise_hexcode
from projects.emoji.data.extra import read_concepts
from projects.emoji.data.guarded_render import rasterise
from projects.emoji.data.packages import (
    Package,
    PackageError,
    load_packages,
    obtain,
    read_members,
)
from projects.emoji.data.shards import load_arrays
from projects.emoji.data.splits import unit_hash
from projects.emoji.data.table import Concept
from projects.emoji.pairs import crop, jitter
from projects.emoji.probing.backgrounds import draw_background
from projects.emoji.probing.canvas import Canvas, premultiplied, resized
from projects.emoji.probing.layered_svg import (
    LayeredDrawing,
    coverage,
    read_layers,
    shape_numbers,
)
from projects.emoji.probing.scene_images import described
from projects.emoji.probing.segmentation_set import (
    IGNORE,
    MaskedImage,
    SegmentationSet,
    bounding_box,
    collect,
    load,
    save,
    split_path,
)

PACKAGES = Path(__file__).with_name("packages.json")
VENDOR = "openmoji"
PART_NAMES = ("background", "skin", "hair", "clothes and things")
LINE = len(PART_NAMES)  # drawn around everything, thinner than a patch: not judged
PART_OF_LAYER = {
    "skin": 1, "skin-shadow": 1, "hair": 2, "color": 3, "color-foreground": 3,
    "line": LINE, "line-supplement": LINE,
}  # fmt: skip


@dataclass(frozen=True)
class Split:
    """How large a split is.

    Attributes:
        number: part of the seed; never changes.
        share: of the families that the emoji model was trained on.
        images: how many are written.
    """

    number: int
    share: float
    images: int


SPLITS = {
    "train": Split(0, 0.60, 500),
    "validation": Split(1, 0.15, 120),
    "test_seen": Split(2, 0.25, 150),
    "test_heldout": Split(3, 0.0, 150),  # families that no training drawing shows
}
LONGER_SIDE = (0.6, 0.98)  # of a drawing, as a share of the canvas
OVERSAMPLING = 4
SURE = 0.75  # a pixel less of which shows one part is not judged
LEAST_SHARE = 0.03  # of a drawing that a part must have to count as present
MOST_LINES = 0.53  # of a drawing; above, it is made of strokes
LEAST_SHAPE = 0.005  # of a drawing; smaller shapes get no number
JITTER = 0.25


@dataclass(frozen=True)
class Person:
    """A concept and its drawings, in the skin tones that there are.

    Attributes:
        concept: the concept.
        drawings: the plain drawing first.
    """

    concept: Concept
    drawings: tuple[LayeredDrawing, ...]


def load_parts(directory: Path | str, split: str) -> SegmentationSet:
    """Reads the parts of a split.

    Args:
        directory: what was given as ``--output``.
        split: "train", "validation", "test_seen" or "test_heldout".
    """
    return load(split_path(directory, "parts", split, list(SPLITS)))


def parts_package() -> Package:
    """Returns the pinned package of the layered drawings."""
    (package,) = (p for p in load_packages(PACKAGES) if p.vendor == VENDOR)
    return package


def read_people(
    members: Mapping[str, bytes], concepts: Sequence[Concept], dropped: Counter[str]
) -> list[Person]:
    """Returns the people of which at least two parts are seen."""
    known = {concept.hexcode: concept for concept in concepts}
    versions: dict[str, list[str]] = defaultdict(list)
    for entry in json.loads(members["package/data/openmoji.json"]):
        if entry["group"] != "people-body":
            continue
        base = entry["skintone_base_hexcode"] or entry["hexcode"]
        # Sorted below: the plain drawing's code is the shortest.
        versions[normalise_hexcode(base)].append(entry["hexcode"])
    people = []
    for base, hexcodes in sorted(versions.items()):
        if base not in known:
            dropped["not in the emoji table"] += 1
            continue
        try:
            drawings = [
                read_layers(members[f"package/color/svg/{hexcode}.svg"].decode())
                for hexcode in sorted(hexcodes, key=lambda code: (len(code), code))
            ]
        except (ValueError, KeyError):
            dropped["layers not named, or no drawing"] += 1
            continue
        shares = part_shares(drawings[0])
        if (shares[1:LINE] >= LEAST_SHARE).sum() < 2:
            dropped["fewer than two parts"] += 1
            continue
        if shares[LINE] > MOST_LINES:
            dropped["mostly lines"] += 1
            continue
        people.append(Person(known[base], tuple(drawings)))
    return people


def part_of_shape(drawing: LayeredDrawing) -> npt.NDArray[np.uint8]:
    """Returns the part of each shape's number, lines included; 0 is background."""
    return np.array([0, *(PART_OF_LAYER[name] for name in drawing.layers)], "uint8")


def part_shares(drawing: LayeredDrawing, side: int = 96) -> npt.NDArray[np.float64]:
    """Returns the share of each part in what is drawn, by part; the first is unused."""
    parts = part_of_shape(drawing)[shape_numbers(drawing, side)]
    counts = np.bincount(parts.ravel(), minlength=LINE + 1)
    counts[0] = 0
    return np.asarray(counts / max(counts.sum(), 1))


def split_people(people: Sequence[Person]) -> dict[str, list[Person]]:
    """Returns the people of each split; a family is in one of them.

    Families are ranked by hash, so that the shares are kept exactly.
    """
    families: dict[str, list[Person]] = defaultdict(list)
    heldout = []
    for person in people:
        if person.concept.heldout:
            heldout.append(person)
        else:
            families[person.concept.family].append(person)
    ranked = sorted(families, key=lambda name: unit_hash("probing-parts-v1", name))
    found: dict[str, list[Person]] = {}
    start, share = 0, 0.0
    for split in ("validation", "test_seen", "train"):
        share += SPLITS[split].share
        end = round(share * len(ranked))
        found[split] = [one for name in ranked[start:end] for one in families[name]]
        start = end
    return {**found, "test_heldout": heldout}


def masks_of(
    drawing: LayeredDrawing, side: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], list[int]]:
    """Returns part mask and shape numbers, both `(side, side)`, and parts of shapes.

    A pixel is judged when nearly all of it shows one part that is no line. Shapes are
    numbered from 1 in the order of drawing, lines and tiny ones left out.
    """
    numbers = shape_numbers(drawing, OVERSAMPLING * side)
    parts = part_of_shape(drawing)
    covered = coverage(parts[numbers], OVERSAMPLING, LINE + 1)
    mask = covered.argmax(axis=0).astype("uint8")
    mask[(covered.max(axis=0) < SURE * OVERSAMPLING**2) | (mask == LINE)] = IGNORE

    front = coverage(numbers, OVERSAMPLING, len(parts)).argmax(axis=0)
    counts = np.bincount(front.ravel(), minlength=len(parts))
    least = max(LEAST_SHAPE * counts[1:].sum(), 4)
    kept = [k for k in range(1, len(parts)) if parts[k] != LINE and counts[k] >= least]
    instances = np.zeros((side, side), "uint8")
    for number, shape in enumerate(kept, 1):
        instances[front == shape] = number
    return mask, instances, [int(parts[shape]) for shape in kept]


def side_and_box(
    drawing: LayeredDrawing, longer: float
) -> tuple[int, tuple[int, int, int, int]]:
    """Returns at which side to draw, and where the ink is then.

    Args:
        drawing: the drawing, with margins.
        longer: what the longer side of its ink shall be at most, pixels.
    """
    coarse = 256
    left, top, right, bottom = bounding_box(shape_numbers(drawing, coarse) > 0)
    # Two pixels of room on each side: edges are smooth in the drawing itself.
    side = math.floor(longer * coarse / (max(right - left, bottom - top) + 4))
    scale = side / coarse
    return side, (
        max(math.floor((left - 2) * scale), 0),
        max(math.floor((top - 2) * scale), 0),
        min(math.ceil((right + 2) * scale), side),
        min(math.ceil((bottom + 2) * scale), side),
    )


def compose(
    person: Person, size: int, textures: Sequence[Image.Image], rng: np.random.Generator
) -> MaskedImage:
    """Returns a person in some skin tone, somewhere on a background, with its parts."""
    concept = person.concept
    tone = int(rng.integers(len(person.drawings)))
    drawing = person.drawings[tone]
    longer = rng.uniform(*LONGER_SIDE) * size
    side, box = side_and_box(drawing, longer)
    image = rasterise(drawing.svg, side).crop(box)
    part_mask, shapes, parts = masks_of(drawing, side)
    rows, columns = slice(box[1], box[3]), slice(box[0], box[2])
    part_mask, shapes = part_mask[rows, columns], shapes[rows, columns]
    if rng.random() < 0.5:
        image = ImageOps.mirror(image)
        part_mask, shapes = part_mask[:, ::-1], shapes[:, ::-1]
    left = int(rng.integers(size - image.width + 1))
    top = int(rng.integers(size - image.height + 1))
    layer = resized(premultiplied(image), image.width, image.height, left, top)
    background, kind = draw_background(size, textures, rng)
    canvas = Canvas(background)
    canvas.add(layer)
    # Brightness, contrast and saturation vary: one palette serves all the drawings.
    scene = jitter(canvas.image, JITTER, rng)
    mask, instances = np.zeros((2, size, size), "uint8")
    mask[layer.window], instances[layer.window] = part_mask, shapes
    record: dict[str, Any] = {
        "label": concept.label,
        "concept": concept.id,
        "hexcode": concept.hexcode,
        "vendor": VENDOR,
        "key": f"{VENDOR}_{concept.hexcode.lower()}_{tone}",
        "heldout": concept.heldout,
    }
    objects = tuple(
        described(record, part, instances == number)
        for number, part in enumerate(parts, 1)
    )
    whole = np.rint(scene).astype("uint8")
    return MaskedImage(whole, mask, instances, objects, kind)


def make_parts(
    data: Path,
    split: str,
    people: Sequence[Person],
    size: int = 128,
    seed: int = 0,
    images: int | None = None,
    quiet: bool = False,
) -> SegmentationSet:
    """Composes the images of a split; image i depends on seed, split and i alone.

    Args:
        data: output of ``projects.emoji.data.prepare``, for the backgrounds.
        split: one of `SPLITS`.
        people: of all splits.
        size: side of the images; the drawings are rendered at their size there.
        seed: seed of everything random.
        images: how many; None for the number in `SPLITS`.
        quiet: whether to show no progress bar.
    """
    how, own = SPLITS[split], split_people(people)[split]
    if not own:
        raise ValueError(f"no drawing belongs to the split {split!r}.")
    shards = "train" if split in ("train", "validation") else "val_seen"
    arrays, records = load_arrays(data, shards)
    textures = [
        crop(array)
        for array, record in zip(arrays, records, strict=True)
        if record["is_flag"] or record["is_symbol"]
    ]

    families: dict[str, list[Person]] = defaultdict(list)
    for person in own:
        families[person.concept.family].append(person)
    groups = list(families.values())

    def image(place: int) -> MaskedImage:
        rng = np.random.default_rng([seed, 100 + how.number, place])
        group = groups[int(rng.integers(len(groups)))]
        person = group[int(rng.integers(len(group)))]
        return compose(person, size, textures, rng)

    places = range(how.images if images is None else images)
    about = {
        "kind": "parts",
        "split": split,
        "seed": seed,
        "size": size,
        "source": "OpenMoji's layered drawings of people",
        "concepts": len(own),
        "families": len(families),
        "drawings": sum(len(person.drawings) for person in own),
    }
    bar = tqdm(places, desc=f"parts {split}", disable=quiet)
    return collect(map(image, bar), PART_NAMES, about)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parses the command line and writes the parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=None)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    cache = options.cache or options.data / "cache"
    package = parts_package()
    try:
        members = read_members(obtain(package, cache), package.members)
    except PackageError as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    dropped: Counter[str] = Counter()
    people = read_people(members, read_concepts(options.data), dropped)
    print("left out:", dict(dropped))
    for split in SPLITS:
        data = make_parts(options.data, split, people, options.size, options.seed)
        save(split_path(options.output, "parts", split, list(SPLITS)), data)
        shown = {key: data.about[key] for key in ("concepts", "families", "drawings")}
        print(f"{split}: {len(data)} images,", shown)


if __name__ == "__main__":
    main()
