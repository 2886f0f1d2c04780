"""Scores of answers by set and kind, beside those to questions about other images."""

import numpy as np
import pytest

from keras_pe.data.questions import Question
from projects.emoji.language.answer_figure import is_right
from projects.emoji.language.evaluate import (
    NAMES,
    WORDS,
    Asked,
    kinds_of,
    other_images,
    scores_of,
    table,
)

pytestmark = [pytest.mark.quick, pytest.mark.once]


def asked(image, kind, answer, **about):
    return Asked(image, about, Question("?", answer, kind))


ROWS = [
    asked(0, "name", "owl", is_flag=False, is_symbol=False),
    asked(1, "name", "flag of Chad", is_flag=True, is_symbol=False),
    asked(2, "reading", "Owl"),
    asked(3, "reading", "4711"),
    asked(4, "grounding", "[000, 000, 500, 500]"),
    asked(5, "caption", "a dog in snow"),
    asked(6, "caption", "two cats asleep"),
]


def test_kinds_and_what_is_told_apart_of_them():
    assert kinds_of(ROWS[0]) == ["name", NAMES]
    assert kinds_of(ROWS[1]) == ["name"]
    assert kinds_of(ROWS[2]) == ["reading", WORDS]
    assert kinds_of(ROWS[3]) == ["reading"]


def test_each_kind_has_its_metric():
    said = [
        "the owl",
        "flag",
        "owl",
        "471",
        "[000, 000, 480, 500]",
        "a dog in snow",
        "?",
    ]
    found = {kind: score.value for kind, score in scores_of(ROWS, said).items()}
    assert found["name (exact)"] == 0.5
    assert found[f"{NAMES} (exact)"] == 1
    assert found["reading (exact)"] == 0.5
    assert found["reading (anls)"] == pytest.approx((1 + 0.75) / 2)
    assert found[f"{WORDS} (exact)"] == 1
    assert found["grounding (box)"] == 1
    assert found["caption (cider)"] == pytest.approx(5)
    right = [one.question.answer for one in ROWS]
    assert [is_right(*pair) for pair in zip(said, right, strict=True)] == [
        True, False, True, False, True, True, False,
    ]  # fmt: skip


def test_no_image_is_its_own_other_one():
    for count in (2, 3, 50):
        found = other_images(count)
        assert sorted(found) == list(range(count))
        assert (found != np.arange(count)).all()


def test_the_page():
    score = {"value": 0.5, "low": 0.4, "high": 0.6, "count": 9}
    sets = {"test_vendor": {"name (exact)": {"right": score, "blind": score}}}
    names = {"images": 9, "answers": 0.4, "zero-shot": 0.3, "gain": 0.1}
    text = table({"sets": sets, "names": {**names, "low": 0.05, "high": 0.15}})
    assert "| test_vendor | name (exact) | 9 | 50.0 [40.0, 60.0] |" in text
    assert "answers 40.0, zero-shot top-1 30.0, gain 10.0 (5.0 to 15.0)" in text
