"""The language probe's scores: by question and kind, by any metric, of a guess."""

import numpy as np
import pytest

from keras_pe.evaluation.language import AnswerScores
from keras_pe.probing import (
    LanguageProbe,
)
from keras_pe.probing.language_data import ImageQuestion, questions_of_samples
from tests.probing.stored import stored


def scores_of(probe, answers, endless=()):
    asked = [
        ImageQuestion(0, "How many?", "3", "count"),
        ImageQuestion(0, "What?", "a cat", "name"),
        ImageQuestion(2, "How many?", "4", "count"),
    ]
    table = np.zeros((3, 2, 3), "<U9")
    table[0], table[2, 0] = [row[1:] for row in asked[:2]], asked[2][1:]
    with stored(np.zeros((3, 1), "float32"), table, 3) as (samples,):
        lost = np.isin(np.arange(3), endless)
        return probe.scored(samples, asked, answers, lost)


@pytest.mark.quick
@pytest.mark.once
def test_scores_are_of_questions_and_lost_answers_are_counted():
    probe = LanguageProbe(metric={"count": "number", "name": "exact"})
    found = scores_of(probe, ["3", "Cat.", "lots"])
    # Scores and questions of "count" and of "name", and what could not be read.
    assert found.tolist() == [[1, 1, 1, 1, 0], [0, 0, 0, 0, 0], [0, 1, 0, 0, 1]]
    means = found.mean(axis=0)
    assert probe.score(means) == pytest.approx(2 / 3)
    assert probe.of_kind(0).score(means) == 0.5
    assert probe.of_kind(1).score(means) == 1.0
    endless = scores_of(probe, ["3", "Cat.", "4"], endless=[1])
    assert endless.tolist() == [[1, 1, 0, 1, 1], [0, 0, 0, 0, 0], [1, 1, 0, 0, 0]]


@pytest.mark.quick
@pytest.mark.once
def test_a_metric_of_ones_own():
    def length(answers, references):
        return AnswerScores.of("length", [float(len(answer)) for answer in answers])

    probe = LanguageProbe(metric=length)
    found = scores_of(probe, ["abc", "de", "f"])
    assert found[:, 0::2].sum() == 6.0
    assert probe.bounds is None
    assert probe.metric == "score of answers (length)"
    with pytest.raises(ValueError, match="no metric for questions of kind 'count'"):
        scores_of(LanguageProbe(metric={"name": "exact"}), ["a", "b", "c"])
    with pytest.raises(ValueError, match="'a few' is no number"):
        LanguageProbe(metric="number")._metrics.scores("", ["1"], [["a few"]])


@pytest.mark.quick
@pytest.mark.once
@pytest.mark.parametrize(
    ("metric", "error", "message"),
    [
        (lambda a, b: AnswerScores.of("m", [0.4]), ValueError, "1 scores to 2 answers"),
        (lambda a, b: AnswerScores.of("m", [0.4] * 3), ValueError, "gave 3 scores"),
        (lambda a, b: [0.4] * len(a), TypeError, "returned a list: expected AnswerSc"),
    ],
)
def test_a_metric_gives_a_score_to_each_answer(metric, error, message):
    probe = LanguageProbe(metric={"count": metric, "": "exact"})
    with pytest.raises(error, match=message):
        scores_of(probe, ["3", "a cat", "4"])


@pytest.mark.quick
@pytest.mark.once
def test_the_constant_guess_is_the_most_frequent_answer_to_a_question():
    probe = LanguageProbe()
    rows = np.zeros((6, 1, 3), "<U9")
    rows[:, 0] = [
        *[("What?", "cat", "name")] * 2, ("What?", "dog", "name"),
        ("What?", "cat", "name"), ("Who?", "cat", "name"), ("Is it?", "no", "is"),
    ]  # fmt: skip
    with stored(np.zeros((6, 1), "float32"), rows, 3, 3) as (train, test):
        found = probe.baseline(train, test)
    assert probe.score(found.mean(axis=0)) == pytest.approx(2 / 3)


@pytest.mark.quick
@pytest.mark.once
def test_what_a_vocabulary_does_not_keep_is_not_held_against_an_answer():
    probe = LanguageProbe()
    texts = ["12", "[000, 250, 500, 999]", "a - b", "It's 3.5%"]
    rows = np.zeros((4, 1, 3), "<U24")
    rows[:, 0] = [("What?", text, "name") for text in texts]
    with stored(np.zeros((4, 1), "float32"), rows, 2, 2) as (train, test):
        asked = [*questions_of_samples(train), *questions_of_samples(test)]
        ids = [probe._parts.prompt((2, 2)).answer(row.answer) for row in asked]
        said = [probe._parts.prompt((2, 2)).text(each) for each in ids]
        for part, own in ((train, slice(0, 2)), (test, slice(2, 4))):
            found = probe.scored(part, asked[own], said[own], np.zeros(2, bool))
            assert probe.score(found.mean(axis=0)) == 1.0
