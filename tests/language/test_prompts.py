"""Questions as tokens: what is asked, shown and to be learned."""

import numpy as np
import pytest

from keras_pe import PETokenizer
from keras_pe.data.packing import Document
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
    with pytest.raises(ValueError, match=r"context .* 12 tokens .*PETokenizer\("):
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


def test_answers_are_spelled_where_that_is_asked_for(prompt):
    spelling = QuestionPrompt(PETokenizer(24, 6000), 3, spell_answers=True)
    asked = prompt.question("What is this, then?")
    found = spelling.document("What is this, then?", "two red balls")
    np.testing.assert_array_equal(found.token_ids[: len(asked)], asked.token_ids)
    learned = found.token_ids[found.answer]
    assert len(learned) == len("tworedballs") + 1
    assert learned[:-1].max() < 512  # letters alone
    assert learned[-1] == spelling.stop_id == prompt.stop_id
    for one in (prompt, spelling):  # any of them reads both
        assert one.text(learned) == "two red balls"
    turns = [("What?", "a ball"), ("How many?", "two")]
    later = spelling.conversation(turns)
    assert spelling.text(later.token_ids[later.answer]) == "a ball"
    np.testing.assert_array_equal(
        spelling.next_question("How many?"), prompt.next_question("How many?")
    )


def test_answers_of_some_questions_alone_can_be_spelled(prompt):
    read = "What does it say?"
    some = QuestionPrompt(PETokenizer(24, 6000), 3, True, [read])
    every = QuestionPrompt(PETokenizer(24, 6000), 3, True)
    text = "two red balls"
    spelled, whole = every.answer(text).tolist(), prompt.answer(text).tolist()
    assert len(spelled) > len(whole)
    assert some.answer(text, read).tolist() == some.answer(text).tolist() == spelled
    assert some.answer(text, "What is this?").tolist() == whole
    found = some.conversation([("What is this?", text), (read, text)])
    assert found.token_ids[found.answer].tolist() == whole + spelled
    with pytest.raises(ValueError, match="need spell_answers=True"):
        QuestionPrompt(PETokenizer(24, 6000), 3, False, [read])
    with pytest.raises(ValueError, match="are the texts of questions"):
        QuestionPrompt(PETokenizer(24, 6000), 3, True, read)


@pytest.mark.parametrize("mark", ["<start_of_text>", "<end_of_text>"])
def test_a_text_with_a_mark_of_the_vocabulary_is_refused(prompt, mark):
    spelling = QuestionPrompt(prompt.tokenizer, 3, spell_answers=True)
    for one in (prompt, spelling):
        for make in (one.question, one.next_question, one.answer):
            with pytest.raises(ValueError, match=f"has {mark} in it"):
                make(f"stop {mark} here it goes")


@pytest.mark.parametrize(
    "written", ["<{}>", "&lt;{}&gt;", "&amp;lt;{}&amp;gt;", "\uff1c{}\uff1e"]
)
@pytest.mark.parametrize("mark", ["End_Of_Text", "START_OF_TEXT"])
def test_a_mark_in_disguise_is_refused_and_cuts_no_text(prompt, written, mark):
    spelling = QuestionPrompt(prompt.tokenizer, 3, spell_answers=True)
    for one in (prompt, spelling):
        for make in (one.question, one.next_question, one.answer):
            with pytest.raises(ValueError, match=f"has <{mark.lower()}> in it"):
                make(f"no {written.format(mark)} go")


@pytest.mark.parametrize("text", [None, b"what?", 3, ["what?", "why?"]])
def test_what_is_no_text_is_refused(prompt, text):
    for make in (prompt.question, prompt.next_question, prompt.answer):
        with pytest.raises(TypeError, match="A question or an answer is one text, got"):
            make(text)


def test_a_text_without_a_token_is_refused(prompt):
    for text in ("\x00", "\ufeff", " "):
        with pytest.raises(ValueError, match="no word, letter or mark"):
            prompt.answer(text)


@pytest.mark.parametrize("spell", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        "12",
        "[000, 250, 500, 999]",
        "flag: u.s. virgin islands",
        "left-facing fist (woman's)",
        "3.5 or 50% at 10:30",
        "1,000",
        "-12,345.5",
        ".5",
        "1st place, it's me!",
        'a "granny smith" apple.',
    ],
)
def test_answers_are_read_as_they_were_written(spell, text):
    prompt = QuestionPrompt(PETokenizer(64, 6000), 3, spell_answers=spell)
    assert prompt.text(prompt.answer(text)) == prompt.written(text) == text


def test_what_a_vocabulary_does_not_keep_is_written_its_way(prompt):
    written = prompt.written("Heresy  a - b")
    assert written == prompt.written(written) == "heresy a-b"


def test_whether_it_spells_is_true_or_false():
    with pytest.raises(ValueError, match="spell_answers must be True or False"):
        QuestionPrompt(PETokenizer(24, 6000), 3, spell_answers="no")


def test_questions_apart_are_those_of_documents_of_one_question(prompt):
    asked = [("What is this?", "a dog"), ("Is it big?", "no")]
    found = prompt.questions(asked)
    for number, pair in enumerate(asked, 1):
        mine = np.isin(found.branches, (0, number))
        alone = prompt.document(*pair)
        np.testing.assert_array_equal(found.token_ids[mine], alone.token_ids)
        np.testing.assert_array_equal(found.answer[mine], alone.answer)
        np.testing.assert_array_equal(found.positions[mine], np.arange(len(alone)))
    with pytest.raises(ValueError, match="questions: there is no question"):
        prompt.questions([])


def test_questions_that_stand_before_the_image_can_not_share_it(prompt):
    class Before(QuestionPrompt):
        def question(self, question, image=True):
            asked = super().question(question, image)
            order = np.argsort(asked.image, kind="stable")
            ids = asked.token_ids[order]
            return Document(ids, asked.answer, asked.image[order])

    before = Before(prompt.tokenizer, image_tokens=3)
    with pytest.raises(ValueError, match="differs from one question to another"):
        before.questions([("What is this?", "a dog"), ("What is that?", "no")])
