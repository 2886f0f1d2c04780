"""Packed rows: nearly full, each document once, and told apart."""

import numpy as np
import pytest

from keras_pe.data.packing import BRANCH, Document, pack_documents, packed_row

pytestmark = [pytest.mark.quick, pytest.mark.once]


def document(tokens, answers=(), images=(), first=10):
    ids = first + np.arange(tokens)
    answer, image = np.zeros((2, tokens), bool)
    answer[list(answers)], image[list(images)] = True, True
    return Document(ids, answer, image, f"document {first}")


def test_rows_are_more_than_nineteen_twentieths_full_and_hold_each_once():
    rng = np.random.default_rng(0)
    lengths = rng.integers(8, 160, 3000)
    documents = [document(int(n), first=place) for place, n in enumerate(lengths)]
    rows = list(pack_documents(documents, 512))
    seen = sorted(int(found.token_ids[0]) for row in rows for found in row)
    assert seen == list(range(3000))
    used = [sum(map(len, row)) for row in rows]
    assert max(used) <= 512
    assert np.mean(used[:-1]) / 512 > 0.95
    # None waits for ever: each row begins with the oldest.
    left = set(range(3000))
    for row in rows:
        places = [int(found.token_ids[0]) for found in row]
        assert places[0] == min(left)
        left -= set(places)


def test_a_row_has_no_more_images_and_answers_than_it_may():
    rng = np.random.default_rng(1)
    lengths = rng.integers(8, 20, 200)
    documents = [
        document(int(n), images=(1, 2) if k % 3 else (), answers=(4, 5), first=k)
        for k, n in enumerate(lengths)
    ]
    rows = list(pack_documents(documents, 64, image_tokens=6, slots=8))
    seen = sorted(int(found.token_ids[0]) for row in rows for found in row)
    assert seen == list(range(200))
    assert max(sum(int(found.image.sum()) for found in row) for row in rows) == 6
    assert max(sum(int(found.answer.sum()) for found in row) for row in rows) == 8
    with pytest.raises(ValueError, match="document 1 has 2 tokens of images, more tha"):
        list(pack_documents(documents, 64, image_tokens=1))
    with pytest.raises(ValueError, match="document 0 has 2 tokens of answers, more"):
        list(pack_documents(documents, 64, slots=1))


def test_mixed_lengths_fill_rows_of_few_images():
    rng = np.random.default_rng(2)
    lengths = np.where(rng.random(600) < 0.6, 20, 60) + rng.integers(0, 8, 600)
    documents = [
        document(int(n), images=range(1, 17), first=k) for k, n in enumerate(lengths)
    ]
    images = -(-512 * 600 // int(lengths.sum()))  # as many as a full row has
    ways = [
        list(pack_documents(documents, 512, image_tokens=16 * images, mixed=mixed))
        for mixed in (False, True)
    ]
    for rows in ways:
        seen = sorted(int(found.token_ids[0]) for row in rows for found in row)
        assert seen == list(range(600))
        assert max(map(len, rows)) <= images
    assert len(ways[1]) < 0.95 * len(ways[0])


def test_a_row_tells_documents_answers_and_images():
    row = [
        document(5, answers=(3, 4), images=(1, 2), first=10),
        document(3, answers=(2,), images=(0,), first=20),
    ]
    found = packed_row(row, length=10, slots=4)
    assert found["token_ids"].tolist() == [10, 0, 0, 13, 14, 0, 21, 22, 0, 0]
    assert found["positions"].tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 0, 0]
    assert found["documents"].tolist() == [1, 1, 1, 1, 1, 2, 2, 2, 0, 0]
    assert found["image_slots"].tolist() == [0, 1, 2, 0, 0, 3, 0, 0, 0, 0]
    # The output at place 2 tells token 3, 13.
    assert found["answer_places"].tolist() == [2, 3, 6, 0]
    assert found["answer_ids"].tolist() == [13, 14, 22, 0]
    assert found["answer_weights"].tolist() == [1, 1, 1, 0]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"document 10 has 9 tokens, more than .* 8"):
        list(pack_documents([document(9)], 8))
    with pytest.raises(ValueError, match="holds 4 tokens and 9 of answers, got 5"):
        packed_row([document(5)], 4, 9)
    with pytest.raises(ValueError, match="1 of answers, got 5 and 2, of document 10"):
        packed_row([document(5, answers=(2, 3))], 8, 1)
    with pytest.raises(ValueError, match="neither its first token"):
        document(3, answers=(0,))
    with pytest.raises(ValueError, match="nor an image's"):
        document(3, answers=(1,), images=(1,))
    for ids, answer in ((np.array([1.0, np.nan]), [0, 1]), (np.array([1, 2]), [0, 1])):
        with pytest.raises(ValueError, match="whole numbers, answer and image True"):
            Document(ids, np.array(answer), np.zeros(2, bool))
    with pytest.raises(ValueError, match="one a token"):
        Document(np.zeros(3, int), np.zeros(2, bool), np.zeros(3, bool))


