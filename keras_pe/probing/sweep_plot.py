"""Figures of layer sweeps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_pe.drawn_figure import new_figure
from keras_pe.probing.sweep_result import SweepResult


def plot_sweeps(
    results: dict[str, SweepResult],
    path: str | Path | None = None,
    panels: Sequence[Sequence[str]] | None = None,
) -> Any:
    """Draws one curve a sweep, its interval as a band.

    A ring is on the layer that validation chose, which need not have the best score:
    scores are of test samples. The dotted line is the score of a guess that never looks
    at the image. The legend says both.

    Args:
        results: sweeps by the name of their curve.
        path: where the figure is saved; None saves none.
        panels: names of the curves in each panel; None makes one for each metric.

    Returns:
        The Matplotlib figure.

    Raises:
        ValueError: if there is nothing to draw, or a panel holds a name that no sweep
            has, or two metrics.

    Example:
        >>> import numpy as np
        >>> from keras_pe import PEVisionEncoder
        >>> from keras_pe.probing import sweep
        >>> encoder = PEVisionEncoder(image_size=16, patch_size=8, hidden_dim=16,
        ...     num_layers=2, num_heads=2, intermediate_dim=32)
        >>> images = np.random.default_rng(0).uniform(-1, 1, (30, 16, 16, 3))
        >>> labels = (images.mean(axis=(1, 2, 3)) > 0).astype("int64")
        >>> result = sweep(encoder, (images, labels), probe="ridge", progress=False)
        >>> figure = plot_sweeps({"bright or dark": result}, "layers.png")
        >>> len(figure.axes)
        1
    """
    if panels is None:
        metrics = dict.fromkeys(result.metric for result in results.values())
        panels = [[n for n, r in results.items() if r.metric == m] for m in metrics]
    if not len(panels):
        raise ValueError(
            f"There is nothing to draw: {len(results)} sweeps, no panel. Give at least "
            "one sweep by its name."
        )
    for names in panels:
        missing = [name for name in names if name not in results]
        if missing:
            raise ValueError(f"There is no sweep {missing[0]!r}: {', '.join(results)}.")
        if len({results[name].metric for name in names}) != 1:
            raise ValueError(f"A panel needs curves of one metric, got {list(names)}.")
    columns = min(len(panels), 2)  # four in a row would be too small on a page
    rows = -(-len(panels) // columns)
    size = (4.6 * columns, 3.8 * rows)
    figure = new_figure(figsize=size, dpi=150, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for unused in axes[len(panels) :]:
        unused.set_axis_off()
    for panel, names in zip(axes, panels, strict=False):
        for name in names:
            draw_sweep(panel, name, results[name])
        panel.set_xlabel("layer")
        panel.set_ylabel(results[names[0]].metric)
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
        rings = any(results[name].best_layer is not None for name in names)
        panel.legend(
            handles=[*panel.get_legend_handles_labels()[0], *marks(rings)],
            frameon=False,
            fontsize=8,
            loc="lower center",
            bbox_to_anchor=(0.5, 1.0),
        )
    if path is not None:
        figure.savefig(path)
    return figure


def marks(rings: bool) -> list[Any]:
    """Returns the entries of a legend that say what is the same of all curves.

    Args:
        rings: whether a curve has one.
    """
    from matplotlib.lines import Line2D

    ring = Line2D([], [], color="grey", linestyle="", marker="o", markersize=8,
                  fillstyle="none", label="chosen in validation")  # fmt: skip
    guess = Line2D([], [], color="grey", linestyle=":", linewidth=1,
                   label="a guess without the image")  # fmt: skip
    return [ring, guess] if rings else [guess]


def draw_sweep(panel: Any, name: str, result: SweepResult) -> None:
    """Draws one curve, named with its best layer."""
    from matplotlib.ticker import MaxNLocator

    rows = result.layers
    places = list(range(len(rows)))
    if all(isinstance(row.layer, int) for row in rows):
        places = [int(row.layer) for row in rows]
        locator = panel.xaxis.get_major_locator()
        if isinstance(locator, MaxNLocator):  # not the names of another sweep
            locator.set_params(integer=True)  # there is no layer 1.5
    else:
        panel.set_xticks(places, [str(row.layer) for row in rows], rotation=60)
    best = None if result.best_layer is None else result[result.best_layer]
    found = (
        "no layer is called best"
        if best is None
        else f"{best.score:.3g} at layer {best.layer}"
    )
    (line,) = panel.plot(
        places,
        [row.score for row in rows],
        marker="o",
        markersize=3.5,
        label=f"{name}: {found}",
    )
    color = line.get_color()
    lows, highs = [row.low for row in rows], [row.high for row in rows]
    panel.fill_between(places, lows, highs, color=color, alpha=0.15, linewidth=0)
    panel.axhline(result.baseline, color=color, linestyle=":", linewidth=1)
    if best is not None:
        panel.plot(
            [places[rows.index(best)]],
            [best.score],
            marker="o",
            markersize=10,
            fillstyle="none",
            color=color,
        )
