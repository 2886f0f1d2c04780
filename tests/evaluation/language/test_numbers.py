"""Numbers in answers: read strictly, and counted where they are none."""

import pytest

from keras_pe.evaluation.language import number_accuracy, parse_number

pytestmark = [pytest.mark.quick, pytest.mark.once]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("7", 7.0),
        (" Seven. ", 7.0),
        ("1,250.5", 1250.5),
        ("-3", -3.0),
        (".5", 0.5),
        ("twenty", 20.0),
        ("1,25", None),
        ("1.2.3", None),
        ("2 dogs", None),
        ("two or three", None),
        ("1e3", None),
        ("\u0663", None),  # an Arabic digit, which float() takes
        ("nan", None),
        ("9" * 400, None),
        ("", None),
    ],
)
def test_a_number_is_the_whole_text(text, number):
    assert parse_number(text) == number


def test_right_numbers_count_and_what_is_none_is_told():
    found = number_accuracy(["three", "4", "a few", "0"], [3, 5, 4, 0])
    assert found.values.tolist() == [1, 0, 0, 1]
    assert found.unparsable.tolist() == [False, False, True, False]
    assert str(found) == "number_accuracy 0.5000 of 4 answers, 1 of them unparsable"


def test_a_chart_may_be_read_a_little_off():
    assert number_accuracy(["105", "106"], [100, 100], 0.05).values.tolist() == [1, 0]
    assert number_accuracy(["-105"], [-100], 0.05).mean == 1.0
    for tolerance in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match="relative_tolerance"):
            number_accuracy(["1"], [1], tolerance)
    with pytest.raises(ValueError, match="Question 0 has nan"):
        number_accuracy(["1"], [float("nan")])


@pytest.mark.parametrize("given", [None, "3", True, float("inf"), 10**400])
def test_references_that_are_no_numbers_are_named(given):
    with pytest.raises(ValueError, match=r"Question 1 has .* as its number, expected"):
        number_accuracy(["1", "2"], [1, given])
