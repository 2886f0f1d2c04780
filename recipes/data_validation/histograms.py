"""Histograms of the numeric features as one SVG, a baseline drawn as an outline."""

import math
from collections.abc import Mapping
from html import escape
from typing import Any

from recipes.data_validation.rows import RANGE_OF

PANEL_WIDTH, PANEL_HEIGHT, COLUMNS = 300, 170, 3
LEFT, TOP, PLOT_WIDTH, PLOT_HEIGHT = 16, 34, 268, 100
BAR_COLOUR, BASELINE_COLOUR = "#4878a8", "#c8553d"

Shares = dict[str, float]  # lower end of a range -> share of the values


def draw_histograms(dataset: Any, baseline: Any | None = None) -> str:
    """Draws every numeric feature of a data set.

    A bar is a range of `rows.range_of`, so the axis is logarithmic and the counts are
    exact; ranges that neither data set has are left out.

    Args:
        dataset: a `DatasetFeatureStatistics`.
        baseline: one more, drawn as an outline over the same features.

    Returns:
        An SVG document.
    """
    bars = _shares(dataset)
    outlines = _shares(baseline) if baseline is not None else {}
    panels = [
        _panel(number, name, bars[name], outlines.get(name, {}))
        for number, name in enumerate(sorted(bars))
    ]
    columns = min(COLUMNS, max(len(panels), 1))
    width = columns * PANEL_WIDTH
    height = math.ceil(len(panels) / COLUMNS) * PANEL_HEIGHT + 8
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">\n'
        f'<rect width="{width}" height="{height}" fill="white"/>\n'
        + "\n".join(panels)
        + "\n</svg>\n"
    )


def _shares(dataset: Any) -> dict[str, Shares]:
    """Returns the share of each range, feature by feature."""
    shares = {}
    for feature in dataset.features:
        name = ".".join(feature.path.step)
        buckets = feature.string_stats.rank_histogram.buckets
        if not name.startswith(RANGE_OF) or not buckets:
            continue
        total = sum(bucket.sample_count for bucket in buckets)
        shares[name.removeprefix(RANGE_OF)] = {
            bucket.label: bucket.sample_count / total for bucket in buckets
        }
    return shares


def _panel(number: int, name: str, bars: Shares, outline: Shares) -> str:
    row, column = divmod(number, COLUMNS)
    ranges = sorted({*bars, *outline} - {"nan"}, key=float)
    top = max([*bars.values(), *outline.values()])
    step = PLOT_WIDTH / max(len(ranges), 1)
    base = TOP + PLOT_HEIGHT
    ends = (ranges[0], ranges[-1]) if ranges else ("", "")
    parts = [
        f'<g transform="translate({column * PANEL_WIDTH},{row * PANEL_HEIGHT})">',
        f'<text x="{LEFT}" y="22" font-weight="bold">{escape(name)}</text>',
        f'<text x="{LEFT + PLOT_WIDTH}" y="22" text-anchor="end">{top:.1%}</text>',
    ]
    for place, label in enumerate(ranges):
        height = PLOT_HEIGHT * bars.get(label, 0.0) / top
        parts.append(
            f'<rect x="{LEFT + place * step + 0.5:.1f}" y="{base - height:.1f}" '
            f'width="{max(step - 1.0, 0.5):.1f}" height="{height:.1f}" '
            f'fill="{BAR_COLOUR}"/>'
        )
    if outline:
        parts.append(_outline(ranges, outline, top, step))
    parts += [
        f'<line x1="{LEFT}" y1="{base}" x2="{LEFT + PLOT_WIDTH}" y2="{base}" '
        'stroke="black"/>',
        f'<text x="{LEFT}" y="{base + 15}">{ends[0]}</text>',
        f'<text x="{LEFT + PLOT_WIDTH}" y="{base + 15}" '
        f'text-anchor="end">{ends[1]}</text>',
        "</g>",
    ]
    return "\n".join(parts)


def _outline(
    ranges: list[str], shares: Mapping[str, float], top: float, step: float
) -> str:
    points = []
    for place, label in enumerate(ranges):
        y = TOP + PLOT_HEIGHT * (1.0 - shares.get(label, 0.0) / top)
        points.append(f"{LEFT + place * step:.1f},{y:.1f}")
        points.append(f"{LEFT + (place + 1) * step:.1f},{y:.1f}")
    return (
        f'<polyline points="{" ".join(points)}" fill="none" '
        f'stroke="{BASELINE_COLOUR}" stroke-width="1.5"/>'
    )
