"""CIDEr: how much of what people say of an image a caption says too."""

import math
import re
from collections import Counter
from collections.abc import Sequence

from keras_pe.evaluation.language.answer_scores import (
    AnswerScores,
    checked_answers,
    checked_references,
)

LONGEST = 4  # words in a row
WIDTH = 6.0  # of the penalty for another length, in words
FACTOR = 10.0
_WORDS = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")

NGram = tuple[str, ...]


def cider(captions: Sequence[str], references: Sequence[Sequence[str]]) -> AnswerScores:
    """Scores captions by the words, and rows of up to four words, they share.

    Rows of words weigh the more the fewer images have them in their references: the
    frequencies are those of **these** references, so that scores of two sets of images
    can't be compared, and a single image scores 0. This is CIDEr-D, 10 at most, as
    COCO's server has it. Words are lower-cased, without punctuation; COCO's own
    tokenizer (Penn Treebank's) splits a few of them otherwise.

    Args:
        captions: one an image.
        references: what people said of each image.

    Returns:
        The scores, 0 to 10.

    Raises:
        TypeError: if captions are no texts.
        ValueError: if the numbers do not fit.

    Source: Vedantam et al. 2015, "CIDEr"; `cider_scorer.py` of pycocoevalcap 1.2.

    Example:
        >>> people = [["a dog runs in snow"], ["two cats asleep on a bed"]]
        >>> [round(x) for x in cider(["a dog runs in snow", "a dog"], people).values]
        [10, 0]
    """
    captions = checked_answers(captions, references, "references")
    known = [
        [_counts(text) for text in texts] for texts in checked_references(references)
    ]
    documents: Counter[NGram] = Counter()
    for counts in known:
        documents.update(set().union(*counts))
    images = math.log(len(known))

    def weighted(counts: Counter[NGram]) -> list[dict[NGram, float]]:
        rows: list[dict[NGram, float]] = [{} for _ in range(LONGEST)]
        for words, count in counts.items():
            rarity = images - math.log(max(1, documents[words]))
            rows[len(words) - 1][words] = count * rarity
        return rows

    values = []
    for caption, counts in zip(captions, known, strict=True):
        ours = _counts(caption)
        mine, length = weighted(ours), _length(ours)
        scores = []
        for theirs in counts:
            penalty = math.exp(-((length - _length(theirs)) ** 2) / (2 * WIDTH**2))
            pairs = zip(mine, weighted(theirs), strict=True)
            shared = [_likeness(one, other) for one, other in pairs]
            scores.append(penalty * sum(shared) / LONGEST)
        values.append(FACTOR * sum(scores) / len(scores))
    return AnswerScores.of("cider", values)


def _counts(text: str) -> Counter[NGram]:
    words = _WORDS.findall(text.lower())
    return Counter(
        tuple(words[start : start + size])
        for size in range(1, LONGEST + 1)
        for start in range(len(words) - size + 1)
    )


def _length(counts: Counter[NGram]) -> int:
    """Returns the number of pairs of words: so the original counts length."""
    return sum(count for words, count in counts.items() if len(words) == 2)


def _likeness(mine: dict[NGram, float], theirs: dict[NGram, float]) -> float:
    """Returns the cosine of two weightings, mine cut off at theirs."""
    norms = [math.sqrt(sum(x * x for x in rows.values())) for rows in (mine, theirs)]
    if not all(norms):
        return 0.0
    product = sum(
        min(weight, theirs.get(words, 0.0)) * theirs.get(words, 0.0)
        for words, weight in mine.items()
    )
    return product / (norms[0] * norms[1])
