"""How a probe scores answers: metrics by name."""

from collections.abc import Callable, Iterable, Mapping, Sequence
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
from keras_pe.probing.language_data import ImageQuestion

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
    if not isinstance(metric, str) or metric not in METRICS:
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
# Those that can't score every right answer, and how they read one.
READ: dict[MetricName, Callable[[str], Any]] = {
    "number": parse_number,
    "box": parse_box,
}


class KindMetrics:
    """The metric of each kind of question.

    Args:
        metric: one for all, by name or as a function, or a mapping by kind.

    Attributes:
        names: what a protocol says of them, by kind; "" is all others.
        bounded: whether all scores are known to lie from 0 to 1.

    Raises:
        ValueError: if there is no such metric.
    """

    def __init__(self, metric: Any) -> None:
        by_kind = metric if isinstance(metric, Mapping) else {"": metric}
        self._given = dict(by_kind)
        self._found = {kind: found_metric(each) for kind, each in by_kind.items()}
        self.names = {kind: name_of(each) for kind, each in by_kind.items()}
        self.bounded = not any(callable(each) for each in by_kind.values())

    def _kind(self, kind: str) -> str:
        """Returns the kind whose metric this one has, itself or all others."""
        found = kind if kind in self._found else ""
        if found not in self._found:
            raise ValueError(
                f"There is no metric for questions of kind {kind!r}, only for "
                f"{sorted(self._found)}."
            )
        return found

    def check(self, asked: Iterable[ImageQuestion]) -> None:
        """Says which questions can't be scored, without scoring any.

        Raises:
            ValueError: if there is no metric for a kind, or it can't read an answer.
        """
        for kind, answer in {(row.kind, row.answer) for row in asked}:
            given = self._given[self._kind(kind)]
            if isinstance(given, str) and given in READ:
                _read(READ[given], answer)

    def scores(
        self, kind: str, answers: Sequence[str], right: Sequence[Sequence[str]]
    ) -> AnswerScores:
        """Returns scores of answers to questions of a kind, one each.

        Raises:
            TypeError: if a metric returns something else.
            ValueError: if these are not as many as there are answers.
        """
        found = self._found[self._kind(kind)](answers, right)
        name = self.names[self._kind(kind)]
        if not isinstance(found, AnswerScores):
            raise TypeError(
                f"The metric {name} returned a {type(found).__name__}: expected "
                f"AnswerScores, such as AnswerScores.of({name!r}, values)."
            )
        if not len(found.values) == len(found.unparsable) == len(answers):
            raise ValueError(
                f"The metric {name} gave {len(found.values)} scores to {len(answers)} "
                f"answers. It must give one to each, in their order."
            )
        return found


def name_of(part: Any) -> Any:
    """Returns what a protocol says of an argument."""
    if part is None or isinstance(part, str | dict):
        return part
    return getattr(part, "name", None) or getattr(part, "__name__", type(part).__name__)
