"""Drawings that stand on a plain, near and far, with the exact depth of every pixel.

    python -m projects.emoji.probing.depth_scenes --data data/emoji --output sheet.png

draws some of them, each beside its depth. A camera looks over flat ground to a horizon;
the ground at the image's lower edge is at depth 1. What stands at depth d has its foot
on the row where the ground is as far, and is smaller by d; what is nearer hides what is
farther. The sky has no depth. How large a drawing is by itself differs by a factor of
two, so that size alone does not tell.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from projects.emoji.probing.backgrounds import draw_background
from projects.emoji.probing.canvas import Canvas, Layer, resized
from projects.emoji.probing.scene_images import (
    TRIES_PLACE,
    TRIES_SCENE,
    Drawing,
    Picker,
    fits,
)
from projects.emoji.probing.scenes import SPLITS, load_sources

Floats = npt.NDArray[np.float32]
COUNTS = (3, 4, 5)  # drawings in a scene
HORIZON = (0.2, 0.4)  # its row, as a share of the canvas
NEAREST, FARTHEST = 1.1, 5.0  # depth of what stands there
HEIGHTS = (0.45, 0.9)  # of a drawing at depth 1, as a share of the ground's height
GROUND_LIMIT = 8.0  # farther ground is too thin a strip: its depth is not asked for
UNKNOWN = 0.0


@dataclass(frozen=True)
class DepthScenes:
    """Images and their depths.

    Attributes:
        images: uint8 `(scenes, size, size, 3)`.
        depths: float32 `(scenes, size, size)`; 0 is unknown.
    """

    images: npt.NDArray[np.uint8]
    depths: Floats


def make_depth_scenes(
    data: Path, split: str, count: int, size: int = 128, seed: int = 0
) -> DepthScenes:
    """Composes scenes; scene i depends on seed, split and i alone.

    Args:
        data: output of `projects.emoji.data.prepare`.
        split: one of the scenes' splits, whose drawings are shown.
        count: how many scenes.
        size: side of the images, pixels.
        seed: seed of everything random.
    """
    drawings, textures, _ = load_sources(data, split)
    picker = Picker(drawings)
    number = SPLITS[split].number
    scenes = [
        compose_depth_scene(
            picker, size, textures, np.random.default_rng([seed, 300 + number, place])
        )
        for place in range(count)
    ]
    images, depths = zip(*scenes, strict=True)
    return DepthScenes(np.stack(images), np.stack(depths))


def compose_depth_scene(
    picker: Picker,
    size: int,
    textures: Sequence[Image.Image],
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.uint8], Floats]:
    """Returns an image and the depth of its pixels."""
    picks = picker.pick(int(rng.choice(COUNTS)), rng)
    for _ in range(TRIES_SCENE):
        horizon = int(rng.uniform(*HORIZON) * size)
        sky, ground = (draw_background(size, textures, rng)[0] for _ in range(2))
        canvas = Canvas(np.where(np.arange(size)[:, None, None] < horizon, sky, ground))
        spread = np.log(FARTHEST / NEAREST) * rng.random(len(picks))
        far_to_near = np.sort(NEAREST * np.exp(spread))[::-1]
        if all(
            _stand(canvas, drawing, depth, horizon, size, rng)
            for drawing, depth in zip(picks, far_to_near, strict=True)
        ):
            return canvas.image_bytes(), _depths(canvas, far_to_near, horizon)
    labels = [drawing.record["label"] for drawing in picks]
    raise RuntimeError(f"no arrangement of {labels} was found.")


def ground_depths(size: int, horizon: int) -> npt.NDArray[np.float64]:
    """Returns the depth of the ground at the centre of each row; infinite in the sky.

    Example:
        >>> ground_depths(8, 4).round(2).tolist()[4:]
        [8.0, 2.67, 1.6, 1.14]
    """
    below = np.arange(size) + 0.5 - horizon
    return np.where(below > 0, (size - horizon) / np.maximum(below, 1e-9), np.inf)


def _stand(
    canvas: Canvas,
    drawing: Drawing,
    depth: float,
    horizon: int,
    size: int,
    rng: np.random.Generator,
) -> bool:
    """Draws at a depth where it is seen and hides little; says if there is a place."""
    ground = size - horizon
    foot = horizon + round(ground / depth)
    for _ in range(TRIES_PLACE):
        layer = _scaled(
            drawing, rng.uniform(*HEIGHTS) * ground / depth, foot, size, rng
        )
        if layer is not None and fits(canvas, layer):
            canvas.add(layer)
            return True
    return False


def _scaled(
    drawing: Drawing, height: float, foot: int, size: int, rng: np.random.Generator
) -> Layer | None:
    """Returns a drawing of a height, on its foot; None if the canvas lacks room."""
    wide, tall = drawing.image.size
    rows, columns = max(round(height), 2), max(round(height * wide / tall), 2)
    if rows > foot or columns > size:
        return None
    left = int(rng.integers(size - columns + 1))
    return resized(drawing.image, columns, rows, left, foot - rows)


def _depths(canvas: Canvas, of_drawings: np.ndarray, horizon: int) -> Floats:
    """Returns the depth of every pixel, 0 where it is not asked for."""
    size = len(canvas.instances)
    rows = ground_depths(size, horizon)
    rows[rows > GROUND_LIMIT] = UNKNOWN
    depths = np.broadcast_to(rows[:, None], (size, size)).copy()
    for number, depth in enumerate(of_drawings, 1):
        depths[canvas.instances == number] = depth
    depths[canvas.rim] = UNKNOWN
    return depths.astype("float32")


def draw_scenes(scenes: DepthScenes, path: Path) -> None:
    """Draws each scene beside its depth: near is bright, unknown is blue."""
    rows = []
    for image, depth in zip(scenes.images, scenes.depths, strict=True):
        known = depth > UNKNOWN
        grey = np.where(known, 255 / np.maximum(depth, 1.0), 0)
        shown = np.stack([grey, grey, np.where(known, grey, 120)], axis=-1)
        rows.append(np.concatenate([image, shown.astype("uint8")], axis=1))
    Image.fromarray(np.concatenate(rows)).save(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parses the command line and draws six scenes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--split", choices=list(SPLITS), default="validation")
    options = parser.parse_args(arguments)
    draw_scenes(make_depth_scenes(options.data, options.split, 6), options.output)


if __name__ == "__main__":
    main()
