"""Scores of short answers, against what independent programs say."""

import numpy as np
import pytest

from keras_pe.arrays import NonFiniteError
from keras_pe.evaluation.language import AnswerScores, anls, exact_match, vqa_accuracy
from keras_pe.evaluation.language.answers import edit_distance, vqa_normalized
from keras_pe.evaluation.language.vqa_words import CONTRACTIONS

pytestmark = [pytest.mark.quick, pytest.mark.once]


# === Exact match ===
def test_case_articles_spaces_and_a_period_make_no_difference():
    answers = [" The  Dog. ", "dog", "dogs", "3.5"]
    wanted = [["dog"], ["cat", "A dog"], ["dog"], ["3.5"]]
    assert exact_match(answers, wanted).values.tolist() == [1, 1, 0, 1]


def test_an_article_alone_is_an_answer():
    answers = ["", "the", "", "a.", "A"]
    wanted = [["A"], ["A"], ["."], ["A"], ["B"]]
    assert exact_match(answers, wanted).values.tolist() == [0, 0, 0, 1, 0]


# === VQA ===
@pytest.mark.parametrize(
    ("text", "expected"),  # of `vqaEval.py`, LAVIS, commit 200ac17, run on these texts
    [
        ("The dog.", "dog"),
        ("two", "2"),
        ("1,000 dogs, at most", "1000 dogs at most"),
        ("well-known", "well known"),
        ("blue / green", "blue green"),
        ("dont", "don't"),
        ("3.5", "3.5"),
        ("yes .", "yes"),
        ("u.s.", "us"),
        ("(red)", "red"),
        ("It's 4:30", "it's 4:30"),
        ("Id've", "id've"),
        ("none", "0"),
        ("an apple, a pear", "apple pear"),
        ("1.", "1"),
        ("what?no", "what no"),
        ("$5, or so", "$5 or so"),
    ],
)
def test_answers_are_normalised_as_vqa_does(text, expected):
    assert vqa_normalized(text) == expected


@pytest.mark.parametrize("count", range(11))
def test_accuracy_is_the_mean_over_the_people_left_out(count):
    people = ["yes"] * count + [f"no {number}" for number in range(10 - count)]
    of_each = [
        min(1.0, (people[:place] + people[place + 1 :]).count("yes") / 3)
        for place in range(10)
    ]
    found = vqa_accuracy(["Yes!"], [people]).mean
    assert found == pytest.approx(np.mean(of_each))


def test_contractions_are_those_of_the_table():
    assert len(CONTRACTIONS) == 114
    assert CONTRACTIONS["shouldnt've"] == "shouldn't've"


# === Reading ===
def test_reading_is_scored_by_the_share_of_right_letters():
    found = anls(["hallo", "HELLO ", "he", "", ""], [["hello"]] * 4 + [[""]])
    np.testing.assert_allclose(found.values, [0.8, 1.0, 0.0, 0.0, 1.0])
    assert anls(["abcd"], [["abxy", "abcx"]]).mean == 0.75
    # As the challenge's script has it; the paper's formula has 0 at one half.
    assert anls(["abcd"], [["abxy"]]).mean == 0.5
    assert anls(["abcd"], [["axyz"]]).mean == 0.0
    assert anls(["abcd"], [["abxy"]], threshold=0.6).mean == 0.0
    # One space is as good as two, but counts in the length.
    assert anls(["a  bx"], [["a b"]]).mean == pytest.approx(1 - 1 / 5)


def slow_distance(one, other):
    if not one or not other:
        return len(one) + len(other)
    return min(
        slow_distance(one[1:], other) + 1,
        slow_distance(one, other[1:]) + 1,
        slow_distance(one[1:], other[1:]) + (one[0] != other[0]),
    )


def test_the_edit_distance_is_that_of_its_definition():
    rng = np.random.default_rng(0)
    for _ in range(60):
        one, other = ("".join(rng.choice([*"abc"], rng.integers(6))) for _ in "12")
        assert edit_distance(one, other) == slow_distance(one, other)


# === What makes no sense ===
@pytest.mark.parametrize("metric", [exact_match, vqa_accuracy, anls])
def test_what_does_not_fit_is_refused(metric):
    people = [["yes", "no"]]
    for answers, references, error in (
        (["yes"], [*people, *people], ValueError),
        ([], [], ValueError),
        ("yes", people, TypeError),
        ([3], people, TypeError),
        (["yes"], ["yes"], TypeError),
        (["yes"], [[]], ValueError),
    ):
        with pytest.raises(error):
            metric(answers, references)
    with pytest.raises(ValueError, match="at least 2"):
        vqa_accuracy(["yes"], [["yes"]])
    with pytest.raises(ValueError, match="threshold"):
        anls(["yes"], people, threshold=1.5)
    with pytest.raises(NonFiniteError):
        AnswerScores.of("anls", [np.nan])
