"""What a model makes of the patches of one picture: what is alike, where a text is."""

import dataclasses
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from keras_pe.app.texts import silent
from keras_pe.models.embedding import embed_texts
from keras_pe.models.features import Features
from keras_pe.models.preset_parts import PresetParts
from keras_pe.preprocessing.image import PEImageConverter
from keras_pe.preprocessing.image_decoding import open_image_file
from keras_pe.printable_text import printable
from keras_pe.visualization import (
    pca_figure,
    pca_map,
    similarity_figure,
    similarity_map,
    text_score_figure,
    text_score_maps,
)
from keras_pe.visualization.map_sizes import shown_size, size_of_shape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GRID_COLOUR, MARK_COLOUR = (128, 128, 128, 110), (220, 20, 60, 255)
NO_PICTURE = "There is no picture yet. Drop one, or take a drawing below."


@dataclasses.dataclass
class Looked:
    """One picture, prepared for a model, and what was computed of it.

    Attributes:
        name: of its file, for messages.
        images: `(1, height, width, 3)`, what the model reads.
        shown: `(1, height, width, 3)`, the same at more pixels, for people.
        grid: rows and columns of patches.
        features: of layers that were asked for.
    """

    name: str
    images: np.ndarray
    shown: np.ndarray
    grid: tuple[int, int]
    features: dict[int, Features] = dataclasses.field(default_factory=dict)


def look_at(parts: PresetParts, path: str | os.PathLike[str] | None) -> Looked:
    """Reads a picture and prepares it, in its own shape, to the nearest whole patch.

    Args:
        parts: the model.
        path: the file; None if there is none yet.

    Raises:
        ValueError: if there is no picture.
        ImageError: if it can't be read.
    """
    if path is None:
        raise ValueError(NO_PICTURE)
    converter, encoder = parts.image_converter, parts.model.vision_encoder
    name = printable(Path(path).name)
    opened = open_image_file(
        path, name, converter.formats, converter.max_pixels, converter.max_side
    )
    patch = encoder.patch_embedding.patch_size
    size = size_of_shape((opened.height, opened.width), patch, encoder)
    config = {**converter.get_config(), "resize_mode": "center_crop"}
    images, shown = (
        PEImageConverter.from_config({**config, "image_size": each}).convert(
            opened, name
        )[None]
        for each in (size, shown_size(size))
    )
    return Looked(name, images, shown, (size[0] // patch, size[1] // patch))


def patch_at(looked: Looked, x: float, y: float) -> tuple[int, int]:
    """Returns (row, column) of the patch at a pixel of the picture that is shown.

    Args:
        looked: the picture.
        x: pixels from its left edge.
        y: pixels from its top edge.

    Raises:
        ValueError: if that is outside the picture.
    """
    height, width = looked.shown.shape[1:3]
    if not (0 <= x < width and 0 <= y < height):
        raise ValueError(
            f"The click at {x:g}, {y:g} is outside the picture, {width} x {height} "
            f"pixels. Click on the picture itself."
        )
    rows, columns = looked.grid
    return int(y * rows // height), int(x * columns // width)


def check_patch(looked: Looked, row: float | None, column: float | None) -> None:
    """Raises ValueError unless there is such a patch.

    Args:
        looked: the picture.
        row: counted from 0 at the top.
        column: counted from 0 at the left.
    """
    rows, columns = looked.grid
    for place, size in ((row, rows), (column, columns)):
        if place is None or place != int(place) or not 0 <= place < size:
            raise ValueError(
                f"There is no patch in row {row}, column {column}: expected rows 0 to "
                f"{rows - 1} and columns 0 to {columns - 1}, or a click on the picture."
            )


def with_grid(looked: Looked, point: tuple[int, int] | None = None) -> Image.Image:
    """Returns the picture as it is shown, with its patches and the chosen one.

    Args:
        looked: the picture.
        point: (row, column) of the patch to mark; None for none.
    """
    pixels = np.clip(looked.shown[0] * 127.5 + 127.5, 0, 255).round().astype("uint8")
    image = Image.fromarray(pixels).convert("RGBA")
    lines = Image.new("RGBA", image.size)
    draw = ImageDraw.Draw(lines)
    rows, columns = looked.grid
    down, across = image.height // rows, image.width // columns
    for row in range(1, rows):
        draw.line((0, row * down, image.width, row * down), GRID_COLOUR)
    for column in range(1, columns):
        draw.line((column * across, 0, column * across, image.height), GRID_COLOUR)
    if point is not None:
        top, left = point[0] * down, point[1] * across
        box = (left, top, left + across - 1, top + down - 1)
        draw.rectangle(box, outline=MARK_COLOUR, width=3)
    return Image.alpha_composite(image, lines).convert("RGB")


def features_of(parts: PresetParts, looked: Looked, layer: int) -> Features:
    """Returns the features of a layer, computed once a picture."""
    if layer not in looked.features:
        encoder = parts.model.vision_encoder
        looked.features[layer] = encoder.features(looked.images, layer)
    return looked.features[layer]


def similarity_picture(
    parts: PresetParts, looked: Looked, point: tuple[int, int], layer: int
) -> tuple[Image.Image, np.ndarray]:
    """Draws which patches resemble a chosen one.

    Args:
        parts: the model.
        looked: the picture.
        point: (row, column) of the patch.
        layer: whose features are compared, from 0 to the number of blocks.

    Returns:
        The figure, and the cosines `(rows, columns)`.
    """
    check_patch(looked, *point)
    maps = similarity_map(features_of(parts, looked, layer), *point)
    return drawn(similarity_figure(looked.shown, maps, point)), maps[0]


def pca_picture(
    parts: PresetParts, looked: Looked, layer: int
) -> tuple[Image.Image, np.ndarray]:
    """Draws the patches in the colours of their three main directions.

    Args:
        parts: the model.
        looked: the picture.
        layer: whose features are drawn.

    Returns:
        The figure, and the colours `(rows, columns, 3)`.
    """
    colours = pca_map(features_of(parts, looked, layer))
    return drawn(pca_figure(looked.shown, colours, [f"layer {layer}"])), colours[0]


def text_picture(
    parts: PresetParts, looked: Looked, texts: list[str]
) -> tuple[Image.Image, np.ndarray]:
    """Draws where each text is, on one scale, so that one that is nowhere stays dark.

    Args:
        parts: the model.
        looked: the picture.
        texts: what to look for.

    Returns:
        The figure, and the scores `(texts, rows, columns)`.
    """
    vectors = embed_texts(parts.model, silent(parts.tokenizer), texts, len(texts))
    maps = text_score_maps(parts.model, looked.images, vectors)
    figure = text_score_figure(
        looked.shown, maps, texts, shared_scale=True, most_columns=2
    )
    return drawn(figure), maps[0]


def drawn(figure: "Figure") -> Image.Image:
    """Returns a figure as a picture."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=figure.dpi)
    buffer.seek(0)
    return Image.open(buffer).convert("RGB")
