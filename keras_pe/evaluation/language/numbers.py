"""Scores of answers that are to be a number."""

import math
import re
from collections.abc import Sequence

from keras_pe.arrays import is_number
from keras_pe.evaluation.language.answer_scores import AnswerScores, checked_answers

WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen"),
    *("seventeen", "eighteen", "nineteen", "twenty"),
)
_NUMBER = re.compile(r"[-+]?(\d{1,3}(,\d{3})+|\d+)(\.\d+)?|[-+]?\.\d+")


def number_accuracy(
    answers: Sequence[str],
    references: Sequence[float],
    relative_tolerance: float = 0.0,
) -> AnswerScores:
    """Scores 1 for an answer that is the right number.

    Args:
        answers: one a question: digits, or a word up to twenty, and nothing else.
        references: the number of each question.
        relative_tolerance: by which share of it an answer may be off; 0.05 for the
            relaxed accuracy of charts.

    Returns:
        The scores, and which answers were no number.

    Raises:
        TypeError: if answers are no texts.
        ValueError: if the numbers do not fit, or a reference is not finite.

    Source: Masry et al. 2022, "ChartQA" (relaxed accuracy).

    Example:
        >>> print(number_accuracy(["three", "a few"], [3, 4]))
        number_accuracy 0.5000 of 2 answers, 1 of them unparsable
    """
    if not 0.0 <= relative_tolerance < 1.0:
        raise ValueError(
            f"relative_tolerance must be at least 0 and below 1, got "
            f"{relative_tolerance}."
        )
    answers = checked_answers(answers, references, "numbers")
    for place, number in enumerate(references):
        if not is_number(number):
            raise ValueError(
                f"Question {place} has {number!r:.80} as its number, expected a finite "
                f"one; parse_number makes them of texts."
            )
    wanted = [float(number) for number in references]
    found = [parse_number(answer) for answer in answers]
    allowed = [relative_tolerance * abs(number) for number in wanted]
    values = [
        float(number is not None and abs(number - right) <= most)
        for number, right, most in zip(found, wanted, allowed, strict=True)
    ]
    return AnswerScores.of("number_accuracy", values, [n is None for n in found])


def parse_number(text: str) -> float | None:
    """Returns the number that a text is; None if it is none, or says more than one.

    Example:
        >>> parse_number("1,250"), parse_number("Twelve."), parse_number("2 dogs")
        (1250.0, 12.0, None)
    """
    text = text.strip().lower().removesuffix(".")
    if text in WORDS:
        return float(WORDS.index(text))
    if _NUMBER.fullmatch(text) is None or not text.isascii():
        return None
    number = float(text.replace(",", ""))
    return number if math.isfinite(number) else None
