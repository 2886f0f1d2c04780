"""A grid of images with titles: what all figures are made of."""

import dataclasses
import os
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from keras_pe.drawn_figure import new_figure
from keras_pe.files import file_aside

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Interpolation = Literal["nearest", "bilinear"]
MATPLOTLIB_MISSING = (
    'Figures are drawn by Matplotlib, which is missing: pip install "keras-pe[probe]".'
)
DPI = 150
PANEL_INCHES = 1.9  # longer side of a panel
MOST_LINES = 3  # of a text in a title
GAP_INCHES, LINE_INCHES, FONT_POINTS = 0.06, 0.14, 8.0


@dataclasses.dataclass(frozen=True)
class Panel:
    """One image of a figure.

    Attributes:
        image: `(height, width, 3)` from 0 to 1, what lies below; None for nothing.
        heat: `(rows, columns)`, drawn over it in colours; or `(rows, columns, 3)`, the
            colours themselves; None for nothing.
        limits: the scores at both ends of the colours; None takes those of `heat`.
        point: (row, column) of a cell of `grid` to mark; None for none.
        grid: (rows, columns) that `point` counts in.
        title: a line or two above.
    """

    image: np.ndarray | None = None
    heat: np.ndarray | None = None
    limits: tuple[float, float] | None = None
    point: tuple[int, int] | None = None
    grid: tuple[int, int] | None = None
    title: str = ""

    def shape(self) -> tuple[int, int]:
        """Returns (height, width) in units of whichever array there is."""
        array = self.heat if self.image is None else self.image
        if array is None:
            raise ValueError("A panel needs an image or a map.")
        return array.shape[0], array.shape[1]


def displayable(images: Any) -> np.ndarray:
    """Returns model input or uint8 images as float32 from 0 to 1.

    Args:
        images: `(batch, height, width, 3)`, floats in [-1, 1] or uint8.

    Raises:
        ValueError: if the shape or the type is another one.
    """
    if not isinstance(images, np.ndarray):
        from keras import ops

        images = ops.convert_to_numpy(images)
    if images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(
            f"Expected images (batch, height, width, 3), got {images.shape}. For one "
            f"image add an axis: images[None]."
        )
    if images.dtype == np.uint8:
        return images.astype("float32") / np.float32(255)
    if images.dtype.kind != "f":
        raise ValueError(f"Expected floats in [-1, 1] or uint8, got {images.dtype}.")
    return np.clip(images.astype("float32") * 0.5 + 0.5, 0.0, 1.0)


def check_figure_path(path: str | os.PathLike[str]) -> None:
    """Raises unless a figure can be written in the format of this suffix.

    Args:
        path: file to write.

    Raises:
        ValueError: if the suffix is none of an image format.
        ImportError: if Matplotlib is missing.
    """
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError as error:
        raise ImportError(MATPLOTLIB_MISSING) from error
    known = sorted(FigureCanvasBase.get_supported_filetypes())
    suffix = os.path.splitext(os.fspath(path))[1].removeprefix(".").lower()
    if suffix not in known:
        raise ValueError(
            f"{path}: expected the suffix of an image format, one of "
            f"{', '.join(known)}."
        )


