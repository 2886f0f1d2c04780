"""Cells of tables that compare layers: scores, and gains with their intervals."""

from typing import Any


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
