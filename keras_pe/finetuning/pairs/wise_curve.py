"""Scores along the way from old to new weights, and which point of it is taken."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import keras

from keras_pe.finetuning.pairs.class_scores import ACCURACY
from keras_pe.finetuning.pairs.interpolation import (
    Weights,
    assign_weights,
    interpolated,
)
from keras_pe.finetuning.pairs.pair_scores import SCORE

ALPHAS = tuple(step / 10 for step in range(11))
KEPT = ("remembered", "zero_shot")  # sets of what the model could do before
ROUNDING = 1e-9

Scores = Mapping[str, Mapping[str, float]]  # points by set of pairs and name


@dataclasses.dataclass(frozen=True)
class WisePoint:
    """Scores of interpolated weights.

    Attributes:
        alpha: 0 for the weights before, 1 for the fine-tuned ones.
        scores: points, by set ("validation", "remembered", "zero_shot") and name of
            the score.
    """

    alpha: float
    scores: Scores

    def score(self, of_set: str) -> float | None:
        """Returns the recall at 1 on a set of pairs, or None without such a set.

        Of "zero_shot" it is the accuracy.
        """
        if of_set not in self.scores:
            return None
        return self.scores[of_set][ACCURACY if of_set == "zero_shot" else SCORE]


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
            and zero-shot scores, as far as there are any, fall by at most `forget`
            each; of equal ones the nearest to the weights before.
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

    def remembers(point: WisePoint) -> bool:
        pairs = [(point.score(name), curve[0].score(name)) for name in KEPT]
        return all(
            now >= first - forget - ROUNDING
            for now, first in pairs
            if now is not None and first is not None
        )

    kept = [point for point in curve if remembers(point)]
    return max(kept, key=lambda p: (p.score("validation") or 0.0, -p.alpha)).alpha
