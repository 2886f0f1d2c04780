"""Questions as targets, and in rows: each once, with its own image."""

import numpy as np
import pytest

from keras_pe.probing import ImageQuestion, QuestionSet, question_targets
from keras_pe.probing.language_batches import (
    Documents,
    TrainingRows,
    features_of,
    prompts_of,
    row_length,
)
from keras_pe.probing.language_controls import OtherImages
from keras_pe.probing.language_data import questions_of_samples
from tests.probing.asked import prompt, questions
from tests.probing.stored import stored

pytestmark = [pytest.mark.quick, pytest.mark.once]
IMAGES = np.zeros((3, 8, 8, 3), "float32")


def test_questions_come_back_from_targets():
    rows = [
        (2, "How many?", "two", "count"),
        (0, "What?", "a cat"),
        (2, "Is it?", "no"),
    ]
    other = [(1, "Which of all these things is largest?", "it", "")]
    targets, others = question_targets(
        QuestionSet(IMAGES, rows), QuestionSet(IMAGES, other)
    )
    assert targets.shape == others.shape == (3, 2, 3)
    assert targets.dtype == others.dtype
    with stored(np.zeros((3, 1), "float32"), targets, 3) as (samples,):
        found = list(questions_of_samples(samples))
    assert sorted(found) == sorted(ImageQuestion(*row) for row in rows)


def test_samples_of_a_shard_make_a_set():
    several = [[ImageQuestion(9, "What?", "a cat", "name")], [], []]
    found = QuestionSet.of_samples(IMAGES, several)
    assert found.questions == (ImageQuestion(0, "What?", "a cat", "name"),)
    with pytest.raises(ValueError, match="3 images and 1 lists"):
        QuestionSet.of_samples(IMAGES, several[:1])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no questions"),
        ([(3, "What?", "a cat")], "image 3: there are 3"),
        ([(-1, "What?", "a cat")], "image -1"),
        ([(True, "What?", "a cat")], "image True"),
        ([(0, " ", "a cat")], "question of question 0"),
        ([(0, "What?", "")], "answer of question 0"),
        ([(0, "What?", 3)], "answer of question 0"),
        ([(0, "What?")], r"must be \(image, question"),
        (["What?"], r"must be \(image, question"),
    ],
)
def test_what_is_no_question_is_refused(rows, message):
    with pytest.raises((ValueError, TypeError), match=message):
        QuestionSet(IMAGES, rows)


def test_class_numbers_are_no_questions():
    with (
        stored(np.zeros((3, 1), "float32"), np.arange(3), 3) as (samples,),
        pytest.raises(ValueError, match="needs questions as targets"),
    ):
        list(questions_of_samples(samples))


# === Rows ===
def asked_samples(count=20):
    (targets,) = question_targets(questions(count, several=True))
    features = np.arange(count, dtype="float32")[:, None, None, None]
    return stored(np.tile(features, (1, 2, 2, 5)), targets, count)


def training_rows(samples, packs=True, seed=0, steps=12):
    documents = Documents(prompt(4))(list(questions_of_samples(samples)))
    length = row_length(documents, 512, packs)
    return documents, TrainingRows(documents, length, 8, steps, packs, seed)


@pytest.mark.parametrize("packs", [True, False])
def test_every_question_comes_once_before_any_comes_twice(packs):
    with asked_samples() as (samples,):
        documents, rows = training_rows(samples, packs)
    seen = [document for row in rows.rows for document in row]
    first, second = seen[: len(documents)], seen[len(documents) : 2 * len(documents)]
    for epoch in (first, second):
        assert sorted(map(id, epoch)) == sorted(map(id, documents))
    assert list(map(id, first)) != list(map(id, second))
    assert packs == any(len(row) > 1 for row in rows.rows)


@pytest.mark.parametrize("packs", [True, False])
def test_each_question_has_its_own_image_in_its_row(packs):
    with asked_samples() as (samples,):
        _, rows = training_rows(samples, packs)
        for step in range(12):
            batch = rows.batch(samples, step)
            chosen = rows.rows[step * rows.rows_a_step : (step + 1) * rows.rows_a_step]
            for row, documents in enumerate(chosen):
                tokens = batch["features"][row].reshape(-1, 5)
                for number, document in enumerate(documents, 1):
                    slots = batch["image_slots"][row][batch["documents"][row] == number]
                    shown = tokens[slots[slots > 0] - 1]
                    np.testing.assert_array_equal(shown, document.image_number)
                    assert len(shown) == 4


def test_blind_rows_differ_in_features_alone_and_have_other_images():
    with asked_samples() as (samples,):
        _, rows = training_rows(samples)
        others = OtherImages.of(samples)
        seen, blind = (rows.batch(samples, 0, which) for which in (None, others))
        again = rows.batch(samples, 0, others)
        later = rows.batch(samples, 1, others)
    for name in set(seen) - {"features"}:
        np.testing.assert_array_equal(seen[name], blind[name])
    assert np.all(seen["features"] != blind["features"])
    np.testing.assert_array_equal(blind["features"], again["features"])
    assert np.any(blind["features"] != later["features"])


def test_rows_of_long_documents_are_full():
    with asked_samples(60) as (samples,):
        _, rows = training_rows(samples)
    assert rows.fill > 0.8


def test_features_are_those_of_the_samples_asked_for():
    with asked_samples() as (samples,):
        positions = np.array([3, 3, 19, 0])
        found = features_of(samples, positions)
    np.testing.assert_array_equal(found[:, 0, 0, 0], positions)
    assert found.dtype == np.float32


def test_prompts_hold_every_question_once_with_its_image():
    with asked_samples() as (samples,):
        asked = list(questions_of_samples(samples))
        batches = list(prompts_of(samples, prompt(4), 8))
    found = [row for batch in batches for row in batch.questions]
    assert sorted(found) == sorted(asked)
    assert len({batch.token_ids.shape for batch in batches}) == 1
    for batch in batches:
        for place, row in enumerate(batch.questions):
            document = prompt(4).question(row.question)
            length = batch.lengths[place]
            assert (
                batch.token_ids[place, :length].tolist() == document.token_ids.tolist()
            )
            slots = batch.image_slots[place, :length]
            assert slots[document.image].tolist() == [1, 2, 3, 4]
            assert slots.sum() == 10
            np.testing.assert_array_equal(batch.features[place], row.image)
