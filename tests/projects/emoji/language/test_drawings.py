"""Questions about drawings: right, balanced, and with "no" for other families only."""

import collections
import io
import json

import numpy as np
import pytest
from PIL import Image

from keras_pe.data.questions import questions_of
from projects.emoji.language.drawings import drawing_samples, on_white, other_names
from projects.emoji.language.packages import read_list

pytestmark = [pytest.mark.quick, pytest.mark.once]


def record(number, family, subgroup, group="food-drink"):
    return {
        "key": f"mine_{number}",
        "label": f"Thing {family}",
        "subgroup": subgroup,
        "group": group,
        "vendor": "mine",
        "concept": number,
        "family": family,
        "is_flag": False,
        "is_symbol": False,
    }


RECORDS = [
    *(record(n, f"f{n % 5}", "food-fruit") for n in range(14)),
    *(record(20 + n, f"g{n % 4 // 3}", "food-sweet") for n in range(8)),  # 6 and 2
    *(record(40 + n, f"h{n}", "dishware") for n in range(5)),
    record(60, "alone", "time", "travel-places"),
]


def test_no_is_asked_of_every_name_as_often_as_yes():
    others = other_names(RECORDS)
    assert None not in others
    for kind in ("food-fruit", "dishware"):
        rows = [n for n, one in enumerate(RECORDS) if one["subgroup"] == kind]
        own = collections.Counter(RECORDS[n]["label"].lower() for n in rows)
        assert collections.Counter(others[n] for n in rows) == own
    labels = {one["label"].lower(): one for one in RECORDS}
    for one, other in zip(RECORDS, others, strict=True):
        assert labels[other]["family"] != one["family"]
        if one["subgroup"] == "food-fruit":
            assert labels[other]["subgroup"] == "food-fruit"


def test_the_answers_are_those_of_the_record():
    images = np.zeros((len(RECORDS), 24, 24, 4), "uint8")
    samples = list(drawing_samples(images, RECORDS, 16, "some"))
    assert [s["__key__"] for s in samples] == [r["key"] for r in RECORDS]
    for sample, one in zip(samples, RECORDS, strict=True):
        asked = questions_of(sample)
        by_kind = {question.kind: question.answer for question in asked}
        name = one["label"].lower()
        assert by_kind["name"] == name
        assert by_kind["kind"] == one["subgroup"].replace("-", " ")
        assert by_kind["group"] in ("food and drink", "travel and places")
        for question in asked:
            if question.kind == "yesno":
                assert (question.answer == "yes") == (name in question.question)
        assert json.loads(sample["json"])["vendor"] == "mine"
        assert Image.open(io.BytesIO(sample["png"])).size == (16, 16)
    again = list(drawing_samples(images, RECORDS, 16, "some"))
    assert samples == again


def test_nothing_is_white_and_hidden_colours_do_not_show():
    image = np.zeros((8, 8, 4), "uint8")
    image[..., 0] = 255
    image[:4, :, 3] = 255
    pixels = np.asarray(on_white(Image.fromarray(image), 8))
    assert (pixels[0] == [255, 0, 0]).all()
    assert (pixels[-1] == 255).all()


def test_the_list_has_fonts_of_both_parts_and_one_list_of_words():
    roles = collections.Counter(one.role for one in read_list())
    assert roles["words"] == 1
    assert roles["train"] > roles["test"] > 5
    assert all(len(one.package.sha256) == 64 and one.licence for one in read_list())
