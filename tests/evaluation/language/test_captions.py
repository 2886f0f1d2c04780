"""CIDEr-D against the values of an independent program."""

import numpy as np
import pytest

from keras_pe.evaluation.language import cider

pytestmark = [pytest.mark.quick, pytest.mark.once]

CAPTIONS = [
    "a dog runs on the grass",
    "two cats",
    "a red ball and a dog",
    "snow",
    "the the the dog",
]
PEOPLE = [
    ["a dog runs on grass", "the dog is running on green grass"],
    ["two cats asleep", "a cat and a cat on the bed", "two cats"],
    ["a red ball"],
    ["a house in the snow", "snow on a house in the snow"],
    ["the dog", "a dog in the snow"],
]
# `CiderScorer` of pycocoevalcap 1.2, run on these texts.
EXPECTED = [
    3.738768236909201,
    2.918823732343379,
    4.31487414619985,
    0.9627635760406197,
    1.9092740216196744,
]


def test_equals_an_independent_program():
    np.testing.assert_allclose(cider(CAPTIONS, PEOPLE).values, EXPECTED, rtol=1e-12)


def test_capitals_and_punctuation_make_no_difference():
    shouted = [f"  {text.upper()}!" for text in CAPTIONS]
    np.testing.assert_allclose(cider(shouted, PEOPLE).values, EXPECTED, rtol=1e-12)


def test_what_everybody_says_counts_nothing_and_nothing_is_no_error():
    assert cider(["a dog", "a dog"], [["a dog"], ["a dog"]]).mean == 0.0
    assert cider(["", "a cat"], [["a dog"], ["two birds"]]).mean == 0.0
    with pytest.raises(ValueError, match="at least 1"):
        cider(["a dog"], [[]])
