"""Tables that compare layers of encoders: scores, and gains with their intervals."""

from collections.abc import Iterable, Sequence
from typing import Any

# Of an encoder: name, seeds, scores by layer, the best of them, further cells.
Row = tuple[str, int | str, dict[Any, float], float, Sequence[str]]


def layer_table(
    title: str, layers: Sequence[Any], further: Sequence[str], rows: Iterable[Row]
) -> str:
    """Returns a Markdown table of the scores of layers, an encoder a row.

    Args:
        title: what was scored.
        layers: of all encoders.
        further: heads of the columns behind the layers.
        rows: of each encoder, its name, how many seeds, its scores in 0 to 1 by layer
            (a layer without one stays empty), the best of them, and further cells.

    Example:
        >>> rows = [("core", 3, {5: 0.25}, 0.25, ["+1.0"])]
        >>> print(layer_table("names", [4, 5], ["gain"], rows))
        **names**
        <BLANKLINE>
        | encoder | seeds | layer 4 | layer 5 | gain |
        |---|---|---|---|---|
        | core | 3 |  | **25.0** | +1.0 |
    """
    heads = ["encoder", "seeds", *(f"layer {layer}" for layer in layers), *further]
    lines = [f"**{title}**\n", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, seeds, scores, best, cells in rows:
        columns = [score_cell(scores.get(layer), best) for layer in layers]
        lines.append(f"| {' | '.join([name, str(seeds), *columns, *cells])} |")
    return "\n".join(lines)


def score_cell(score: float | None, best: float) -> str:
    """Returns a score in per cent, bold if it is the best of its row."""
    if score is None:
        return ""
    return f"**{100 * score:.1f}**" if score == best else f"{100 * score:.1f}"


def points(found: dict[str, Any] | None) -> str:
    """Returns a gain in points, with its interval; bold if it is more than chance."""
    if found is None:
        return ""
    value = f"{100 * found['gain']:+.1f}"
    sure = found["low"] > 0 or found["high"] < 0
    value = f"**{value}**" if sure else value
    return f"{value} ({100 * found['low']:+.1f} to {100 * found['high']:+.1f})"