def draw_panels(
    panels: Sequence[Panel | None],
    columns: int,
    path: str | os.PathLike[str] | None = None,
    interpolation: Interpolation = "bilinear",
    opacity: float = 0.65,
    colours: str = "viridis",
    panel_inches: float = PANEL_INCHES,
) -> "Figure":
    """Draws panels row by row and, given a path, writes the figure.

    Args:
        panels: at least one; None leaves its place empty.
        columns: panels a row.
        path: file to write, its format from the suffix; None writes none.
        interpolation: how maps are enlarged: "bilinear" or "nearest", which shows the
            patches as they are.
        opacity: of a map over its image, from 0 to 1.
        colours: name of a Matplotlib colour map.
        panel_inches: longer side of a panel.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ValueError: if an argument makes no sense.
        ImportError: if Matplotlib is missing.
    """
    drawn = [panel for panel in panels if panel is not None]
    if not drawn:
        raise ValueError("There is nothing to draw.")
    if interpolation not in get_args(Interpolation):
        raise ValueError(
            f'interpolation must be "nearest" or "bilinear", got {interpolation!r}.'
        )
    if not 0.0 <= opacity <= 1.0:
        raise ValueError(f"opacity must be from 0 to 1, got {opacity}.")
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    shapes = [panel.shape() for panel in drawn]
    across = panel_inches * min(1.0, max(w / h for h, w in shapes))
    down = panel_inches * min(1.0, max(h / w for h, w in shapes))
    titles = [_fitted(panel.title, across) if panel else "" for panel in panels]
    lines = max(title.count("\n") + 1 if title else 0 for title in titles)
    above = GAP_INCHES + LINE_INCHES * lines  # of a panel
    size = (columns * (across + GAP_INCHES) + GAP_INCHES, rows * (down + above))
    size = (size[0], size[1] + GAP_INCHES)
    try:
        figure = new_figure(figsize=size, dpi=DPI)
    except ImportError as error:
        raise ImportError(MATPLOTLIB_MISSING) from error
    for place, panel in enumerate(panels):
        if panel is None:
            continue
        row, column = divmod(place, columns)
        left = GAP_INCHES + column * (across + GAP_INCHES)
        bottom = size[1] - (row + 1) * (down + above)
        box = (left / size[0], bottom / size[1], across / size[0], down / size[1])
        axes = figure.add_axes(box)
        _draw(axes, panel, interpolation, opacity, colours)
        if panel.title:
            axes.set_title(
                titles[place], fontsize=FONT_POINTS, pad=2.5, parse_math=False
            )
    if path is not None:
        check_figure_path(path)
        with file_aside(path) as aside:
            figure.savefig(aside, dpi=DPI)
    return figure


def _draw(
    axes: "Axes",
    panel: Panel,
    interpolation: Interpolation,
    opacity: float,
    colours: str,
) -> None:
    axes.set_axis_off()
    height, width = panel.shape()
    extent = (0.0, float(width), float(height), 0.0)  # maps cover the whole image
    if panel.image is not None and panel.heat is None:
        axes.imshow(panel.image, extent=extent)
    elif panel.image is not None:  # grey, so that the colours are the map's alone
        grey = panel.image @ np.array([0.2126, 0.7152, 0.0722], "float32")
        axes.imshow(grey, cmap="gray", vmin=0, vmax=1, extent=extent)
    if panel.heat is not None:
        low, high = panel.limits or (float(panel.heat.min()), float(panel.heat.max()))
        axes.imshow(
            panel.heat,
            cmap=colours,
            vmin=low,
            vmax=high,
            alpha=1.0 if panel.image is None else opacity,
            extent=extent,
            interpolation=interpolation,
        )
    if panel.point is not None:
        rows, columns = panel.grid or (height, width)
        row, column = panel.point
        x, y = (column + 0.5) * width / columns, (row + 0.5) * height / rows
        axes.plot(x, y, "o", ms=6, mfc="none", mec="white", mew=2.6)
        axes.plot(x, y, "o", ms=6, mfc="none", mec="crimson", mew=1.4)


def _fitted(title: str, inches: float) -> str:
    """Breaks lines that are wider than their panel, and cuts what is longer still."""
    count = max(int(inches * 72 / (0.55 * FONT_POINTS)), 4)  # a letter is half as wide
    lines: list[str] = []
    for line in title.split("\n"):
        # Texts often differ at their end alone, so it is shown.
        lines += [line] if len(line) <= count else textwrap.wrap(
            line, count, max_lines=MOST_LINES, placeholder="…"
        )  # fmt: skip
    return "\n".join(lines)
