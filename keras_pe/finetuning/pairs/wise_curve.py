"""Scores along the way from old to new weights, and which point of it is taken."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import keras

from keras_pe.finetuning.pairs.interpolation import (
    Weights,
    assign_weights,
    interpolated,
)
from keras_pe.finetuning.pairs.pair_scores import SCORE

ALPHAS = tuple(step / 10 for step in range(11))
ROUNDING = 1e-9

Scores = Mapping[str, Mapping[str, float]]  # points by set of pairs and name


@dataclasses.dataclass(frozen=True)
class WisePoint:
    """Scores of interpolated weights.

    Attributes:
        alpha: 0 for the weights before, 1 for the fine-tuned ones.
        scores: points, by set ("validation", "remembered") and name of the score.
    """

    alpha: float
    scores: Scores

    def score(self, of_set: str) -> float | None:
        """Returns the recall at 1 on a set, or None without such pairs."""
        return self.scores[of_set][SCORE] if of_set in self.scores else None


def wise_curve(
    model: keras.Model,
    before: Weights,
    after: Weights,
    score: Callable[[], Scores],
    alphas: Sequence[float] = ALPHAS,
) -> list[WisePoint]:
    """Scores a model with weights along the line from before to after.

    Args:
        model: of these weights; has those of the last alpha afterwards.
        before: as of `weights_of`.
        after: likewise.
        score: scores the model as it is.
        alphas: where on the line.

    Returns:
        A point for each alpha.

    Source: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models".

    Example:
        >>> curve = wise_curve(model, old, new, score)              # doctest: +SKIP
    """
    found = []
    for alpha in alphas:
        assign_weights(model, interpolated(before, after, alpha))
        found.append(WisePoint(alpha, score()))
    return found


def chosen_alpha(
    curve: Sequence[WisePoint], wise: float | Literal["auto"], forget: float = 1.0
) -> float:
    """Returns which weights are taken.

    Args:
        curve: points from alpha 0 on.
        wise: an alpha, or "auto": the best on validation of those whose remembered
            score falls by at most `forget`; of equal ones the nearest to the weights
            before. Without remembered pairs, the best on validation.
        forget: points.

    Raises:
        ValueError: if "auto" has no validation scores to go by.

    Example:
        >>> def at(alpha, new, old):
        ...     scores = {"validation": {SCORE: new}, "remembered": {SCORE: old}}
        ...     return WisePoint(alpha, scores)
        >>> curve = [at(0.0, 10.0, 80.0), at(0.5, 40.0, 79.5), at(1.0, 50.0, 60.0)]
        >>> chosen_alpha(curve, "auto"), chosen_alpha(curve, "auto", forget=20)
        (0.5, 1.0)
    """
    if wise != "auto":
        return wise
    if not curve or curve[0].score("validation") is None:
        raise ValueError(
            '"auto" chooses by scores of new pairs: give some (--validation-pairs), or '
            "an alpha (--wise 0.5)."
        )
    at_first = curve[0].score("remembered")
    kept = [
        point
        for point in curve
        if at_first is None
        or (point.score("remembered") or 0.0) >= at_first - forget - ROUNDING
    ]
    return max(kept, key=lambda p: (p.score("validation") or 0.0, -p.alpha)).alpha
