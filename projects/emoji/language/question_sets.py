"""Questions of shards as sets for probes and scores, some of each kind."""

import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from keras_pe.data.questions import Question, questions_of
from keras_pe.data.tar_shards import open_shards
from keras_pe.probing import QuestionSet
from keras_pe.probing.language_metrics import MetricName

# Kinds that are asked; the others (group, relation, yes or no) are half guessed.
KINDS = (
    *("name", "kind", "reading", "letter"),
    *("count", "position", "colour", "grounding"),
)
METRICS: dict[str, MetricName] = {
    "name": "exact",
    "kind": "exact",
    "reading": "anls",
    "letter": "exact",
    "count": "exact",
    "position": "exact",
    "colour": "exact",
    "grounding": "box",
    "kind, concepts held out": "exact",
    "name, of heads for names alone": "exact",
}
HELDOUT = "kind, concepts held out"


def questions_of_sets(
    folder: Path,
    counts: Mapping[str, int],
    seed: int = 0,
    kinds: Sequence[str] = KINDS,
) -> QuestionSet:
    """Returns some samples of sets of shards, with one question each.

    Which question is asked of a sample, and which samples are taken, depends on the
    seed alone; kinds come in turn.

    Args:
        folder: output of `projects.emoji.language.data`.
        counts: samples of each set, by the name of its shards.
        seed: of the choice.
        kinds: of questions that are asked.

    Raises:
        ValueError: if a set has fewer samples, or one of them no such question.
    """
    images: list[Image.Image] = []
    asked: list[list[Question]] = []
    for name, count in counts.items():
        source = open_shards(str(folder / f"{name}-*.tar"))
        if count > len(source):
            raise ValueError(f"{name} has {len(source)} samples, {count} are wanted.")
        order = np.random.default_rng([seed, len(source)]).permutation(len(source))
        for place, number in enumerate(order[:count].tolist()):
            sample = source[number]
            images.append(Image.open(io.BytesIO(sample["png"])).convert("RGB"))
            asked.append([_one_of(name, questions_of(sample), place, kinds)])
    return QuestionSet.of_samples(images, asked)


def _one_of(
    name: str, questions: Sequence[Question], place: int, asked: Sequence[str]
) -> Question:
    """Returns the question that is asked of a sample: kinds in turn."""
    by_kind = defaultdict(list)
    for question in questions:
        if question.kind in asked:
            by_kind[question.kind].append(question)
    if "heldout" in name:  # a name that training never had can't be said
        (found,) = by_kind["kind"]
        return Question(found.question, found.answer, HELDOUT)
    kinds = [kind for kind in KINDS if kind in by_kind]
    if not kinds:
        raise ValueError(f"A sample of {name} has no question of {', '.join(asked)}.")
    of_kind = by_kind[kinds[place % len(kinds)]]
    return of_kind[place % len(of_kind)]
