"""Prompt templates."""

import json

import pytest

from keras_pe.preprocessing.prompts import (
    TEMPLATES,
    check_templates,
    fill,
    read_templates,
)

pytestmark = [pytest.mark.quick, pytest.mark.once]


def test_the_28_of_kinetics():
    kinetics = TEMPLATES["kinetics"]
    assert len(set(kinetics)) == 28
    assert fill(kinetics[0], "juggling") == "a photo of juggling."
    assert "a demonstration of a person practicing {}." in kinetics
    assert "a video of a person {}." in kinetics
    for templates in TEMPLATES.values():
        assert check_templates(templates) == templates


def test_both_places_for_the_name():
    assert fill("a {c}.", "cat {}") == "a cat {}."
    assert fill("a {}.", "cat") == "a cat."


def test_files(tmp_path):
    path = tmp_path / "templates.json"
    path.write_text(json.dumps({"pets": ["a {c}, a pet."], "cars": ["a {c}.", "{c}"]}))
    assert read_templates(path, "cars") == ("a {c}.", "{c}")
    with pytest.raises(ValueError, match="pets, cars"):
        read_templates(path)
    with pytest.raises(ValueError, match="got 'food'"):
        read_templates(path, "food")
    path.write_text(json.dumps({"pets": ["a {c}, a pet."]}))
    assert read_templates(path) == ("a {c}, a pet.",)
    path.write_text(json.dumps(["{}"]), encoding="utf-8-sig")  # of Windows
    assert read_templates(path) == ("{}",)
    for content, message in (
        ("{", "no JSON"),
        ('"{}"', "holds a str"),
        ("[]", "at least one"),
        ('["a photo"]', "exactly one"),
        ('["{} {}"]', "exactly one"),
        ('["{} {c}"]', "exactly one"),
        ("[3]", "exactly one"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            read_templates(path)
