"""What each answer scored, and which could not be read at all."""

import dataclasses
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np

from keras_pe.arrays import check_finite
from keras_pe.evaluation.intervals import Score, mean_value

MOST = {"cider": 10.0}  # where it is not 1


@dataclasses.dataclass(frozen=True)
class AnswerScores:
    """Scores of answers, in their order.

    Attributes:
        metric: what was scored.
        values: float64 `(answers,)`, higher is better.
        unparsable: bool `(answers,)`, true for an answer that is no number, or no box,
            where one was asked for. It scores 0.

    Example:
        >>> scores = AnswerScores.of("number_accuracy", [1.0, 0.0], [False, True])
        >>> print(scores)
        number_accuracy 0.5000 of 2 answers, 1 of them unparsable
    """

    metric: str
    values: np.ndarray
    unparsable: np.ndarray

    @classmethod
    def of(
        cls,
        metric: str,
        values: Sequence[float],
        unparsable: Sequence[bool] | None = None,
    ) -> "AnswerScores":
        """Returns scores, one an answer; None where each answer could be read.

        Raises:
            ValueError: if there are none, or one is not finite.
        """
        array = np.asarray(values, "float64")
        bad = np.asarray([False] * len(array) if unparsable is None else unparsable)
        if array.ndim != 1 or bad.shape != array.shape or not len(array):
            raise ValueError(
                f"Scores must be one an answer, and there must be some, got "
                f"{array.shape} and {bad.shape}."
            )
        return cls(metric, check_finite(array, metric, "answer"), bad)

    @property
    def mean(self) -> float:
        """The mean over all answers, those that could not be read among them."""
        return float(self.values.mean())

    def score(self, images: np.ndarray | None = None) -> Score:
        """Returns the mean with its 95 % interval over images.

        Args:
            images: int `(answers,)`, the image that each answer is about: images are
                drawn with all answers of theirs. None: each has its own.
        """
        bounds = (0.0, MOST.get(self.metric, 1.0))
        return mean_value(self.values, images, bounds=bounds)

    def __str__(self) -> str:
        text = f"{self.metric} {self.mean:.4f} of {len(self.values)} answers"
        count = int(self.unparsable.sum())
        return f"{text}, {count} of them unparsable" if count else text


def checked_answers(answers: Any, references: Any, what: str) -> list[str]:
    """Returns the answers, or says why they are none or do not fit the references.

    Args:
        answers: texts, one a question.
        references: as many of anything.
        what: what the references are, for the error.

    Raises:
        TypeError: if an answer is no text, or all are one text.
        ValueError: if there are none, or not as many as references.
    """
    if isinstance(answers, str) or isinstance(references, str):
        raise TypeError("Answers and references come in lists, got one text.")
    for given in (answers, references):
        if not hasattr(given, "__len__") or isinstance(given, Mapping | Set | bytes):
            raise TypeError(
                f"Answers and references come in lists, got {given!r:.80} "
                f"({type(given).__name__})."
            )
    answers = list(answers)
    for place, answer in enumerate(answers):
        if not isinstance(answer, str):
            raise TypeError(
                f"Answers must be texts, got {answer!r:.80} as answer {place}."
            )
    if not answers or len(answers) != len(references):
        raise ValueError(
            f"Each answer needs its {what}: got {len(answers)} answers and "
            f"{len(references)} of those."
        )
    return answers


def checked_references(references: Sequence[Any], least: int = 1) -> list[list[str]]:
    """Returns the right answers of each question, or says why they are none.

    Raises:
        TypeError: if they are no lists of texts.
        ValueError: if there are fewer than `least` of a question.
    """
    found = []
    for place, texts in enumerate(references):
        listed = isinstance(texts, list | tuple)
        if not listed or not all(isinstance(text, str) for text in texts):
            raise TypeError(
                f"Right answers are a list of texts for each question, got "
                f"{texts!r:.80} for question {place}."
            )
        if len(texts) < least:
            raise ValueError(
                f"Question {place} has {len(texts)} right answers, expected at least "
                f"{least}."
            )
        found.append(list(texts))
    return found
