"""Draws a run's curves from its CSV files."""

import csv
import math
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANELS = (
    ("loss", "loss"),
    ("learning_rate", "learning rate"),
    ("gradient_norm", "gradient norm"),
    ("logit_scale", "logit scale"),
    ("samples_per_second", "samples a second"),
)


def draw_curves(directory: Path | str, path: Path | str | None = None) -> Path:
    """Draws loss, rate, gradient norm, scale, speed and scores of a run.

    Args:
        directory: a run's directory, with `steps.csv` and perhaps `scores.csv`.
        path: the picture; None is `curves.png` in the directory.

    Returns:
        The path of the picture.

    Raises:
        FileNotFoundError: if the directory holds no run.

    Example:
        >>> draw_curves("runs/emoji")                                # doctest: +SKIP
    """
    figure = curve_figure(Path(directory))
    path = Path(path) if path is not None else Path(directory) / "curves.png"
    figure.savefig(path, dpi=110)
    return path


def curve_figure(directory: Path) -> "Figure":
    """Returns the drawing itself."""
    from matplotlib.figure import Figure  # no display is needed
    from matplotlib.ticker import EngFormatter, MaxNLocator

    steps = read_columns(directory / "steps.csv")
    if not steps:
        raise FileNotFoundError(f"{directory / 'steps.csv'} holds no steps yet.")
    scores_path = directory / "scores.csv"
    scores = read_columns(scores_path) if scores_path.exists() else {}
    score_names = [n for n in scores if n not in ("step", "samples", "seconds")]
    panels = [p for p in PANELS if any(v is not None for v in steps.get(p[0], []))]
    rows = -(-(len(panels) + bool(score_names)) // 2)
    figure = Figure(figsize=(11, 3.0 * rows), layout="constrained")
    axes = figure.subplots(rows, 2, squeeze=False).ravel()
    samples = filled(steps["samples"])
    for axis, (name, label) in zip(axes, panels, strict=False):
        axis.plot(samples, filled(steps[name]), linewidth=0.8)
        axis.set_ylabel(label)
    if score_names:
        axis = axes[len(panels)]
        for name in score_names:
            x, y = filled(scores["samples"]), filled(scores[name])
            axis.plot(x, y, marker="o", ms=3, label=name)
        axis.set_ylabel("validation")
        axis.legend(fontsize=8)
    for axis in axes[len(panels) + bool(score_names) :]:
        axis.remove()
    changes = [
        samples[i]
        for i in range(1, len(samples))
        if steps["image_size"][i] != steps["image_size"][i - 1]
    ]
    for axis in figure.axes:
        axis.set_xlabel("samples")
        axis.xaxis.set_major_locator(MaxNLocator(6))
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))  # 50k, 2M, 10G
        axis.grid(alpha=0.3)
        for change in changes:  # where the resolution grows
            axis.axvline(change, color="grey", linewidth=0.8, linestyle="--")
    return figure


def filled(column: list[float | None]) -> list[float]:
    """Returns a column with NaN, which is not drawn, for empty cells."""
    return [math.nan if value is None else value for value in column]


def read_columns(path: Path) -> dict[str, list[float | None]]:
    """Returns a CSV file's columns, none without rows; an empty cell is None."""
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return {
        name: [float(row[name]) if row[name] else None for row in rows]
        for name in (rows[0] if rows else ())
    }
