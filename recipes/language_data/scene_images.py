"""Put cut-out pictures on a background, none of them over another."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

ENDINGS = (".png", ".webp")
# Longer side of a thing as a share of the picture, by how many there are.
SIDES = {1: (0.35, 0.7), 2: (0.3, 0.5), 3: (0.28, 0.42), 4: (0.27, 0.38)}
GAP = 1  # pixels between things
HALF = 128  # alpha from which a pixel is one of a thing's
# A thing stands out where this share of its pixels differs from the background by so
# much of 255, in one of the three colours.
LEAST_CONTRAST, DIFFERENT = 0.5, 40
TRIES = 400

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels; ends are outside


@dataclasses.dataclass(frozen=True)
class CutOut:
    """A picture of one thing, with nothing around it.

    Attributes:
        image: mode RGBA, cropped to what is seen.
        name: what it shows: a noun without an article.
        kind: what else is of its kind; empty where that is not known.
        family: those of a family look alike, and are never shown together unless they
            have one name; its name where nothing is given.
    """

    image: Image.Image
    name: str
    kind: str = ""
    family: str = ""
    source: str = ""

    @property
    def look(self) -> str:
        """The family, or the name."""
        return self.family or self.name


@dataclasses.dataclass(frozen=True)
class Scene:
    """A picture with the places of what it shows.

    Attributes:
        image: mode RGB.
        things: what it shows.
        boxes: where each of them is.
    """

    image: Image.Image
    things: tuple[CutOut, ...]
    boxes: tuple[Box, ...]

    def shares(self, place: int) -> tuple[float, float, float, float]:
        """Returns a thing's box as shares of the picture's width and height."""
        left, top, right, bottom = self.boxes[place]
        width, height = self.image.size
        return left / width, top / height, right / width, bottom / height


def cropped(image: Image.Image) -> Image.Image | None:
    """Returns a picture as RGBA without its empty rim; None if there is none.

    Args:
        image: of any mode.
    """
    image = image.convert("RGBA")
    solid = np.asarray(image.getchannel("A")) >= HALF
    if solid.all() or not solid.any():
        return None
    return image.crop(Image.fromarray(solid).getbbox())


def read_cut_outs(folder: Path) -> tuple[list[CutOut], dict[str, str]]:
    """Reads the cut-outs of a folder: `NAME.png`, `KIND/NAME.png`, `KIND/NAME/*.png`.

    Args:
        folder: where they are. An underscore in a name stands for a space.

    Returns:
        The cut-outs, in the order of their paths, and why which file was refused.

    Raises:
        FileNotFoundError: if none can be used.
    """
    found: list[CutOut] = []
    refused: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in ENDINGS:
            continue
        inner = path.relative_to(folder)
        *above, name = (*inner.parts[:-1], inner.stem)
        kind, name = above[0] if above else "", above[1] if len(above) > 1 else name
        try:
            with Image.open(path) as opened:
                image = cropped(opened)
        except (OSError, ValueError) as error:
            refused[str(inner)] = f"can't be read: {error}"
            continue
        if image is None:
            refused[str(inner)] = "is not cut out: all of it is opaque, or nothing"
        else:
            name, kind = (text.replace("_", " ").strip() for text in (name, kind))
            found.append(CutOut(image, name, kind, source=inner.as_posix()))
    if not found:
        raise FileNotFoundError(
            f"{folder}: no picture can be used ({refused}). Expected {ENDINGS} files "
            "with an alpha channel, KIND/NAME.png."
        )
    return found, refused


def compose(
    things: Sequence[CutOut],
    size: int,
    background: Callable[[], np.ndarray],
    rng: np.random.Generator,
    accepted: Callable[[Sequence[Box]], bool] = lambda boxes: True,
) -> Scene | None:
    """Returns a scene of these things, or None if none was found.

    Args:
        things: what it is to show, one to four.
        size: side of the picture, pixels.
        background: gives one more background, `(size, size, 3)` from 0 to 255.
        rng: where sizes and places come from.
        accepted: which arrangements of boxes will do.
    """
    for _ in range(TRIES):
        # Drawings fill their rectangles: these tell most of what will do, at no cost.
        places = [
            _rectangle(thing.image.size, size, len(things), rng) for thing in things
        ]
        if not _apart(places) or not accepted(places):
            continue
        layers = [
            _scaled(thing.image, place)
            for thing, place in zip(things, places, strict=True)
        ]
        boxes = [_box(*pair) for pair in zip(layers, places, strict=True)]
        if not accepted(boxes):
            continue
        ground = background()
        image = Image.fromarray(np.clip(np.rint(ground), 0, 255).astype("uint8"))
        if all(
            _stands_out(layer, place, ground)
            for layer, place in zip(layers, places, strict=True)
        ):
            for layer, place in zip(layers, places, strict=True):
                image.paste(layer, place[:2], layer)
            return Scene(image, tuple(things), tuple(boxes))
    return None


def _rectangle(
    shape: tuple[int, int], size: int, among: int, rng: np.random.Generator
) -> Box:
    """Returns where a cut-out of that shape goes: any size that suits, any place."""
    scale = rng.uniform(*SIDES[among]) * size / max(shape)
    width, height = (max(2, round(scale * side)) for side in shape)
    left = int(rng.integers(size - width + 1))
    top = int(rng.integers(size - height + 1))
    return left, top, left + width, top + height


def _scaled(image: Image.Image, place: Box) -> Image.Image:
    """Returns a cut-out as large as a place."""
    left, top, right, bottom = place
    # Premultiplied, so that hidden colours do not bleed into the edge.
    small = image.convert("RGBa").resize(
        (right - left, bottom - top), Image.Resampling.BILINEAR
    )
    return small.convert("RGBA")


def _box(layer: Image.Image, place: Box) -> Box:
    """Returns the box of the pixels that a thing covers by half or more."""
    solid = np.asarray(layer.getchannel("A")) >= HALF
    rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
    if not len(rows):  # made small, it is nothing but rim
        rows, columns = np.arange(layer.height), np.arange(layer.width)
    left, top, *_ = place
    return (
        left + int(columns[0]),
        top + int(rows[0]),
        left + int(columns[-1]) + 1,
        top + int(rows[-1]) + 1,
    )


def _apart(boxes: Sequence[Box]) -> bool:
    return all(
        one[0] >= other[2] + GAP
        or other[0] >= one[2] + GAP
        or one[1] >= other[3] + GAP
        or other[1] >= one[3] + GAP
        for place, one in enumerate(boxes)
        for other in boxes[:place]
    )


def _stands_out(layer: Image.Image, place: Box, ground: np.ndarray) -> bool:
    pixels = np.asarray(layer, "float32")
    solid = pixels[..., 3] >= HALF
    if not solid.any():
        return False
    left, top, right, bottom = place
    there = ground[top:bottom, left:right]
    apart = np.abs(pixels[..., :3] - there).max(-1)[solid]
    return float((apart > DIFFERENT).mean()) >= LEAST_CONTRAST
