"""Two sweeps compared on the same test samples."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from keras_pe.exact_interval import constant_limits
from keras_pe.probing.bootstrap import ROUNDING, interval
from keras_pe.probing.layer_outputs import LayerName
from keras_pe.probing.sweep_result import LayerScore, SweepResult

# The layer that validation chose, or the last one; or its name.
Choice = LayerName | Literal["best", "last"]


@dataclasses.dataclass(frozen=True)
class PairedGain:
    """By how much one encoder's layer is better than another's.

    Attributes:
        gain: mean over the results that were given; above 0 is better, also where the
            metric is an error.
        low: lower end of its 95 % interval over test samples.
        high: upper end.
        of_each: the gain of each result alone, such as of each seed.
        layers: the layer of each result.
        other_layers: what they were compared with.

    Example:
        >>> print(PairedGain(0.031, 0.02, 0.041, (0.03, 0.032), (6, 6), (5, 5)))
        +0.0310 [+0.0200, +0.0410]
    """

    gain: float
    low: float
    high: float
    of_each: tuple[float, ...]
    layers: tuple[LayerName, ...]
    other_layers: tuple[LayerName, ...]

    def __str__(self) -> str:
        return f"{self.gain:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


def paired_gain(
    results: SweepResult | Sequence[SweepResult],
    others: SweepResult | Sequence[SweepResult],
    layer: Choice = "last",
    other_layer: Choice = "best",
) -> PairedGain:
    """Returns by how much sweeps beat other sweeps of the same task.

    Both are scored on the same resampled test sets, so what makes a test sample easy
    for all encoders cancels. Of several sweeps on a side, such as of an encoder trained
    with several seeds, scores are averaged: the interval is over test samples, and
    `of_each` shows what the seeds do.

    Args:
        results: one sweep or several.
        others: one, which each of `results` is compared with, or as many as those.
        layer: which layer of `results`: its name, "last", or "best" for the one that
            validation chose.
        other_layer: which layer of `others`.

    Returns:
        The gain with its interval.

    Raises:
        ValueError: if the sweeps differ in probe, settings or test samples, or were
            read from files without resampled scores.
        KeyError: if a layer was not swept.

    Example:
        >>> from keras_pe import PEVisionEncoder
        >>> from keras_pe.probing import sweep
        >>> encoder = PEVisionEncoder(image_size=16, patch_size=8, hidden_dim=16,
        ...     num_layers=2, num_heads=2, intermediate_dim=32)
        >>> images = np.random.default_rng(0).uniform(-1, 1, (30, 16, 16, 3))
        >>> labels = (images.mean(axis=(1, 2, 3)) > 0).astype("int64")
        >>> result = sweep(encoder, (images, labels), probe="ridge", progress=False)
        >>> paired_gain(result, result, layer=1, other_layer=1).gain
        0.0
    """
    rows = [results] if isinstance(results, SweepResult) else list(results)
    against = [others] if isinstance(others, SweepResult) else list(others)
    if len(against) == 1:
        against *= len(rows)
    if not rows or len(against) != len(rows):
        raise ValueError(
            f"{len(rows)} sweeps against {len(against)}: expected one other for all, "
            "or one for each."
        )
    for other in [*rows[1:], *against]:
        _check_alike(rows[0], other)
    first = [_scores(result, layer) for result in rows]
    second = [_scores(result, other_layer) for result in against]
    sign = 1.0 if rows[0].higher_is_better else -1.0
    differences = [
        sign * (mine.score - its.score)
        for (mine, _), (its, _) in zip(first, second, strict=True)
    ]
    resampled = [
        sign * (mine - its) for (_, mine), (_, its) in zip(first, second, strict=True)
    ]
    return PairedGain(
        float(np.mean(differences)),
        *_interval(np.mean(resampled, axis=0), rows[0].protocol, first, second),
        tuple(differences),
        tuple(mine.layer for mine, _ in first),
        tuple(its.layer for its, _ in second),
    )


def _scores(result: SweepResult, choice: Choice) -> tuple[LayerScore, np.ndarray]:
    """Returns the score of a layer, and those of resampled test sets."""
    named: dict[Any, LayerName] = {"best": result.candidate, "last": result.last_layer}
    row = result[named.get(choice, choice)]
    assert result.resampled is not None  # checked
    return row, result.resampled[result.layers.index(row)]


def _interval(
    gains: np.ndarray, protocol: dict[str, Any], first: list[Any], second: list[Any]
) -> tuple[float, float]:
    """Returns the 95 % interval of resampled gains; the exact one if all are alike."""
    low, high = interval(gains)
    itself = all(mine is its for (mine, _), (its, _) in zip(first, second, strict=True))
    bounds = protocol.get("bounds")
    if np.ptp(gains) > ROUNDING or itself or bounds is None:
        return low, high
    span = float(np.ptp(bounds))
    # Both right in all of few samples: they may still differ in others.
    return constant_limits((low + high) / 2, protocol["test"], (-span, span))


def _check_alike(result: SweepResult, other: SweepResult) -> None:
    """Refuses to subtract what was measured in two ways or on two test sets."""
    for each in (result, other):
        if each.resampled is None:
            raise ValueError(
                f"A {each.probe} sweep has no resampled scores: it was read from a "
                "file that was written without them. Sweep again, and write it with "
                "to_json(path, resampled=True)."
            )
    mine, its = (
        {
            "probe": each.probe,
            "its settings": each.protocol["probe"],
            "test samples": each.protocol["test"],
            "test targets (SHA-256)": each.protocol.get("test_sha256"),
            "resampled sets": np.asarray(each.resampled).shape[-1],
        }
        for each in (result, other)
    )
    for what, value in mine.items():
        if value != its[what]:
            raise ValueError(
                f"Two sweeps differ in {what}: {value} and {its[what]}. Gains are of "
                "equal probes on the same test samples."
            )
