"""What a fine-tuning won and forgot, as JSON, Markdown and a picture."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_pe.drawn_figure import new_figure
from keras_pe.files import file_aside, write_atomically
from keras_pe.finetuning.pairs.class_scores import ACCURACY
from keras_pe.finetuning.pairs.pair_scores import SCORE, Change
from keras_pe.finetuning.pairs.wise_curve import KEPT, WisePoint

if TYPE_CHECKING:
    from matplotlib.figure import Figure


TITLES = {
    "validation": "Validation pairs",
    "remembered": "Remembered pairs",
    "zero_shot": "Images of zero-shot classes",
}
AXES = {
    "validation": "validation pairs: mean recall at 1, points",
    "remembered": "remembered pairs: mean recall at 1, points",
    "zero_shot": "zero-shot classes: accuracy, points",
}


@dataclasses.dataclass(frozen=True)
class Forgotten:
    """What became of a set of pairs.

    Attributes:
        num_pairs: in it; of zero-shot classes, images.
        changes: by name of the score, before against the weights of the preset.
        image_cosine: mean cosine of the embeddings of its images, old with new.
    """

    num_pairs: int
    changes: Mapping[str, Change]
    image_cosine: float


# === Along alpha ===
def write_wise(
    folder: Path, curve: Sequence[WisePoint], chosen: float, rule: Mapping[str, Any]
) -> None:
    """Writes `wise_ft.json`, `wise_ft.md` and `wise_ft.png`.

    Args:
        folder: of the run.
        curve: scores along alpha.
        chosen: alpha of the preset.
        rule: how it was chosen, for the JSON.
    """
    content = {
        **rule,
        "chosen": chosen,
        "points": [dataclasses.asdict(point) for point in curve],
    }
    write_atomically(folder / "wise_ft.json", _json(content))
    write_atomically(folder / "wise_ft.md", wise_table(curve, chosen))
    with file_aside(folder / "wise_ft.png") as aside:
        wise_figure(curve, chosen).savefig(aside, dpi=110, format="png")


def wise_table(curve: Sequence[WisePoint], chosen: float) -> str:
    """Returns the scores as a table of Markdown.

    Args:
        curve: scores along alpha.
        chosen: alpha of the preset, which is marked.

    Example:
        >>> point = WisePoint(0.5, {"validation": {"recall_at_1": 12.34}})
        >>> print(wise_table([point], 0.5).splitlines()[-1])
        | **0.5** | 12.3 |
    """
    columns = [
        (part, name)
        for part, scores in curve[0].scores.items()
        for name in scores
        if name.endswith((SCORE, ACCURACY))  # the JSON has all of them
    ]
    lines = [
        "# Between the weights before and after fine-tuning (WiSE-FT)",
        "",
        "Points of 100; alpha 0 is before, 1 fine-tuned, **bold** the preset's.",
        "",
        "| alpha | " + " | ".join(f"{_said(p)}: {_said(n)}" for p, n in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for point in curve:
        alpha = f"**{point.alpha:g}**" if point.alpha == chosen else f"{point.alpha:g}"
        cells = [f"{point.scores[part][name]:.1f}" for part, name in columns]
        lines.append(f"| {' | '.join([alpha, *cells])} |")
    return "\n".join(lines) + "\n"


def wise_figure(curve: Sequence[WisePoint], chosen: float) -> "Figure":
    """Draws the new score against what was remembered, or against alpha without any.

    Args:
        curve: scores along alpha.
        chosen: alpha of the preset, which has a ring.

    Returns:
        The Matplotlib figure: a panel for each of "remembered" and "zero_shot", or one.
    """
    sets = curve[0].scores
    new = next(name for name in ("validation", *KEPT) if name in sets)
    against: list[str | None] = [name for name in KEPT if name in sets and name != new]
    against = against or [None]
    size = (5.5 * len(against), 4.4)
    figure = new_figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(against), sharey=True, squeeze=False)[0]
    for axis, name in zip(panels, against, strict=True):
        _draw_curve(axis, curve, chosen, new, name)
    panels[0].set_ylabel(AXES[new])
    return figure


def _draw_curve(
    axis: Any, curve: Sequence[WisePoint], chosen: float, new: str, kept: str | None
) -> None:
    x = [point.alpha if kept is None else point.score(kept) for point in curve]
    y = [point.score(new) for point in curve]
    axis.plot(x, y, marker="o", ms=4)
    axis.margins(0.12)  # rings and labels need room
    axis.grid(alpha=0.3)
    axis.set_xlabel("alpha: 0 before, 1 fine-tuned" if kept is None else AXES[kept])
    labels: dict[tuple[Any, Any], list[str]] = {}
    for place, point in enumerate(curve):
        at = (x[place], y[place])
        if point.alpha == chosen:
            axis.plot(*at, "o", ms=11, fillstyle="none", color="black")
        if point.alpha in (curve[0].alpha, chosen, curve[-1].alpha):
            labels.setdefault(at, []).append(f"{point.alpha:g}")
    if kept is None:
        return
    low, high = axis.get_xlim()
    for at, alphas in labels.items():
        # Towards the inside: the curve runs along the upper right.
        right = at[0] > (low + high) / 2
        axis.annotate(
            f"alpha {', '.join(alphas)}",
            at,
            (-10, -4) if right else (4, -16),
            textcoords="offset points",
            ha="right" if right else "left",
        )


# === Before and after ===
def write_forgotten(folder: Path, sets: Mapping[str, Forgotten], alpha: float) -> None:
    """Writes `forgotten.json` and `forgotten.md`.

    Args:
        folder: of the run.
        sets: "validation" and "remembered" pairs, and images of "zero_shot" classes,
            as far as there are any.
        alpha: of the preset's weights.
    """
    content = {
        "alpha": alpha,
        "sets": {name: dataclasses.asdict(of) for name, of in sets.items()},
    }
    write_atomically(folder / "forgotten.json", _json(content))
    write_atomically(folder / "forgotten.md", forgotten_table(sets, alpha))


def forgotten_table(sets: Mapping[str, Forgotten], alpha: float) -> str:
    """Returns what was won and lost as Markdown.

    Args:
        sets: as of `write_forgotten`.
        alpha: of the preset's weights.
    """
    lines = [
        f"# Before and after fine-tuning (alpha {alpha:g})",
        "",
        "Recall and accuracy in points of 100. The interval is that of the gain on the "
        "same pairs or images, 95 %, by paired bootstrap.",
    ]
    for name, of in sets.items():
        lines += [
            "",
            f"## {TITLES[name]}: {of.num_pairs}",
            f"Mean cosine of image embeddings, old with new: {of.image_cosine:.4f}",
            "",
            "| score | before | after | gain |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| {_said(score)} | {c.before:.1f} | {c.after:.1f} | {c} |"
            for score, c in of.changes.items()
        ]
    return "\n".join(lines) + "\n"


def _said(score: str) -> str:
    return score.replace("zero_shot", "zero-shot").replace("_", " ")


def _json(content: Any) -> str:
    return json.dumps(content, indent=2, allow_nan=False) + "\n"