@pytest.mark.parametrize("number", [-1, 2**31, 2**40])
def test_ids_that_do_not_exist_are_refused_and_not_wrapped(number):
    no = np.zeros(2, bool)
    with pytest.raises(ValueError, match="ids of words are from 0 to"):
        Document(np.array([1, number]), no, no)
    shown = Document(np.array([1, number]), no, np.array([False, True]))
    assert packed_row([shown], 2, 0)["token_ids"].tolist() == [1, 0]


def test_lists_are_documents_too():
    lists = Document([1, 2, 3], [False, False, True], [False] * 3, "", [0, 1, 1])
    arrays = [np.array(x) for x in ([1, 2, 3], [0, 0, 1], [0, 0, 0])]
    same = Document(arrays[0], arrays[1] > 0, arrays[2] > 0, "", np.array([0, 1, 1]))
    for name, array in packed_row([same], 4, 1).items():
        np.testing.assert_array_equal(packed_row([lists], 4, 1)[name], array)


@pytest.mark.parametrize("name", ["image_tokens", "slots"])
@pytest.mark.parametrize("limit", [-1, 1.5, float("nan"), "3", True])
def test_limits_that_are_none_are_refused(name, limit):
    with pytest.raises(ValueError, match=f"{name} must be a whole number of at least"):
        list(pack_documents([document(3)], 8, **{name: limit}))


def test_a_row_has_no_more_documents_than_numbers_tell_apart():
    one = document(1)
    with pytest.raises(ValueError, match="fewer than 65536 documents, got 65536"):
        packed_row([one] * BRANCH, BRANCH, 1)


def branched(branches, answers=()):
    ids, (answer, image) = np.arange(1, 6), np.zeros((2, 5), bool)
    answer[list(answers)] = True
    return Document(ids, answer, image, "a tree", np.array(branches))


def test_branches_begin_where_the_trunk_ends():
    found = branched([0, 0, 1, 1, 2], answers=(3,))
    assert found.positions.tolist() == [0, 1, 2, 3, 2]
    row = packed_row([document(2), found], length=8, slots=1)
    assert row["positions"].tolist() == [0, 1, 0, 1, 2, 3, 2, 0]
    numbers = [1, 1, 2, 2, 2 + BRANCH, 2 + BRANCH, 2 + 2 * BRANCH, 0]
    assert row["documents"].tolist() == numbers
    assert row["answer_places"].tolist() == [4]


@pytest.mark.parametrize(
    "branches",
    [[1, 1, 1, 1, 1], [0, 0, 2, 2, 3], [0, 1, 0, 1, 2], [0, 1, 1], [0.0, 0, 1, 1, 1]],
)
def test_branches_that_are_none_are_refused(branches):
    with pytest.raises(ValueError, match="a tree: branches must be a number a token"):
        branched(branches)


def test_a_branch_begins_with_no_answer():
    with pytest.raises(ValueError, match="begins with a token that is no answer"):
        branched([0, 0, 1, 1, 2], answers=(2,))
