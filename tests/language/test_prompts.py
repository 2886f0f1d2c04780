"""Questions as tokens: what is asked, shown and to be learned."""

import numpy as np
import pytest

from keras_pe import PETokenizer
from keras_pe.language.prompts import QuestionPrompt, padded

pytestmark = [pytest.mark.quick, pytest.mark.once]


@pytest.fixture(scope="module")
def prompt():
    return QuestionPrompt(PETokenizer(12, 6000), image_tokens=3)


@pytest.mark.parametrize("image", [True, False])
def test_a_document_is_a_question_and_its_answer_with_its_end(prompt, image):
    found = prompt.document("What is this?", "A red ball", image)
    asked = prompt.question("What is this?", image)
    assert found.image.sum() == 3 * image
    assert found.image[1:4].all() == image
    np.testing.assert_array_equal(found.token_ids[: len(asked)], asked.token_ids)
    assert not found.answer[: len(asked)].any()
    assert found.answer[len(asked) :].all()
    learned = found.token_ids[found.answer]
    assert learned[-1] == prompt.stop_id
    assert prompt.text(learned) == "a red ball"
    assert asked.token_ids[-1] == prompt.stop_id
    assert asked.token_ids[0] == prompt.tokenizer.start_id


def test_a_text_ends_at_its_first_end(prompt):
    learned = prompt.document("?", "a ball").token_ids
    answer = prompt.document("?", "a ball").answer
    ids = np.concatenate([learned[answer], [5, 6]])
    assert prompt.text(ids) == "a ball"
    assert prompt.text(ids[:1]) == "a"
    assert prompt.text([prompt.stop_id]) == ""


def test_what_is_too_long_is_refused_and_not_cut(prompt):
    with pytest.raises(ValueError, match="context"):
        prompt.document("What is this?", "ball " * 40)


def test_rows_are_padded_on_the_right(prompt):
    asked = [prompt.question("?"), prompt.question("What is this, then?", False)]
    found = padded(asked)
    assert found["lengths"].tolist() == list(map(len, asked))
    for row, document in enumerate(asked):
        n = len(document)
        np.testing.assert_array_equal(found["token_ids"][row, :n], document.token_ids)
        np.testing.assert_array_equal(found["image"][row, :n], document.image)
        assert not found["token_ids"][row, n:].any()
