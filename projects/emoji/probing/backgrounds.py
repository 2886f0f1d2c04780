"""Backgrounds of several kinds, so that colour alone does not tell what is in front."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

Floats = npt.NDArray[np.float32]
KINDS = ("plain", "gradient", "clouds", "stripes", "artwork")


def draw_background(
    size: int, textures: Sequence[Image.Image], rng: np.random.Generator
) -> tuple[Floats, str]:
    """Returns a background, float32 `(size, size, 3)` from 0 to 255, and its kind.

    Args:
        size: its side in pixels.
        textures: drawings with premultiplied alpha to cut the kind "artwork" from;
            without any, that kind is left out.
        rng: where the choice comes from.
    """
    kind = KINDS[int(rng.integers(len(KINDS) if textures else len(KINDS) - 1))]
    if kind == "plain":
        canvas = np.broadcast_to(_colour(rng), (size, size, 3))
    elif kind == "gradient":
        canvas = _blend(_ramp(size, rng), rng)
    elif kind == "clouds":
        canvas = _clouds(size, rng)
    elif kind == "stripes":
        periods = rng.uniform(2, 8)
        wave = 0.5 + 0.5 * np.sin(2 * np.pi * periods * _ramp(size, rng))
        canvas = _blend(np.clip(4 * wave - 1.5, 0, 1), rng)
    else:
        texture = textures[int(rng.integers(len(textures)))]
        canvas = _cut(texture, size, rng)
    return np.array(canvas, "float32"), kind


def _colour(rng: np.random.Generator) -> Floats:
    """Returns any colour, with white and pale ones more often."""
    colour = rng.uniform(0, 255, 3)
    paleness = rng.choice([0.0, 0.5, 1.0], p=[0.6, 0.25, 0.15])
    return (colour + (255 - colour) * paleness).astype("float32")


def _ramp(size: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Returns values that rise from 0 to 1 in a random direction, (size, size)."""
    angle = rng.uniform(0, 2 * np.pi)
    steps = np.linspace(-1, 1, size)
    ramp = np.cos(angle) * steps[None, :] + np.sin(angle) * steps[:, None]
    low, high = ramp.min(), ramp.max()
    return np.asarray((ramp - low) / (high - low))


def _blend(share: npt.NDArray[np.float64], rng: np.random.Generator) -> Floats:
    """Mixes two random colours by shares (size, size)."""
    first, second = _colour(rng), _colour(rng)
    mixed = first + (second - first) * share[..., None]
    return np.asarray(mixed, "float32")


def _clouds(size: int, rng: np.random.Generator) -> Floats:
    """Returns smooth noise: a few random colours, interpolated."""
    side = int(rng.integers(3, 8))
    small = np.stack([_colour(rng) for _ in range(side * side)])
    image = Image.fromarray(small.reshape(side, side, 3).astype("uint8"))
    large = image.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(large, "float32")


def _cut(texture: Image.Image, size: int, rng: np.random.Generator) -> Floats:
    """Returns a magnified, softened part of a drawing; it fills the canvas."""
    pixels = np.asarray(texture, "float32")
    opaque = pixels[..., :3] + _colour(rng) * (1 - pixels[..., 3:] / 255)
    image = Image.fromarray(np.clip(opaque, 0, 255).astype("uint8"))
    width, height = image.size
    side = rng.uniform(0.45, 0.9) * min(width, height)
    left, top = rng.uniform(0, width - side), rng.uniform(0, height - side)
    window = (left, top, left + side, top + side)
    large = image.resize((size, size), Image.Resampling.BICUBIC, box=window)
    return np.asarray(large.filter(ImageFilter.GaussianBlur(size / 64)), "float32")
