"""Questions for probes: one an image, kinds in turn, the same every time."""

import collections

import numpy as np
import pytest
from PIL import Image

from keras_pe.data.questions import Question, question_member, write_question_shards
from projects.emoji.language.question_sets import HELDOUT, KINDS, questions_of_sets
from recipes.language_data.words import png_bytes

pytestmark = [pytest.mark.quick, pytest.mark.once]


def write(folder, name, count, kinds):
    def samples():
        for n in range(count):
            pixels = np.full((4, 4, 3), n, "uint8")
            questions = [Question(f"{kind}?", f"{kind} {n}", kind) for kind in kinds]
            yield {
                "__key__": f"{n}",
                "png": png_bytes(Image.fromarray(pixels)),
                "json": question_member(questions, {}),
            }

    write_question_shards(folder, name, samples())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("questions")
    write(folder, "train", 12, ("name", "kind", "group", "yesno"))
    write(folder, "words", 6, ("reading",))
    write(folder, "test_heldout", 5, ("name", "kind"))
    return folder


def test_kinds_come_in_turn_and_of_their_own_image(folder):
    found = questions_of_sets(folder, {"train": 8, "words": 3, "test_heldout": 2})
    assert len(found) == 13
    assert collections.Counter(row.kind for row in found.questions) == {
        "name": 4, "kind": 4, "reading": 3, HELDOUT: 2,
    }  # fmt: skip
    for row in found.questions:
        kind, number = row.answer.split(" ")
        assert row.question == f"{kind}?"
        assert np.asarray(found.images[row.image])[0, 0, 0] == int(number)
    assert set(found.kinds) - {HELDOUT} <= set(KINDS)


def test_kinds_that_are_wanted_alone(folder):
    found = questions_of_sets(folder, {"train": 8}, kinds=("name",))
    assert [row.kind for row in found.questions] == ["name"] * 8
    with pytest.raises(ValueError, match="words has no question of name"):
        questions_of_sets(folder, {"words": 3}, kinds=("name",))


def test_the_seed_chooses(folder):
    one, again, other = (questions_of_sets(folder, {"train": 8}, s) for s in (0, 0, 1))
    assert one.questions == again.questions
    assert one.questions != other.questions


def test_too_few_samples_are_told(folder):
    with pytest.raises(ValueError, match="words has 6 samples, 7 are wanted"):
        questions_of_sets(folder, {"words": 7})
