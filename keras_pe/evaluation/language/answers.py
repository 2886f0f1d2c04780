"""Scores of short answers: exact match, the accuracy of VQA, and of reading (ANLS)."""

import re
import unicodedata
from collections.abc import Sequence

from keras_pe.evaluation.language.answer_scores import (
    AnswerScores,
    checked_answers,
    checked_references,
)
from keras_pe.evaluation.language.vqa_words import (
    ARTICLES,
    CONTRACTIONS,
    NUMBERS,
    PUNCTUATION,
)

ANLS_THRESHOLD = 0.5
ENOUGH = 3  # people of ten who gave an answer make it right
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")


# === Exact match ===
def exact_match(
    answers: Sequence[str], references: Sequence[Sequence[str]]
) -> AnswerScores:
    """Scores 1 for an answer that is one of the right ones, else 0.

    Case, articles, spaces and a period at the end make no difference.

    Args:
        answers: one a question.
        references: right answers of each question.

    Returns:
        The scores.

    Raises:
        TypeError: if answers are no texts.
        ValueError: if the numbers do not fit.

    Example:
        >>> exact_match(["A dog."], [["dog", "puppy"]]).mean
        1.0
    """
    answers = checked_answers(answers, references, "right answers")
    known = checked_references(references)
    values = [
        float(plain(answer) in {plain(text) for text in texts})
        for answer, texts in zip(answers, known, strict=True)
    ]
    return AnswerScores.of("exact_match", values)


def plain(text: str) -> str:
    """Returns a text without what exact match does not look at."""
    text = unicodedata.normalize("NFC", text).casefold().strip()
    text = text.removesuffix(".").strip() or text
    words = text.split()
    # Where nothing else is said, the article is the answer: choices are named A to D.
    return " ".join([word for word in words if word not in ARTICLES] or words)


# === VQA ===
def vqa_accuracy(
    answers: Sequence[str], references: Sequence[Sequence[str]]
) -> AnswerScores:
    """Scores answers by how many of ten people gave the same.

    Each person is left out once: the score is the mean over them of `min(1, n / 3)`,
    where n of the others gave that answer. Both sides are normalised as there:
    punctuation, articles, numbers in words, contractions.

    Args:
        answers: one a question.
        references: of each question the answers of people, ten in VQA v2, two at least.

    Returns:
        The scores.

    Raises:
        TypeError: if answers are no texts.
        ValueError: if the numbers do not fit.

    Source: Antol et al. 2015, "VQA"; `vqaEval.py` of its authors (as in LAVIS, commit
        200ac17), which leaves people's answers that VQA has normalised as they are.

    Example:
        >>> people = ["two"] * 3 + ["3"] * 7
        >>> vqa_accuracy(["2"], [people]).mean.__round__(2)
        0.9
    """
    answers = checked_answers(answers, references, "people's answers")
    known = checked_references(references, least=2)
    values = []
    for answer, texts in zip(answers, known, strict=True):
        ours = vqa_normalized(answer)
        same = [vqa_normalized(text) == ours for text in texts]
        count = sum(same)
        scores = [min(1.0, (count - equal) / ENOUGH) for equal in same]
        values.append(sum(scores) / len(scores))
    return AnswerScores.of("vqa_accuracy", values)


def vqa_normalized(text: str) -> str:
    """Returns an answer as VQA's own script compares it."""
    text = text.replace("\n", " ").replace("\t", " ").strip()
    found = text
    number = _COMMA_IN_NUMBER.search(text) is not None
    for sign in PUNCTUATION:
        # What stands between two words separates them; what stands at one's end not.
        at_an_end = f"{sign} " in text or f" {sign}" in text
        found = found.replace(sign, "" if at_an_end or number else " ")
    found = _PERIOD.sub("", found)
    words = [NUMBERS.get(word, word) for word in found.lower().split()]
    words = [word for word in words if word not in ARTICLES]
    return " ".join(CONTRACTIONS.get(word, word) for word in words)


# === Reading ===
def anls(
    answers: Sequence[str],
    references: Sequence[Sequence[str]],
    threshold: float = ANLS_THRESHOLD,
) -> AnswerScores:
    """Scores answers by how many letters are to be changed to make them right.

    1 minus the edit distance by the longer text's length, of the nearest right answer;
    0 if that is below `threshold`. Case makes no difference, and of spaces one is as
    good as many, but for the length.

    Args:
        answers: one a question.
        references: right answers of each question.
        threshold: the least score that counts.

    Returns:
        The scores.

    Raises:
        TypeError: if answers are no texts.
        ValueError: if the numbers do not fit.

    Source: Biten et al. 2019, "Scene Text Visual Question Answering". As the script of
        its challenge has it (`infographicsvqa_eval.py`), by which scores are published:
        one of exactly the threshold counts, where the paper's formula has 0.

    Example:
        >>> anls(["hallo"], [["hello"]]).mean
        0.8
    """
    if not 0.0 <= threshold <= 1.0:
        raise ValueError(f"threshold must be from 0 to 1, got {threshold}.")
    answers = checked_answers(answers, references, "right answers")
    known = checked_references(references)
    values = []
    for answer, texts in zip(answers, known, strict=True):
        score = 1.0 - min(_share_wrong(answer, text) for text in texts)
        values.append(score if score >= threshold else 0.0)
    return AnswerScores.of("anls", values)


def _share_wrong(answer: str, right: str) -> float:
    longest = max(len(answer), len(right))
    one, other = (" ".join(text.lower().split()) for text in (answer, right))
    return edit_distance(one, other) / longest if longest else 0.0


def edit_distance(one: str, other: str) -> int:
    """Returns how many letters are to be put in, left out or changed.

    Example:
        >>> edit_distance("kitten", "sitting")
        3
    """
    row = list(range(len(other) + 1))
    for place, letter in enumerate(one, 1):
        before, row[0] = row[0], place
        for column, wanted in enumerate(other, 1):
            changed = before + (letter != wanted)
            before = row[column]
            row[column] = min(changed, before + 1, row[column - 1] + 1)
    return row[-1]
