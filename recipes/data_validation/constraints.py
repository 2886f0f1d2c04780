"""Limits as a TFDV schema; statistics and schema to anomalies."""

from collections.abc import Mapping, Sequence
from typing import Any

from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from recipes.data_validation import rows
from recipes.data_validation.checks import (
    CHECKS,
    FAULT,
    GLOBAL_CHECKS,
    JSON_TOLERANCE,
    SOUND,
    Check,
    Thresholds,
)

# A JSON text is a category, and held to the values seen, if each comes this often.
LEAST_USES_OF_A_CATEGORY = 10


def add_verdicts(
    dataset: statistics_pb2.DatasetFeatureStatistics,
    repeats: Mapping[str, Mapping[str, Any]],
    shards: Sequence[Mapping[str, Any]],
) -> None:
    """Adds what was judged over the whole data set, in the form of TFDV's own features.

    Args:
        dataset: statistics, extended in place.
        repeats: check name to totals and distinct ones.
        shards: what was read, with its damage.
    """
    found = {
        name: (summary["total"] - summary["distinct"], summary["total"])
        for name, summary in repeats.items()
    }
    damaged = sum(bool(shard["damage"]) for shard in shards)
    found["shard_unreadable"] = (damaged, len(shards))
    for name in GLOBAL_CHECKS:
        faults, total = found.get(name, (0, 0))
        if total:
            _add_verdict(dataset, name, {SOUND: total - faults, FAULT: faults})


def _add_verdict(
    dataset: statistics_pb2.DatasetFeatureStatistics,
    name: str,
    counts: Mapping[str, int],
) -> None:
    feature = dataset.features.add(type=statistics_pb2.FeatureNameStatistics.STRING)
    feature.path.step.append(name)
    common = feature.string_stats.common_stats
    common.num_non_missing = common.tot_num_values = sum(counts.values())
    common.min_num_values = common.max_num_values = 1
    common.avg_num_values = 1.0
    seen = {value: count for value, count in counts.items() if count}
    feature.string_stats.unique = len(seen)
    for rank, (value, count) in enumerate(seen.items()):
        feature.string_stats.top_values.add(value=value, frequency=count)
        feature.string_stats.rank_histogram.buckets.add(
            low_rank=rank, high_rank=rank, label=value, sample_count=count
        )


def counts_of(
    dataset: statistics_pb2.DatasetFeatureStatistics, check: Check
) -> tuple[int, int]:
    """Returns how many faults a check found, and among how many."""
    for feature in dataset.features:
        if list(feature.path.step) == [check.name]:
            counts = {
                value.value: int(value.frequency)
                for value in feature.string_stats.top_values
            }
            return counts.get(FAULT, 0), sum(counts.values())
    return 0, 0


def make_schema(
    statistics: statistics_pb2.DatasetFeatureStatisticsList,
    inferred: schema_pb2.Schema,
    allowed: Mapping[str, float],
    most_drift: float,
) -> schema_pb2.Schema:
    """Turns a schema that TFDV inferred into one that holds the limits.

    A check becomes a text feature whose domain is "no" and whose `min_domain_mass` is
    one less the share allowed. Our own numeric features are described, not limited.

    Args:
        statistics: what the schema was inferred from.
        inferred: the result of `tfdv.infer_schema`; not changed.
        allowed: check name to share.
        most_drift: Jensen-Shannon divergence from a baseline that is no anomaly.
    """
    schema = schema_pb2.Schema()
    schema.CopyFrom(inferred)
    numbers = (*rows.INTEGER_FEATURES, *rows.FLOAT_FEATURES)
    types = {
        **dict.fromkeys(rows.INTEGER_FEATURES, schema_pb2.INT),
        **dict.fromkeys(rows.FLOAT_FEATURES, schema_pb2.FLOAT),
        **dict.fromkeys(rows.TEXT_FEATURES, schema_pb2.BYTES),
        **{rows.RANGE_OF + name: schema_pb2.BYTES for name in numbers},
        **{check.name: schema_pb2.BYTES for check in CHECKS},
    }
    inferred_ranges = {
        feature.name
        for feature in schema.feature
        if feature.name.startswith(rows.RANGE_OF)
    }
    types |= dict.fromkeys(inferred_ranges, schema_pb2.BYTES)
    by_name = {feature.name: feature for feature in schema.feature}
    for name, kind in types.items():
        feature = by_name.get(name) or schema.feature.add()
        feature.Clear()
        feature.name, feature.type = name, kind
    for feature in schema.feature:
        if feature.name not in types:
            _loosen(feature, schema, statistics.datasets[0])
        if (
            feature.name in rows.TEXT_FEATURES
            or feature.name.startswith(rows.RANGE_OF)
            # Drift of free text and of addresses says nothing: each one is new.
            or feature.WhichOneof("domain_info")
        ):
            comparator = feature.drift_comparator
            comparator.jensen_shannon_divergence.threshold = most_drift
    # Shared domains: those still wanted are now part of their features.
    del schema.string_domain[:]
    allow(schema, allowed)
    return schema


