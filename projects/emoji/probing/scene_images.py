"""Compose one scene: two to four drawings on a background, none of them hidden."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from projects.emoji.data.captions import TEMPLATES
from projects.emoji.probing.backgrounds import draw_background
from projects.emoji.probing.canvas import Canvas, Layer, random_place, resized
from projects.emoji.probing.segmentation_set import (
    IGNORE,
    MaskedImage,
    MaskedObject,
    bounding_box,
)

OBJECTS = (2, 3, 4)  # how many drawings a scene shows, each number equally often
LONGER_SIDE = (0.3, 0.58)  # of a drawing, as a share of the canvas
LEAST_VISIBLE = 0.7
LEAST_CONTRAST = 0.4  # share of a drawing that must differ from what is under it
TRIES_PLACE, TRIES_SCENE = 12, 200
# A class counts by its drawings up to this many: nearly equal shares where there are
# enough, and no drawing that comes over and over where there are few.
FULL_CLASS = 30
CAPTION = TEMPLATES[2]  # "an emoji of {}"


@dataclass(frozen=True)
class Drawing:
    """A drawing of one of the classes.

    Attributes:
        image: cropped, alpha premultiplied, mode RGBX.
        record: what the shards say of it.
        class_id: its class.
    """

    image: Image.Image
    record: dict[str, Any]
    class_id: int


class Picker:
    """Picks classes, then concepts, then drawings, so that no vendor rules."""

    def __init__(self, drawings: Sequence[Drawing]) -> None:
        concepts: dict[int, dict[int, list[Drawing]]] = defaultdict(dict)
        for drawing in drawings:
            group = concepts[drawing.class_id]
            group.setdefault(drawing.record["concept"], []).append(drawing)
        self.classes = sorted(concepts)
        self.concepts = [list(concepts[c].values()) for c in self.classes]
        sizes = [sum(map(len, groups)) for groups in self.concepts]
        weights = np.minimum(sizes, FULL_CLASS).astype(float)
        self.shares = weights / weights.sum()

    def pick(self, count: int, rng: np.random.Generator) -> list[Drawing]:
        """Returns drawings of different concept families; classes may repeat."""
        picked: list[Drawing] = []
        families: set[str] = set()
        for _ in range(100 * count):
            groups = self.concepts[int(rng.choice(len(self.classes), p=self.shares))]
            group = groups[int(rng.integers(len(groups)))]
            drawing = group[int(rng.integers(len(group)))]
            if drawing.record["family"] not in families:
                families.add(drawing.record["family"])
                picked.append(drawing)
            if len(picked) == count:
                return picked
        raise ValueError(f"there are no {count} drawings of different families.")


def compose_scene(
    picker: Picker,
    size: int,
    textures: Sequence[Image.Image],
    rng: np.random.Generator,
) -> MaskedImage:
    """Returns one scene with its masks."""
    picks = picker.pick(int(rng.choice(OBJECTS)), rng)
    # What was picked stays picked, so that pale drawings are not rarer than others:
    # another background and another arrangement are tried.
    for _ in range(TRIES_SCENE):
        background, kind = draw_background(size, textures, rng)
        canvas = Canvas(background)
        if all(_place(canvas, drawing, size, rng) for drawing in picks):
            return _masked(canvas, picks, kind)
    labels = [drawing.record["label"] for drawing in picks]
    raise RuntimeError(f"no arrangement of {labels} was found.")


def _place(
    canvas: Canvas, drawing: Drawing, size: int, rng: np.random.Generator
) -> bool:
    """Draws at a random place where it is seen and hides little; says if there is."""
    for _ in range(TRIES_PLACE):
        longer = rng.uniform(*LONGER_SIDE) * size
        layer = resized(
            drawing.image, *random_place(drawing.image.size, longer, size, rng)
        )
        if fits(canvas, layer):
            canvas.add(layer)
            return True
    return False


def fits(canvas: Canvas, layer: Layer) -> bool:
    """Tells whether a drawing is seen and leaves enough of the others."""
    if min(canvas.visible_shares(layer), default=1.0) < LEAST_VISIBLE:
        return False
    return canvas.contrast(layer) >= LEAST_CONTRAST


def _masked(canvas: Canvas, picks: Sequence[Drawing], kind: str) -> MaskedImage:
    """Reads masks and objects off a canvas."""
    class_of_number = np.array([0, *(d.class_id for d in picks)], "uint8")
    mask = class_of_number[canvas.instances]
    mask[canvas.rim] = IGNORE
    objects = tuple(
        described(drawing.record, drawing.class_id, canvas.instances == number)
        for number, drawing in enumerate(picks, 1)
    )
    return MaskedImage(canvas.image_bytes(), mask, canvas.instances, objects, kind)


def described(
    record: dict[str, Any], class_id: int, visible: np.ndarray
) -> MaskedObject:
    """Returns what is known of an object and where its visible part is."""
    return MaskedObject(
        label=record["label"],
        caption=CAPTION.format(record["label"].lower()),
        class_id=class_id,
        box=bounding_box(visible),
        concept=record["concept"],
        hexcode=record["hexcode"],
        vendor=record["vendor"],
        key=record["key"],
        heldout=record["heldout"],
    )
