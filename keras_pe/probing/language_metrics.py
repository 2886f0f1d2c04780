"""How a probe scores answers: metrics by name."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from keras_pe.evaluation.language import (
    AnswerScores,
    anls,
    box_accuracy,
    exact_match,
    number_accuracy,
    parse_box,
    parse_number,
)

# From answers and the right ones of each, a list, to scores.
Metric = Callable[[Sequence[str], Sequence[Sequence[str]]], AnswerScores]
MetricName = Literal["exact", "anls", "number", "box"]


def found_metric(metric: MetricName | Metric) -> Metric:
    """Returns a metric, or that of a name.

    Raises:
        ValueError: if there is no such metric.
    """
    if callable(metric):
        return metric
    if metric not in METRICS:
        raise ValueError(
            f"There is no metric {metric!r}. Known: {', '.join(METRICS)}; or give a "
            f"function from answers and lists of right ones to AnswerScores."
        )
    return METRICS[metric]


def _numbers(answers: Sequence[str], right: Sequence[Sequence[str]]) -> AnswerScores:
    return number_accuracy(answers, [_read(parse_number, texts[0]) for texts in right])


def _boxes(answers: Sequence[str], right: Sequence[Sequence[str]]) -> AnswerScores:
    return box_accuracy(answers, [_read(parse_box, texts[0]) for texts in right])


def _read(parse: Callable[[str], Any], text: str) -> Any:
    found = parse(text)
    if found is None:
        what = "number" if parse is parse_number else "box"
        raise ValueError(f"The right answer {text!r} is no {what}: score it otherwise.")
    return found


METRICS: dict[str, Metric] = {
    "exact": exact_match,
    "anls": anls,
    "number": _numbers,
    "box": _boxes,
}
