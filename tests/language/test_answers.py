"""The cost of packed answers: as of each alone, with images in their places."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_pe import PETokenizer
from keras_pe.data.packing import BRANCH, Document, packed_row
from keras_pe.language import QuestionPrompt, SmallDecoder, answer_cost
from keras_pe.language.answers import among_words
from keras_pe.language.decoder import same_document
from tests.arrays import to_numpy

WIDTH, LENGTH, SLOTS = 8, 14, 5
KINDS = ([0, 1, 1, 0, 2], [0, 1, 1, 0, 0, 2, 2])  # word, image, answer


def documents():
    rng = np.random.default_rng(0)
    for kinds in map(np.array, KINDS):
        yield Document(rng.integers(1, 20, len(kinds)), kinds == 2, kinds == 1)


def decoder():
    keras.utils.set_random_seed(0)
    return SmallDecoder(20, WIDTH, num_layers=1, num_heads=2, max_length=LENGTH)


def tokens(count, seed=1):
    shape = (1, count, WIDTH)
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


@pytest.mark.quick
def test_packed_answers_cost_what_each_costs_alone():
    model, shown = decoder(), tokens(4)
    row = packed_row(list(documents()), LENGTH, SLOTS)
    found = answer_cost(model, shown, {name: x[None] for name, x in row.items()})
    cost = right = 0.0
    for number, document in enumerate(documents()):
        x = to_numpy(model.embed(document.token_ids[None])).copy()
        x[0, document.image] = shown[0, 2 * number : 2 * number + 2]
        logits = to_numpy(model.logits(model.run(ops.convert_to_tensor(x))))[0]
        shares = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        for place in np.flatnonzero(document.answer):
            cost -= shares[place - 1, document.token_ids[place]]
            right += shares[place - 1].argmax() == document.token_ids[place]
    assert float(found.cost) == pytest.approx(cost, rel=1e-5)
    assert float(found.right) == right


@pytest.mark.quick
def test_image_tokens_stand_in_their_slots_and_absent_ones_are_no_numbers():
    model, shown = decoder(), tokens(2)
    ids, slots = np.array([[3, 0, 4, 0]]), np.array([[0, 2, 0, 1]])
    found = to_numpy(among_words(model, ids, slots, shown))[0]
    words = to_numpy(model.embed(ids))[0]
    np.testing.assert_array_equal(found, [words[0], shown[0, 1], words[2], shown[0, 0]])
    absent = to_numpy(among_words(model, ids, slots + 1, shown))[0]
    assert np.isnan(absent[1]).all()
    assert np.isfinite(absent[3]).all()


@pytest.mark.quick
def test_questions_apart_cost_what_each_costs_alone():
    prompt = QuestionPrompt(PETokenizer(16, 600), image_tokens=2)
    asked = [("What is this?", "a dog"), ("Is it big?", "no"), ("Where?", "left")]
    joined = prompt.questions(asked)
    keras.utils.set_random_seed(0)
    model = SmallDecoder(600, WIDTH, num_layers=2, num_heads=2, max_length=64)
    other, shown = next(documents()), tokens(4)
    row = packed_row([other, joined], 64, 30)
    found = answer_cost(model, shown, {name: x[None] for name, x in row.items()})
    alone = [(other, shown[:, :2])]
    alone += [(prompt.document(*pair), shown[:, 2:]) for pair in asked]
    cost = right = 0.0
    for document, image in alone:
        single = packed_row([document], 40, 20)
        each = answer_cost(model, image, {n: x[None] for n, x in single.items()})
        cost, right = cost + float(each.cost), right + float(each.right)
    assert float(found.cost) == pytest.approx(cost, rel=1e-5)
    assert float(found.right) == right
    # A conversation is another thing: its answers are seen by the questions after them.
    turns = packed_row([other, prompt.conversation(asked)], 64, 30)
    told = answer_cost(model, shown, {name: x[None] for name, x in turns.items()})
    assert abs(float(told.cost) - cost) > 1e-4 * cost


@pytest.mark.quick
def test_a_token_sees_its_trunk_and_its_branch_alone():
    codes = np.array([[1, 1, 1 + BRANCH, 1 + BRANCH, 1 + 2 * BRANCH, 2, 0]], "int32")
    expected = [
        [1, 1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0],
        [1, 1, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 0, 1],
    ]
    np.testing.assert_array_equal(to_numpy(same_document(codes))[0, 0], expected)
