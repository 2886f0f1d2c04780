"""From the scores of layers to the answer of a sweep."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_pe.arrays import check_finite
from keras_pe.probing.bootstrap import bootstrap_scores, sure_interval
from keras_pe.probing.layer_outputs import LayerName
from keras_pe.probing.probe import Probe, TrainingFreeProbe
from keras_pe.probing.sweep_result import LayerScore, SweepResult


@dataclasses.dataclass(frozen=True)
class LayerOutcome:
    """What the probe of one layer gave, averaged over seeds.

    Attributes:
        statistics: `(test samples, statistics)`.
        validation_score: of the validation samples.
        settings: chosen by each seed.
        seed_scores: test score of each seed.
    """

    statistics: np.ndarray
    validation_score: float
    settings: list[dict[str, Any]]
    seed_scores: list[float]


def best_place(
    probe: Probe | TrainingFreeProbe,
    names: Sequence[LayerName],
    outcomes: Sequence[LayerOutcome],
) -> int:
    """Returns the place of the layer that validation chooses; of equals the first.

    Layer 0, from which no encoder can be made, must be better than all others.

    Raises:
        NonFiniteError: naming the first layer whose score is none.
    """
    scores = check_finite(
        [outcome.validation_score for outcome in outcomes],
        f"validation scores of {probe.name}",
        "place",
        [f"layer {name}" for name in names[: len(outcomes)]],
    )
    scores = scores if probe.higher_is_better else -scores
    best = int(np.argmax(scores))
    equals = np.flatnonzero(scores == scores[best])
    return int(equals[1]) if names[best] == 0 and len(equals) > 1 else best


def summarize(
    probe: Probe | TrainingFreeProbe,
    names: Sequence[LayerName],
    outcomes: Sequence[LayerOutcome],
    baseline: np.ndarray,
    repeats: int,
    protocol: dict[str, Any],
    encoder: keras.Model,
) -> SweepResult:
    """Returns the answer: intervals, the best layer, and how sure that is.

    The protocol gets what the probe was asked for, under "probe".
    """
    options = {
        # As JSON gives it back.
        name: list(value) if isinstance(value, tuple) else value
        for name, value in vars(probe).items()
        if not name.startswith("_")
    }
    # Equal seeds: the same resampled test sets for every layer.
    resampled = [
        bootstrap_scores(outcome.statistics, probe.score, repeats=repeats)
        for outcome in outcomes
    ]
    guess = bootstrap_scores(baseline, probe.score, repeats=repeats)
    rows = []
    for name, outcome, scores in zip(names, outcomes, resampled, strict=True):
        of_samples = probe.score(outcome.statistics)
        low, high = sure_interval(scores, of_samples, probe.bounds)
        rows.append(
            LayerScore(
                layer=name,
                score=float(probe.score(outcome.statistics.mean(axis=0))),
                low=low,
                high=high,
                validation_score=outcome.validation_score,
                seed_scores=tuple(outcome.seed_scores),
                settings=tuple(outcome.settings),
            )
        )
    best = best_place(probe, names, outcomes)

    def gain_over(statistics: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
        of_samples = probe.gain(
            probe.score(outcomes[best].statistics), probe.score(statistics)
        )
        limits = probe.bounds and (-np.ptp(probe.bounds), np.ptp(probe.bounds))
        return sure_interval(probe.gain(resampled[best], scores), of_samples, limits)

    return SweepResult(
        probe=probe.name,
        metric=probe.metric,
        higher_is_better=probe.higher_is_better,
        layers=tuple(rows),
        candidate=rows[best].layer,
        baseline=float(probe.score(baseline.mean(axis=0))),
        gain_over_baseline=gain_over(baseline, guess),
        # The last layer is as good as itself: no chance is in that.
        gain_over_last=(0.0, 0.0)
        if best == len(outcomes) - 1
        else gain_over(outcomes[-1].statistics, resampled[-1]),
        protocol={
            **protocol,
            "probe": options,
            "bounds": probe.bounds and list(probe.bounds),
        },
        encoder=encoder,
        resampled=np.stack(resampled),
    )
