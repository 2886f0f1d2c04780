"""Colours by name: plain backgrounds, others, and things painted in one colour."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

# What nobody would call otherwise, also a little lighter or darker.
BACKGROUNDS = {
    "white": (245, 245, 245),
    "black": (12, 12, 12),
    "grey": (128, 128, 128),
    "red": (215, 25, 30),
    "orange": (250, 140, 10),
    "yellow": (250, 230, 40),
    "green": (30, 150, 50),
    "blue": (30, 70, 220),
    "purple": (120, 30, 160),
    "pink": (250, 150, 190),
    "brown": (110, 65, 25),
}
PAINTS = ("red", "orange", "yellow", "green", "blue", "purple")
JITTER = 10
DARKEST = 0.72  # of a paint: darker, orange is brown and yellow is olive


def plain(name: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a background `(size, size, 3)`, from 0 to 255, of a named colour."""
    colour = np.array(BACKGROUNDS[name]) + rng.uniform(-JITTER, JITTER, 3)
    return np.broadcast_to(np.clip(colour, 0, 255), (size, size, 3))


def any_background(size: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a background `(size, size, 3)`: plain, two colours, or grainy."""
    colour = _any_colour(rng)
    if rng.random() < 0.4:
        ground = np.broadcast_to(colour, (size, size, 3)).copy()
    else:
        angle, steps = rng.uniform(0, 2 * np.pi), np.linspace(-1, 1, size)
        ramp = np.cos(angle) * steps[None, :] + np.sin(angle) * steps[:, None]
        share = (ramp - ramp.min()) / (ramp.max() - ramp.min())
        ground = colour + (_any_colour(rng) - colour) * share[..., None]
    if rng.random() < 0.3:
        ground += rng.normal(0, rng.uniform(2, 12), ground.shape)
    return ground


def _any_colour(rng: np.random.Generator) -> np.ndarray:
    """Returns any colour, white and pale ones more often."""
    colour = rng.uniform(0, 255, 3)
    return colour + (255 - colour) * rng.choice([0.0, 0.5, 1.0], p=[0.6, 0.2, 0.2])


def painted(image: Image.Image, name: str) -> Image.Image:
    """Returns a cut-out in shades of one colour; its alpha stays.

    Args:
        image: mode RGBA.
        name: one of `PAINTS`.
    """
    pixels = np.asarray(image, "float64")
    grey = pixels[..., :3] @ np.array([0.299, 0.587, 0.114])
    seen = grey[pixels[..., 3] > 0]
    low, high = float(seen.min()), float(seen.max())
    shade = DARKEST + (1 - DARKEST) * (grey - low) / max(high - low, 1.0)
    colours = np.array(BACKGROUNDS[name]) * np.clip(shade, DARKEST, 1)[..., None]
    whole = np.concatenate([colours, pixels[..., 3:]], -1)
    return Image.fromarray(np.rint(whole).astype("uint8"), "RGBA")


def one_of(names: Sequence[str], rng: np.random.Generator) -> str:
    """Returns one of several names, each as often as the others."""
    return names[int(rng.integers(len(names)))]
