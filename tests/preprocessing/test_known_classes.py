"""What a preset's metadata may put into prompts."""

import pytest

from keras_pe.preprocessing.prompts import TEMPLATES, known_classes

pytestmark = [pytest.mark.quick, pytest.mark.once]


def known(names, templates=("{}",)):
    texts = {"class_names": names, "templates": list(templates)}
    return known_classes({"zero_shot": texts}, "the preset p")


def test_classes_of_any_language_are_taken():
    names = ["a cat", "\u0686\u062a\u0631\u200c", "猫\u3000犬", "crane [bird]"]
    assert known(names, ["a {}", "{c}"]) == (names, ("a {}", "{c}"))
    assert known(["a"], []) == (["a"], TEMPLATES["general"])
    assert known([]) is None
    assert known_classes({}) is None
    assert known_classes({"zero_shot": None}) is None


@pytest.mark.parametrize(
    ("names", "templates", "said"),
    [
        ("a cat", ["{}"], "class_names='a cat'"),
        ({"a": 1}, ["{}"], "class_names="),
        (["a", 3], ["{}"], r"class_names\[1\]=3"),
        (["a", " "], ["{}"], r"class_names\[1\]"),
        (["a\x1b[31m"], ["{}"], "control character"),
        (["a\nb"], ["{}"], "control character"),
        (["\ud800"], ["{}"], "control character"),
        (["a" * 1001], ["{}"], "1,000 characters"),
        (["a"] * 100_001, ["{}"], "at most 100,000"),
        (["a"], ["{}"] * 1001, "at most 1,000"),
        (["a"], ["a photo"], "exactly one"),
        (["a"], ["{} {}"], "exactly one"),
        (["a"], ["{}\x07"], r"templates\[0\]"),
    ],
)
def test_what_is_no_text_for_a_prompt_is_refused(names, templates, said):
    with pytest.raises(ValueError, match=said):
        known(names, templates)


def test_metadata_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="the preset p has zero_shot=3"):
        known_classes({"zero_shot": 3}, "the preset p")
