"""Pairs of scenes that share a drawing, with the points of it that match.

    python -m projects.emoji.probing.point_pairs --data data/emoji --output sheet.png

draws some of them. Both scenes have a background, other drawings and a size of their
own, so that neither place nor surroundings tell where a point is.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from keras_pe.probing import PointPairs
from projects.emoji.probing.backgrounds import draw_background
from projects.emoji.probing.canvas import Canvas, Layer, random_place, resized
from projects.emoji.probing.scene_images import (
    LONGER_SIDE,
    TRIES_PLACE,
    TRIES_SCENE,
    Drawing,
    Picker,
    fits,
)
from projects.emoji.probing.scenes import SPLITS, load_sources

POINTS = 16  # of a pair
OTHERS = (1, 2, 3)  # drawings beside the shared one


def make_pairs(
    data: Path, split: str, count: int = 200, size: int = 128, seed: int = 0
) -> list[PointPairs]:
    """Composes pairs of scenes; pair i depends on seed, split and i alone.

    Args:
        data: output of `projects.emoji.data.prepare`.
        split: one of the scenes' splits, whose drawings are shown.
        count: how many pairs.
        size: side of the images, pixels.
        seed: seed of everything random.
    """
    drawings, textures, _ = load_sources(data, split)
    picker = Picker(drawings)
    number = SPLITS[split].number
    return [
        compose_pair(
            picker, size, textures, np.random.default_rng([seed, 200 + number, place])
        )
        for place in range(count)
    ]


def compose_pair(
    picker: Picker,
    size: int,
    textures: Sequence[Image.Image],
    rng: np.random.Generator,
) -> PointPairs:
    """Returns one pair: images in [-1, 1] and points that are seen in both."""
    for _ in range(TRIES_SCENE):
        shared, *others = picker.pick(1 + 2 * max(OTHERS), rng)
        half = len(others) // 2
        scenes = [
            _scene(shared, more[: int(rng.choice(OTHERS))], size, textures, rng)
            for more in (others[:half], others[half:])
        ]
        points = _matching(scenes, rng)
        if points is not None:
            images = np.stack([canvas.image_bytes() for canvas, _ in scenes])
            pixels = images.astype("float32") / 127.5 - 1.0
            return PointPairs(pixels, points, shared.record["label"])
    raise RuntimeError("no pair of scenes with enough points in both was found.")


def _scene(
    shared: Drawing,
    others: Sequence[Drawing],
    size: int,
    textures: Sequence[Image.Image],
    rng: np.random.Generator,
) -> tuple[Canvas, Layer]:
    """Returns a scene and where the shared drawing, the first on it, lies."""
    for _ in range(TRIES_SCENE):
        canvas = Canvas(draw_background(size, textures, rng)[0])
        layers = [_placed(canvas, d, size, rng) for d in (shared, *others)]
        if layers[0] is not None and None not in layers:
            return canvas, layers[0]
    raise RuntimeError(f"no place for {shared.record['label']} was found.")


def _placed(
    canvas: Canvas, drawing: Drawing, size: int, rng: np.random.Generator
) -> Layer | None:
    for _ in range(TRIES_PLACE):
        longer = rng.uniform(*LONGER_SIDE) * size
        place = random_place(drawing.image.size, longer, size, rng)
        layer = resized(drawing.image, *place)
        if fits(canvas, layer):
            canvas.add(layer)
            return layer
    return None


def _matching(
    scenes: Sequence[tuple[Canvas, Layer]], rng: np.random.Generator
) -> np.ndarray | None:
    """Returns points `(POINTS, 2, 2)` of the shared drawing that both scenes show."""
    tried = rng.random((40 * POINTS, 2))  # shares of the drawing's height and width
    places, seen = [], np.ones(len(tried), bool)
    for canvas, layer in scenes:
        place = np.array([layer.top, layer.left]) + tried * layer.alpha.shape
        row, column = np.floor(place).astype(int).T
        seen &= (canvas.instances[row, column] == 1) & ~canvas.rim[row, column]
        places.append(place)
    kept = np.flatnonzero(seen)[:POINTS]
    if len(kept) < POINTS:
        return None
    return np.stack([place[kept] for place in places], axis=1)


def draw_pairs(pairs: Sequence[PointPairs], path: Path) -> None:
    """Draws pairs side by side, with some of their points joined."""
    height, width = pairs[0].images.shape[1:3]
    sheet = Image.new("RGB", (2 * width, height * len(pairs)))
    brush = ImageDraw.Draw(sheet)
    for place, pair in enumerate(pairs):
        for side in range(2):
            pixels = np.rint((pair.images[side] + 1.0) * 127.5).astype("uint8")
            sheet.paste(Image.fromarray(pixels), (side * width, place * height))
        for (top, left), (down, right) in pair.points[:5]:
            start = left, top + place * height
            brush.line((*start, right + width, down + place * height), fill="red")
    sheet.save(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parses the command line and draws eight pairs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--split", choices=list(SPLITS), default="validation")
    options = parser.parse_args(arguments)
    draw_pairs(make_pairs(options.data, options.split, 8), options.output)


if __name__ == "__main__":
    main()
