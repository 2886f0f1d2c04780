"""Ready-made figures: images beside maps of them.

Each function takes arrays, returns a Matplotlib `Figure` and, given a `path`, writes it
there, in the format of its suffix. Images are `(batch, height, width, 3)`, the
model's input in [-1, 1] or uint8.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_pe.visualization.panels import (
    Interpolation,
    Panel,
    displayable,
    draw_panels,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FilePath = str | os.PathLike[str]
MAX_COLUMNS = 9
Limits = tuple[float, float]


def overlay_figure(
    images: Any,
    maps: Any,
    titles: Sequence[str] | None = None,
    limits: Limits | None = None,
    path: FilePath | None = None,
    interpolation: Interpolation = "bilinear",
    opacity: float = 0.65,
) -> "Figure":
    """Draws images and, beside each, its map laid over it.

    Args:
        images: `(batch, height, width, 3)`.
        maps: `(batch, rows, columns)`.
        titles: one an image.
        limits: the scores at both ends of the colours; None takes those of each map.
        path: file to write.
        interpolation: how maps are enlarged, "bilinear" or "nearest".
        opacity: of the maps, from 0 to 1.

    Returns:
        The figure.

    Raises:
        ValueError: if the arguments do not fit together.

    Example:
        >>> figure = overlay_figure(np.zeros((1, 32, 32, 3)), np.zeros((1, 4, 4)))
        >>> len(figure.axes)
        2
    """
    shown = displayable(images)
    maps = _maps(maps, "maps", (len(shown), None, None))
    names = _titles(titles, len(shown))
    pairs = [
        [Panel(image, title=name), Panel(image, heat, limits)]
        for image, heat, name in zip(shown, maps, names, strict=True)
    ]
    return _draw_pairs(pairs, path, interpolation, opacity)


def pca_figure(
    images: Any,
    colours: Any,
    titles: Sequence[str] | None = None,
    path: FilePath | None = None,
    interpolation: Interpolation = "nearest",
) -> "Figure":
    """Draws images and, beside each, its patches in the colours of `pca_map`.

    Args:
        images: `(batch, height, width, 3)`.
        colours: `(batch, rows, columns, 3)` from 0 to 1.
        titles: one an image.
        path: file to write.
        interpolation: "nearest" shows the patches as they are; or "bilinear".

    Returns:
        The figure.

    Raises:
        ValueError: if the arguments do not fit together.

    Example:
        >>> images = np.zeros((2, 32, 32, 3))
        >>> figure = pca_figure(images, np.random.default_rng(0).random((2, 4, 4, 3)))
        >>> len(figure.axes)
        4
    """
    shown = displayable(images)
    colours = _maps(colours, "colours", (len(shown), None, None, 3))
    names = _titles(titles, len(shown))
    pairs = [
        [Panel(image, title=name), Panel(heat=patches)]
        for image, patches, name in zip(shown, colours, names, strict=True)
    ]
    return _draw_pairs(pairs, path, interpolation)


def attention_figure(
    images: Any,
    weights: Any,
    point: tuple[int, int] | None = None,
    path: FilePath | None = None,
    interpolation: Interpolation = "bilinear",
    opacity: float = 0.75,
    titles: Sequence[str] | None = None,
) -> "Figure":
    """Draws where each head looks: an image, the mean of its heads, each head.

    Args:
        images: `(batch, height, width, 3)`.
        weights: `(batch, heads, rows, columns)`: `pooling_attention(...).patches`, or
            one row of `attention_maps` on its grid.
        point: (row, column) of the patch that looks, to be marked.
        path: file to write.
        interpolation: how maps are enlarged, "bilinear" or "nearest".
        opacity: of the maps, from 0 to 1.
        titles: one an image, such as the layer.

    Returns:
        The figure. The brightest patch of each panel has its largest weight, which
        the title gives in percent.

    Raises:
        ValueError: if the arguments do not fit together.

    Example:
        >>> weights = np.full((1, 3, 4, 4), 1 / 16)    # three heads
        >>> figure = attention_figure(np.zeros((1, 32, 32, 3)), weights)
        >>> len(figure.axes)
        5
    """
    shown = displayable(images)
    weights = _maps(weights, "weights", (len(shown), None, None, None))
    grid = weights.shape[2:]
    names = _titles(titles, len(shown))
    groups = []
    for image, heads, title in zip(shown, weights, names, strict=True):
        group = [Panel(image, point=point, grid=grid, title=title)]
        for name, heat in [
            ("all heads", heads.mean(axis=0)),
            *((f"head {number}", heat) for number, heat in enumerate(heads, 1)),
        ]:
            title = f"{name}, max {heat.max():.0%}"
            limits = (0.0, float(heat.max()) or 1.0)
            group.append(Panel(image, heat, limits, point, grid, title))
        groups.append(group)
    return _draw_rows(groups, path, interpolation, opacity, colours="magma")


def text_score_figure(
    images: Any,
    maps: Any,
    texts: Sequence[str],
    shared_scale: bool = False,
    path: FilePath | None = None,
    interpolation: Interpolation = "bilinear",
    opacity: float = 0.65,
    most_columns: int = MAX_COLUMNS,
) -> "Figure":
    """Draws each image and, beside it, one map a text.

    Args:
        images: `(batch, height, width, 3)`.
        maps: `(batch, texts, rows, columns)` from `text_score_maps`.
        texts: their titles.
        shared_scale: whether a colour means the same score for all texts of an
            image. Else each map has the whole range of colours.
        path: file to write.
        interpolation: how maps are enlarged, "bilinear" or "nearest".
        opacity: of the maps, from 0 to 1.
        most_columns: panels in a row, at most; 2 for a narrow page.

    Returns:
        The figure. The darkest colour is a score of 0 or below, what does not speak
        for the text; the lightest is the highest score. Titles give that of
        each map.

    Raises:
        ValueError: if the arguments do not fit together.

    Example:
        >>> maps = np.random.default_rng(0).random((1, 2, 4, 4))
        >>> images = np.zeros((1, 32, 32, 3))
        >>> figure = text_score_figure(images, maps, ["a cat", "a dog"], path="t.png")
    """
    if most_columns < 1:
        raise ValueError(f"most_columns must be at least 1, got {most_columns}.")
    shown = displayable(images)
    texts = list(texts) if not isinstance(texts, str) else [texts]
    maps = _maps(maps, "maps", (len(shown), len(texts), None, None))
    groups = []
    for image, heats in zip(shown, maps, strict=True):
        tops = [heats.max()] * len(texts) if shared_scale else heats.max(axis=(1, 2))
        group = [Panel(image)]
        for heat, top, text in zip(heats, tops, texts, strict=True):
            limits = (0.0, float(top) if top > 0 else 1.0)
            title = f"{text}\nhighest {heat.max():+.3f}"
            group.append(Panel(image, heat, limits, title=title))
        groups.append(group)
    return _draw_rows(groups, path, interpolation, opacity, most_columns=most_columns)


def similarity_figure(
    images: Any,
    maps: Any,
    point: tuple[int, int],
    image: int | None = None,
    path: FilePath | None = None,
    interpolation: Interpolation = "bilinear",
    opacity: float = 0.65,
) -> "Figure":
    """Draws images with the chosen patch and, beside each, what resembles it.

    Args:
        images: `(batch, height, width, 3)`.
        maps: `(batch, rows, columns)` from `similarity_map`.
        point: (row, column) that was chosen, from 0.
        image: the image that it lies in; None for every image.
        path: file to write.
        interpolation: how maps are enlarged, "bilinear" or "nearest".
        opacity: of the maps, from 0 to 1.

    Returns:
        The figure. All maps share their colours, from the lowest cosine to 1; the
        titles give both ends, and the range of each map.

    Raises:
        ValueError: if the arguments do not fit together.

    Example:
        >>> maps = np.random.default_rng(0).random((2, 4, 4))
        >>> images = np.zeros((2, 32, 32, 3))
        >>> figure = similarity_figure(images, maps, point=(3, 1), path="s.png")
    """
    shown = displayable(images)
    maps = _maps(maps, "maps", (len(shown), None, None))
    grid = maps.shape[1:]
    limits = (min(float(maps.min()), 0.999), 1.0)
    marked = range(len(shown)) if image is None else [image % len(shown)]
    where = f"patch {point[0]},{point[1]} of {grid[0]} x {grid[1]}"
    pairs = []
    for place, (base, heat) in enumerate(zip(shown, maps, strict=True)):
        here = point if place in marked else None
        title = (
            f"cosine, {limits[0]:.2f} to 1\nhere {heat.min():.2f} to {heat.max():.2f}"
        )
        pairs.append(
            [
                Panel(base, None, None, here, grid, where if here else ""),
                Panel(base, heat, limits, here, grid, title),
            ]
        )
    return _draw_pairs(pairs, path, interpolation, opacity)


def layer_figure(
    images: Any,
    maps: Sequence[Any],
    layers: Sequence[int],
    point: tuple[int, int] | None = None,
    path: FilePath | None = None,
    interpolation: Interpolation = "nearest",
    opacity: float = 0.65,
) -> "Figure":
    """Draws each image and, beside it, its map at each of several layers.

    Args:
        images: `(batch, height, width, 3)`.
        maps: one array a layer: `(batch, rows, columns, 3)` from `pca_map`, or
            `(batch, rows, columns)` from `similarity_map`.
        layers: their numbers, for the titles.
        point: (row, column) of the patch of the similarity maps, to be marked.
        path: file to write.
        interpolation: "nearest" shows the patches as they are; or "bilinear".
        opacity: of similarity maps, from 0 to 1.

    Returns:
        The figure.

    Raises:
        ValueError: if the arguments do not fit together.

    Example:
        >>> maps = [np.random.default_rng(0).random((2, 4, 4, 3)) for _ in range(3)]
        >>> figure = layer_figure(np.zeros((2, 32, 32, 3)), maps, layers=[0, 3, 6])
    """
    shown = displayable(images)
    if len(maps) != len(layers) or not len(layers):
        raise ValueError(
            f"Expected one map a layer, got {len(maps)} maps for {len(layers)} layers."
        )
    ends: tuple[int | None, ...] = (3,) if np.ndim(maps[0]) == 4 else ()
    arrays = [_maps(m, "maps", (len(shown), None, None, *ends)) for m in maps]
    groups = []
    for place, image in enumerate(shown):
        grid = arrays[0].shape[1:3]
        group = [Panel(image, None, None, point, grid)]
        for layer, array in zip(layers, arrays, strict=True):
            title = f"layer {layer}"
            if ends:
                group.append(Panel(heat=array[place], title=title))
            else:
                heat = array[place]
                limits = (min(float(heat.min()), 0.999), 1.0)
                title = f"{title}\ncosine, {limits[0]:.2f} to 1"
                group.append(Panel(image, heat, limits, point, grid, title))
        groups.append(group)
    return _draw_rows(groups, path, interpolation, opacity)


def _draw_pairs(
    pairs: list[list[Panel]],
    path: FilePath | None,
    interpolation: Interpolation,
    opacity: float = 1.0,
) -> "Figure":
    panels = [panel for pair in pairs for panel in pair]
    columns = 2 * min(len(pairs), MAX_COLUMNS // 2)
    return draw_panels(panels, columns, path, interpolation, opacity)


def _draw_rows(
    groups: list[list[Panel]],
    path: FilePath | None,
    interpolation: Interpolation,
    opacity: float,
    colours: str = "viridis",
    most_columns: int = MAX_COLUMNS,
) -> "Figure":
    """Draws each image's panels from a new row on."""
    rows = -(-len(groups[0]) // most_columns)
    columns = -(-len(groups[0]) // rows)
    panels: list[Panel | None] = []
    for group in groups:
        panels += [*group, *[None] * (rows * columns - len(group))]
    return draw_panels(panels, columns, path, interpolation, opacity, colours)


def _maps(values: Any, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    array = np.asarray(values, "float32")
    fits = len(array.shape) == len(shape) and all(
        wanted in (None, size) for wanted, size in zip(shape, array.shape, strict=True)
    )
    if not fits or 0 in array.shape:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"Expected {name} of shape ({wanted}), got {array.shape}.")
    return array


def _titles(titles: Sequence[str] | None, count: int) -> list[str]:
    labels = [""] * count if titles is None else list(titles)
    if isinstance(titles, str) or len(labels) != count:
        raise ValueError(f"Expected {count} titles, one an image, got {titles!r}.")
    return labels
