"""Intervals of answers' scores: over images, with all that is asked of each."""

import numpy as np
import pytest

from keras_pe.evaluation.intervals import mean_score
from keras_pe.evaluation.language import AnswerScores, cider, exact_match

pytestmark = [pytest.mark.quick, pytest.mark.once]


def test_the_interval_is_that_of_hits():
    answers, right = ["a", "b", "c", "d"] * 10, [["a"], ["b"], ["x"], ["d"]] * 10
    scores = exact_match(answers, right)
    assert scores.score() == mean_score(scores.values)
    assert scores.score().value == scores.mean == 0.75
    images = np.repeat(np.arange(10), 4)  # each image has three right ones of four
    assert scores.score(images).low < scores.score().low


def test_cider_goes_to_ten():
    people = [["a dog runs in snow"], ["two cats asleep on a bed"]]
    found = cider(["a dog runs in snow", "two cats asleep on a bed"], people).score()
    assert found.value == pytest.approx(10)
    assert found.high == pytest.approx(10)


def test_other_metrics_go_to_one():
    with pytest.raises(ValueError, match="expected 0 to 1"):
        AnswerScores.of("mine", [0.5, 3.0]).score()


@pytest.mark.parametrize("given", [None, 3, b"a", {"a"}, {"a": 1}, iter(["a"])])
def test_what_is_no_list_is_refused(given):
    for pair in ((given, [["a"]]), (["a"], given)):
        with pytest.raises(TypeError, match="Answers and references come in lists"):
            exact_match(*pair)