def allow(schema: schema_pb2.Schema, allowed: Mapping[str, float]) -> None:
    """Sets the shares of some checks in a schema; the others stay."""
    by_name = {feature.name: feature for feature in schema.feature}
    for name, share in allowed.items():
        if name == JSON_TOLERANCE:
            continue
        feature = by_name.get(name)
        if feature is None:
            feature = schema.feature.add(name=name, type=schema_pb2.BYTES)
        feature.string_domain.value[:] = [SOUND]
        feature.distribution_constraints.min_domain_mass = 1.0 - share
    if JSON_TOLERANCE in allowed:
        least = 1.0 - allowed[JSON_TOLERANCE]
        for feature in schema.feature:
            if not feature.name.startswith((rows.JSON_TEXT, rows.JSON_NUMBER)):
                continue
            if feature.presence.min_fraction:
                feature.presence.min_fraction = least
            if feature.WhichOneof("domain_info"):
                feature.distribution_constraints.min_domain_mass = least


def set_most_drift(schema: schema_pb2.Schema, most_drift: float) -> None:
    """Sets the divergence that is no anomaly, for every feature that has a limit."""
    for feature in schema.feature:
        if feature.HasField("drift_comparator"):
            comparator = feature.drift_comparator
            comparator.jensen_shannon_divergence.threshold = most_drift


def allowed_by(schema: schema_pb2.Schema) -> dict[str, float]:
    """Returns the shares that a schema allows, check by check."""
    names = {check.name for check in CHECKS}
    return {
        feature.name: 1.0 - feature.distribution_constraints.min_domain_mass
        for feature in schema.feature
        if feature.name in names
    }


def is_category(stats: statistics_pb2.StringStatistics) -> bool:
    """Tells a set of repeated values from free text, addresses and keys."""
    present = stats.common_stats.num_non_missing
    return stats.unique * LEAST_USES_OF_A_CATEGORY <= present


def _loosen(
    feature: schema_pb2.Feature,
    schema: schema_pb2.Schema,
    dataset: statistics_pb2.DatasetFeatureStatistics,
) -> None:
    """Keeps of an inferred JSON feature what will hold for the next data set too."""
    values = next(
        s for s in dataset.features if list(s.path.step) == [feature.name]
    ).string_stats
    if feature.type == schema_pb2.BYTES and not is_category(values):
        feature.ClearField("domain_info")
        return
    if feature.WhichOneof("domain_info") == "bool_domain":
        # TFDV grants a domain of booleans no tolerance.
        feature.string_domain.value[:] = ["false", "true"]
    elif feature.domain:
        domain = next(d for d in schema.string_domain if d.name == feature.domain)
        feature.string_domain.value[:] = domain.value


def note_thresholds(schema: schema_pb2.Schema, thresholds: Thresholds) -> None:
    """Writes beside each check what decided about one sample."""
    comments = {
        "caption_length": (
            f"at least {thresholds.least_caption_words} words, at most "
            f"{thresholds.most_caption_characters} characters"
        ),
        "image_size": (
            f"shorter side at least {thresholds.least_side}, at most "
            f"{thresholds.most_pixels} pixels"
        ),
        "image_aspect_ratio": (
            f"longer side at most {thresholds.most_aspect_ratio:g} times the shorter"
        ),
    }
    for feature in schema.feature:
        if feature.name in comments:
            feature.annotation.comment[:] = [comments[feature.name]]


def explain(
    anomalies: Any,
    dataset: statistics_pb2.DatasetFeatureStatistics,
    schema: schema_pb2.Schema,
    examples: Mapping[str, Sequence[str]],
) -> None:
    """Says in plain words what TFDV found about our own features.

    TFDV's own words, "examples contain values missing from the schema: yes (~2%)",
    stay in the reason.

    Args:
        anomalies: what `tfdv.validate_statistics` returned; changed in place.
        dataset: the statistics that were validated.
        schema: the limits.
        examples: check name to the first samples with that fault.
    """
    shares = allowed_by(schema)
    for name, info in anomalies.anomaly_info.items():
        if name.startswith(rows.RANGE_OF):
            feature = name.removeprefix(rows.RANGE_OF)
            info.short_description = f"{feature} differs from the baseline"
    for check in CHECKS:
        if check.name not in anomalies.anomaly_info:
            continue
        info = anomalies.anomaly_info[check.name]
        faults, total = counts_of(dataset, check)
        first = examples.get(check.name, ())[:5]
        info.short_description = f"Too many {check.counted} that {check.fault}"
        info.description = (
            f"{faults:,} of {total:,} {check.counted} ({faults / max(total, 1):.3%}) "
            f"{check.fault}; at most {shares[check.name]:.3%} allowed."
            + (f" First: {', '.join(first)}." if first else "")
        )
