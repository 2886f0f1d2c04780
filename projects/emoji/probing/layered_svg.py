"""Read which shape of a layered SVG drawing covers which pixel.

OpenMoji's drawings come in named layers: skin, hair, line, and colour for the rest.
"""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from projects.emoji.data.guarded_render import rasterise

SVG = "{http://www.w3.org/2000/svg}"
SHAPES = {
    SVG + name
    for name in ("path", "circle", "ellipse", "rect", "line", "polyline", "polygon")
}
MOST_SHAPES = 254
# Editors add numbers and letters to the names: "line-2", "skin_1_", "hair-a".
_LAYER = re.compile(
    r"(color-foreground|line-supplement|skin-shadow|color|skin|hair|line)(?![a-z])"
    r"(?!-shadow|-foreground|-supplement)"
)
# What the numbered drawing must not have: parts of it would be seen through others.
_NOT_READ = (
    "clipPath", "defs", "filter", "image", "mask", "pattern", "style", "symbol", "text",
    "use",
)  # fmt: skip


@dataclass(frozen=True)
class LayeredDrawing:
    """A drawing, the layer of each of its shapes, and the shapes' numbered twins.

    Attributes:
        svg: the document as drawn.
        numbered: the same with shape k, from 1, in the flat colour of number k and
            without smoothed edges.
        layers: name of the layer of each shape, in the order of drawing.
    """

    svg: str
    numbered: str
    layers: tuple[str, ...]


def read_layers(svg: str) -> LayeredDrawing:
    """Reads a drawing whose shapes all lie in named layers; others raise ValueError."""
    root = ElementTree.fromstring(svg)
    for element in root.iter():
        name = str(element.tag).removeprefix(SVG)
        if name in _NOT_READ or "style" in element.attrib:
            raise ValueError(f"a drawing with {name!r} is not read layer by layer.")
    layers = []
    for shape, layer, paint in list(_shapes(root)):
        if layer is None:
            raise ValueError("a shape lies in no named layer.")
        layers.append(layer)
        if len(layers) > MOST_SHAPES:
            raise ValueError(f"there are more than {MOST_SHAPES} shapes.")
        colour = f"#{len(layers):06x}"
        for key in ("fill", "stroke"):
            if paint[key] != "none":
                shape.set(key, colour)
    for element in root.iter():
        for key in ("opacity", "fill-opacity", "stroke-opacity"):
            element.attrib.pop(key, None)
    root.set("shape-rendering", "crispEdges")
    return LayeredDrawing(
        svg, ElementTree.tostring(root, encoding="unicode"), tuple(layers)
    )


def _shapes(
    root: ElementTree.Element,
) -> Iterator[tuple[ElementTree.Element, str | None, dict[str, str]]]:
    """Yields each shape, the layer around it, and its paint, own or inherited."""
    start: tuple[str | None, dict[str, str]] = (
        None,
        {"fill": "#000", "stroke": "none"},
    )
    stack = [(root, *start)]
    while stack:
        element, layer, paint = stack.pop()
        found = _LAYER.match(element.get("id", ""))
        layer = found[1] if found else layer
        paint = {key: element.get(key, value) for key, value in paint.items()}
        if element.tag in SHAPES:
            yield element, layer, paint
        # A stack gives the last one first: children go on it from behind.
        stack += [(child, layer, paint) for child in reversed(element)]


def shape_numbers(drawing: LayeredDrawing, side: int) -> npt.NDArray[np.uint8]:
    """Returns which shape is in front at each pixel, `(side, side)`; 0 for none."""
    pixels = np.asarray(rasterise(drawing.numbered, side), "int64")
    numbers = pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2]
    numbers[pixels[..., 3] < 128] = 0
    if numbers.max() > len(drawing.layers):
        raise ValueError("a pixel shows a colour that is no shape's number.")
    return numbers.astype("uint8")


def coverage(
    values: npt.NDArray[np.uint8], factor: int, kinds: int
) -> npt.NDArray[np.uint8]:
    """Counts, in blocks of small pixels, each value: `(kinds, height, width)`.

    Args:
        values: `(factor * height, factor * width)`, from 0 to `kinds` - 1.
        factor: side of a block; its `factor**2` small pixels make one of the result.
        kinds: how many values there are.
    """
    height, width = (side // factor for side in values.shape)
    if values.shape != (factor * height, factor * width) or factor > 15:
        raise ValueError(f"{values.shape} is no grid of blocks of {factor} pixels.")
    blocks = values.reshape(height, factor, width, factor)
    # The small pixels of a block in front: adding planes is fast, adding in place not.
    planes = np.ascontiguousarray(blocks.transpose(1, 3, 0, 2))
    planes = planes.reshape(factor**2, height, width)
    return np.stack([(planes == kind).sum(0, dtype="uint8") for kind in range(kinds)])
