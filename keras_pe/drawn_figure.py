"""Figures that need no display, and that a notebook shows."""

import functools
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(**options: Any) -> "Figure":
    """Returns an empty Matplotlib figure that no backend of Matplotlib's manages.

    A notebook shows figures of Matplotlib's once `pyplot` has made one. Without that, a
    cell that ends with a figure would print its name alone: so this one says itself
    what its picture is.

    Args:
        options: of `matplotlib.figure.Figure`.

    Raises:
        ImportError: if Matplotlib is missing.

    Example:
        >>> new_figure(figsize=(2, 1))._repr_png_()[1:4]
        b'PNG'
    """
    from matplotlib.figure import Figure

    figure = Figure(**options)
    # Of the object, not of a class of ours: figures can be copied and pickled.
    setattr(figure, "_repr_png_", functools.partial(_png, figure))  # noqa: B010
    return figure


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    return buffer.getvalue()
