"""Pictures of layer sweeps."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_pe.probing.result import SweepResult


def plot_sweeps(
    results: dict[str, "SweepResult"], path: str | Path | None = None
) -> Any:
    """Draws one curve a sweep, each with its interval and its best layer.

    Sweeps of different metrics get panels of their own.

    Args:
        results: sweeps by the name of their curve.
        path: where the picture is saved; None saves none.

    Returns:
        The Matplotlib figure.
    """
    from matplotlib.figure import Figure

    metrics = list(dict.fromkeys(result.metric for result in results.values()))
    figure = Figure(figsize=(5.2 * len(metrics), 3.6), dpi=150, layout="constrained")
    panels = figure.subplots(1, len(metrics), squeeze=False)[0]
    for panel, metric in zip(panels, metrics, strict=True):
        for name, result in results.items():
            if result.metric == metric:
                draw_sweep(panel, name, result)
        panel.set_xlabel("layer")
        panel.set_ylabel(metric)
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
        if sum(result.metric == metric for result in results.values()) > 1:
            panel.legend(frameon=False, fontsize=8)
        else:
            panel.set_title(next(n for n, r in results.items() if r.metric == metric))
    if path is not None:
        figure.savefig(path)
    return figure


def draw_sweep(panel: Any, name: str, result: "SweepResult") -> None:
    """Draws one curve: interval as a band, a ring around the best layer."""
    rows = result.layers
    places = list(range(len(rows)))
    if all(isinstance(row.layer, int) for row in rows):
        places = [int(row.layer) for row in rows]
    else:
        panel.set_xticks(places, [str(row.layer) for row in rows], rotation=60)
    (line,) = panel.plot(
        places, [row.score for row in rows], marker="o", markersize=3.5, label=name
    )
    color = line.get_color()
    lows, highs = [row.low for row in rows], [row.high for row in rows]
    panel.fill_between(places, lows, highs, color=color, alpha=0.15, linewidth=0)
    panel.axhline(result.baseline, color=color, linestyle=":", linewidth=1)
    if result.best_layer is None:
        return
    best = result[result.best_layer]
    place = places[rows.index(best)]
    panel.plot(
        [place], [best.score], marker="o", markersize=10, fillstyle="none", color=color
    )
    panel.annotate(
        f"{best.layer}: {best.score:.3g}",
        (place, best.score),
        textcoords="offset points",
        xytext=(0, 10 if result.higher_is_better else -16),
        ha="center",
        fontsize=8,
        color=color,
    )
