"""Put drawings on a canvas and keep account of which pixel belongs to which."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

Floats = npt.NDArray[np.float32]
# A pixel that a drawing covers in part shows two things: a rim, not judged.
RIM = (0.1, 0.9)
HALF = 0.5


@dataclass(frozen=True)
class Layer:
    """A drawing at its place; all of it lies on the canvas.

    Attributes:
        colours: float32 `(height, width, 3)`, 0 to 255, times alpha.
        alpha: float32 `(height, width)`, 0 to 1.
        left: first column.
        top: first row.
    """

    colours: Floats
    alpha: Floats
    left: int
    top: int

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the canvas that the drawing's box covers."""
        height, width = self.alpha.shape
        return (
            slice(self.top, self.top + height),
            slice(self.left, self.left + width),
        )

    @property
    def solid(self) -> npt.NDArray[np.bool_]:
        """Where the drawing covers at least half of a pixel, (height, width)."""
        solid: npt.NDArray[np.bool_] = self.alpha >= HALF
        return solid


def resized(
    drawing: Image.Image, width: int, height: int, left: int, top: int
) -> Layer:
    """Returns a drawing with premultiplied alpha, mode RGBX, at size and place."""
    # Mode RGBX resizes each channel by itself, right for premultiplied colours.
    small = drawing.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(small, "float32")
    alpha = np.asarray(pixels[..., 3] / 255, "float32")
    return Layer(pixels[..., :3], alpha, left, top)


def premultiplied(image: Image.Image) -> Image.Image:
    """Returns an RGBA image as mode RGBX with colours times alpha."""
    pixels = np.asarray(image.convert("RGBA"), "uint16")
    colours = (pixels[..., :3] * pixels[..., 3:] + 127) // 255
    array = np.concatenate([colours, pixels[..., 3:]], axis=-1).astype("uint8")
    return Image.fromarray(np.ascontiguousarray(array), mode="RGBX")


def random_place(
    shape: tuple[int, int], longer: float, size: int, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Returns width, height, left and top of a drawing, wholly on the canvas.

    Args:
        shape: its width and height as drawn.
        longer: what its longer side shall be, pixels.
        size: side of the canvas.
        rng: where the place comes from.
    """
    scale = longer / max(shape)
    width, height = (min(max(round(scale * side), 2), size) for side in shape)
    left = int(rng.integers(size - width + 1))
    top = int(rng.integers(size - height + 1))
    return width, height, left, top


class Canvas:
    """A background with drawings on it, the last one in front.

    Attributes:
        image: float32 `(size, size, 3)`, 0 to 255.
        instances: uint8 `(size, size)`: 0, or the number of the drawing, from 1, that
            covers half of the pixel or more and is in front.
        rim: bool `(size, size)`: where the front drawing covers a pixel in part.
        areas: how many pixels each drawing has, hidden ones included.
    """

    def __init__(self, background: Floats) -> None:
        size = len(background)
        self.image = np.array(background, "float32")
        self.instances = np.zeros((size, size), "uint8")
        self.rim = np.zeros((size, size), bool)
        self.areas: list[int] = []

    def contrast(self, layer: Layer, least: float = 32.0) -> float:
        """Returns which share of a drawing would differ visibly from what is there."""
        solid = layer.solid
        if not solid.any():
            return 0.0
        colours = layer.colours[solid] / layer.alpha[solid][:, None]
        there = self.image[layer.window][solid]
        return float((np.abs(colours - there).max(axis=-1) > least).mean())

    def visible_shares(self, layer: Layer | None = None) -> list[float]:
        """Returns the visible share of each drawing, after one more if given."""
        counts = np.bincount(self.instances.ravel(), minlength=len(self.areas) + 1)
        if layer is not None:
            hidden = self.instances[layer.window][layer.solid]
            counts = counts - np.bincount(hidden, minlength=len(counts))
        return [
            float(count) / max(area, 1)
            for count, area in zip(counts[1:], self.areas, strict=True)
        ]

    def add(self, layer: Layer) -> None:
        """Draws one more in front of the others."""
        window, alpha = layer.window, layer.alpha
        below = self.image[window]
        self.image[window] = below * (1 - alpha[..., None]) + layer.colours
        self.areas.append(int(layer.solid.sum()))
        self.instances[window][layer.solid] = len(self.areas)
        low, high = RIM
        rim = self.rim[window]
        rim[alpha > low] = True
        rim[alpha >= high] = False

    def image_bytes(self) -> npt.NDArray[np.uint8]:
        """Returns the image as uint8 `(size, size, 3)`."""
        return np.clip(np.rint(self.image), 0, 255).astype("uint8")
