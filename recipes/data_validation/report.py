"""What was found, for people: one Markdown page."""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from recipes.data_validation.checks import CHECKS
from recipes.data_validation.constraints import allowed_by, counts_of, is_category
from recipes.data_validation.rows import RANGE_OF

TOP_VALUES = 5
EXAMPLES_SHOWN = 10


def write_report(
    dataset: Any,
    schema: Any,
    anomalies: Any,
    data: Mapping[str, Any],
    examples: Mapping[str, Sequence[str]],
    repeats: Mapping[str, Mapping[str, Any]],
    baseline: str | None,
) -> str:
    """Writes the report.

    Args:
        dataset: the `DatasetFeatureStatistics`.
        schema: the `Schema` it was held to.
        anomalies: the `Anomalies` found.
        data: what was read: the content of `data.json`.
        examples: check name to the first samples with that fault.
        repeats: check name to totals and the most repeated.
        baseline: what drift was measured against, if anything.

    Returns:
        Markdown. Texts from the data are escaped.
    """
    problems = list(anomalies.anomaly_info.items())
    size = sum(shard["bytes"] for shard in data["shards"])
    parts = [
        "# Data validation",
        f"{data['samples']:,} samples in {len(data['shards']):,} shards, "
        f"{size / 1e6:,.1f} MB. "
        + (
            f"**{number_of_anomalies(anomalies)} anomalies.**"
            if number_of_anomalies(anomalies)
            else "No anomalies."
        ),
        "## Anomalies",
        _anomalies(anomalies, problems),
        "## Checks",
        _checks(dataset, schema, anomalies),
        "## Numbers",
        _numbers(dataset),
        "![histograms](histograms.svg)",
        "Bars: shares of this data set, the highest above; a logarithmic axis."
        + (f" Red line: `{_plain(baseline)}`." if baseline else ""),
        "## Texts",
        _texts(dataset),
    ]
    if anomalies.drift_skew_info:
        parts += ["## Drift from the baseline", _drift(anomalies)]
    if examples:
        parts += ["## First samples with a fault", _examples(examples)]
    if any(summary["most"] for summary in repeats.values()):
        parts += ["## Most repeated", _repeats(repeats)]
    parts += ["## Shards", _shards(data["shards"]), "## Made with", _versions(data)]
    return "\n\n".join(parts) + "\n"


def number_of_anomalies(anomalies: Any) -> int:
    """Counts anomalies of features and of the data set as a whole."""
    return (
        len(anomalies.anomaly_info)
        + anomalies.HasField("dataset_anomaly_info")
        + anomalies.data_missing
    )


def _anomalies(anomalies: Any, problems: Iterable[tuple[str, Any]]) -> str:
    lines = [
        f"* **{_plain(name)}**: {_plain(info.short_description)}. "
        f"{_plain(info.description)}"
        for name, info in sorted(problems)
    ]
    if anomalies.HasField("dataset_anomaly_info"):
        lines.append(f"* {_plain(anomalies.dataset_anomaly_info.description)}")
    if anomalies.data_missing:
        lines.append("* There is no sample at all.")
    return "\n".join(lines) or "None."


def _checks(dataset: Any, schema: Any, anomalies: Any) -> str:
    shares = allowed_by(schema)
    comments = {
        feature.name: " ".join(feature.annotation.comment) for feature in schema.feature
    }
    lines = []
    for check in CHECKS:
        faults, total = counts_of(dataset, check)
        lines.append(
            (
                check.name,
                f"{check.counted} that {check.fault}"
                + (f" ({comments[check.name]})" if comments.get(check.name) else ""),
                f"{faults:,} of {total:,}",
                f"{faults / total:.3%}" if total else "",
                f"{shares[check.name]:.3%}" if check.name in shares else "",
                "**anomaly**" if check.name in anomalies.anomaly_info else "ok",
            )
        )
    return _table(("check", "counts", "found", "share", "allowed", ""), lines)


def _numbers(dataset: Any) -> str:
    lines = []
    for feature in _features(dataset, "num_stats"):
        stats = feature.num_stats
        lines.append(
            (
                ".".join(feature.path.step),
                f"{stats.common_stats.num_non_missing:,}",
                f"{stats.common_stats.num_missing:,}",
                *(
                    f"{value:.4g}"
                    for value in (
                        stats.min,
                        stats.median,
                        stats.mean,
                        stats.max,
                        stats.std_dev,
                    )
                ),
            )
        )
    head = ("feature", "present", "missing", "min", "median", "mean", "max", "std dev")
    return _table(head, lines)


def _texts(dataset: Any) -> str:
    checks = {check.name for check in CHECKS}
    lines = []
    for feature in _features(dataset, "string_stats"):
        stats, name = feature.string_stats, ".".join(feature.path.step)
        if name in checks or name.startswith(RANGE_OF):
            continue
        most = []
        if is_category(stats):  # for others TFDV's counts are rough guesses
            most = [
                f"{_shorten(value.value)} ({value.frequency:,.0f})"
                for value in stats.top_values[:TOP_VALUES]
            ]
        lines.append(
            (
                name,
                f"{stats.common_stats.num_non_missing:,}",
                f"{stats.common_stats.num_missing:,}",
                f"{stats.unique:,}",
                ", ".join(most),
            )
        )
    return _table(
        ("feature", "present", "missing", "distinct, about", "most frequent"), lines
    )


def _drift(anomalies: Any) -> str:
    lines = [
        (
            ".".join(info.path.step),
            f"{measure.value:.4f}",
            f"{measure.threshold:g}",
            "**anomaly**" if measure.value > measure.threshold else "ok",
        )
        for info in anomalies.drift_skew_info
        for measure in info.drift_measurements
    ]
    head = ("feature", "Jensen-Shannon divergence", "allowed", "")
    return _table(head, sorted(lines))


def _examples(examples: Mapping[str, Sequence[str]]) -> str:
    lines = [
        (name, ", ".join(_shorten(key, 120) for key in keys[:EXAMPLES_SHOWN]))
        for name, keys in sorted(examples.items())
    ]
    return _table(("check", "samples"), lines)


def _repeats(repeats: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [
        (name, f"{count:,}", _shorten(text))
        for name, summary in sorted(repeats.items())
        for count, text in summary["most"]
    ]
    return _table(("check", "times", "which"), lines)


def _shards(shards: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        (shard["name"], f"{shard['samples']:,}", f"{shard['bytes']:,}", shard["damage"])
        for shard in sorted(shards, key=lambda shard: not shard["damage"])[:20]
    ]
    table = _table(("shard", "samples", "bytes", "damage"), lines)
    hidden = len(shards) - len(lines)
    return table + (f"\n\nand {hidden:,} more." if hidden else "")


def _versions(data: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {v}" for name, v in data["versions"].items())
    seconds = data["seconds"]
    return (
        f"{versions}. The pipeline took {seconds:,.1f} s, "
        f"{data['samples'] / max(seconds, 1e-9):,.0f} samples a second."
    )


def _features(dataset: Any, kind: str) -> list[Any]:
    found = [f for f in dataset.features if f.WhichOneof("stats") == kind]
    return sorted(found, key=lambda feature: list(feature.path.step))


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head)]
    rows += [[_plain(cell) for cell in line] for line in lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _shorten(text: str, characters: int = 40) -> str:
    return text if len(text) <= characters else text[: characters - 1] + "…"


def _plain(text: str) -> str:
    """Makes a text from the data harmless in Markdown and in HTML."""
    text = html.escape(" ".join(text.split()), quote=False)
    for special in "|[`":
        text = text.replace(special, f"&#{ord(special)};")
    return text
