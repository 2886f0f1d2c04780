"""Packed batches: pure functions of their number, nearly full, each question once."""

import math
import pickle
from collections import Counter

import numpy as np
import pytest

from keras_pe import PETokenizer
from keras_pe.data import (
    SampleError,
    SequentialOrder,
    ShuffledOrder,
    SkippedSamples,
    TooManySkipped,
    batches,
)
from keras_pe.data.augmentation import WholeImage
from keras_pe.data.image_text import opened_image
from keras_pe.data.packing import BRANCH
from keras_pe.data.question_documents import NO_TOKENS, TOO_LONG, QuestionReader
from keras_pe.data.question_rows import QuestionRows
from keras_pe.data.questions import Question, question_member
from keras_pe.data.row_shape import BLOCK, RowShape, row_shape
from keras_pe.data.sample_errors import NO_ROOM
from keras_pe.language import QuestionPrompt
from tests.data.shards import image_bytes

pytestmark = [pytest.mark.quick, pytest.mark.once]

TOKENS = 4  # of an image
LENGTH = 64
PROMPT = QuestionPrompt(PETokenizer(LENGTH), image_tokens=TOKENS)


class Samples:
    """A source in memory: sample n is asked its number, and shows it."""

    def __init__(self, count=96, questions=1, **changed):
        self.count, self.questions, self.changed = count, questions, changed

    def __len__(self):
        return self.count

    def __getitem__(self, number):
        if str(number) in self.changed:
            return {"__key__": str(number)} | self.changed[str(number)]
        words = " ".join(["well"] * (number % 9))
        asked = [
            Question(f"question {k}?", f"{words} number {number}")
            for k in range(self.questions)
        ]
        found = {"__key__": str(number), "json": question_member(asked)}
        if number % 5:
            found["png"] = image_bytes(number % 256)
        return found


def rows_of(source, batch=12, questions=1, apart=False, **options):
    order = ShuffledOrder(len(source), batch, seed=3)
    reader = QuestionReader(PROMPT, questions, LENGTH, apart)
    shape = options.pop("shape", None) or row_shape(source, order, reader)
    return QuestionRows(
        source, order, reader, WholeImage(8), shape, (8, 8), seed=3, **options
    )


def answers_of(batch, row):
    """Returns the answers of a row, by the number of their document."""
    places, ids = batch["answer_places"][row], batch["answer_ids"][row]
    kept = batch["answer_weights"][row] > 0
    numbers = batch["documents"][row][places[kept]]
    return {n: PROMPT.text(ids[kept][numbers == n]) for n in np.unique(numbers)}


def test_each_sample_comes_once_an_epoch_with_its_own_image():
    source = Samples()
    dataset = rows_of(source, batch=6)  # 16 batches: an epoch is a block
    seen = Counter()
    for number in range(BLOCK):
        batch = dataset[number]
        assert batch["skipped"] == ()
        for row in range(dataset.shape.rows):
            found = answers_of(batch, row)
            slots = batch["image_slots"][row]
            shown = 0
            for document in range(1, int(batch["documents"][row].max()) + 1):
                text = found[document]
                sample = number_in(text)
                seen[sample] += 1
                mine = slots[batch["documents"][row] == document]
                if sample % 5:
                    assert mine.max() == (shown + 1) * TOKENS
                    pixel = (batch["images"][row, shown] + 1) * 127.5
                    expected = WholeImage(8)(opened_image(source[sample]), None)
                    np.testing.assert_allclose(pixel, (expected + 1) * 127.5)
                    shown += 1
                else:
                    assert mine.max() == 0
    assert seen == Counter(range(len(source)))


def test_a_prompt_that_does_not_pack_has_a_row_for_each_document():
    source = Samples()
    alone = QuestionPrompt(PETokenizer(LENGTH), image_tokens=TOKENS)
    alone.packs = False
    order = ShuffledOrder(len(source), 6, seed=3)
    reader = QuestionReader(alone, 1, LENGTH)
    shape = row_shape(source, order, reader)
    assert (shape.rows, shape.images) == (6, 1)
    rows = QuestionRows(source, order, reader, WholeImage(8), shape, (8, 8), seed=3)
    seen = Counter()
    for number in range(BLOCK):
        batch = rows[number]
        assert batch["skipped"] == ()
        assert (batch["documents"].max(axis=1) == 1).all()
        for row in range(shape.rows):
            (text,) = answers_of(batch, row).values()
            seen[number_in(text)] += 1
    assert seen == Counter(range(len(source)))


def number_in(text):
    """Returns the number that a text ends with; the tokenizer parts its digits."""
    return int("".join(sign for sign in text if sign.isdigit()))


@pytest.mark.slow
def test_a_batch_depends_on_its_number_alone():
    source = Samples(questions=4)
    dataset = rows_of(source, questions=3)
    forward = [dataset[n] for n in range(2 * BLOCK)]
    other = pickle.loads(pickle.dumps(rows_of(source, questions=3)))
    for number in (2 * BLOCK - 1, 3, BLOCK, 0):
        _assert_same(other[number], forward[number])
    hosts = [
        rows_of(source, questions=3, shape=RowShape(12, LENGTH, 4, 40)),
        *(
            rows_of(
                source,
                questions=3,
                shape=RowShape(12, LENGTH, 4, 40),
                host_index=k,
                host_count=2,
            )
            for k in range(2)
        ),
    ]
    whole, *halves = (dataset[5] for dataset in hosts)
    for name in ("images", "token_ids", "answer_ids"):
        joined = np.concatenate([half[name] for half in halves])
        np.testing.assert_array_equal(joined, whole[name])


def _assert_same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


@pytest.mark.slow
def test_rows_are_nearly_full():
    source = Samples(count=2000, questions=4)
    dataset = rows_of(source, batch=100, questions=2)
    used = [np.mean(dataset[n]["documents"] > 0) for n in range(2 * BLOCK)]
    assert np.mean(used) > 0.95
    assert not any(dataset[n]["skipped"] for n in range(2 * BLOCK))


class Told:
    """A prompt that remembers what it was asked for last."""

    image_tokens = TOKENS

    def conversation(self, turns, image, source):
        self.turns = turns
        return PROMPT.conversation(turns, image, source)


def test_questions_are_drawn_anew_and_none_twice():
    source = Samples(count=12, questions=6)
    told = Told()
    reader = QuestionReader(told, 3, LENGTH)
    drawn = set()
    for seed in range(20):
        reader(source[1], np.random.default_rng(seed))
        asked = tuple(question for question, _ in told.turns)
        assert len(set(asked)) == len(asked) == 3
        drawn.add(asked)
    assert len(drawn) > 10


def test_questions_apart_are_branches_and_turns_are_not():
    asked = [Question(f"question {k}?", "yes") for k in range(3)]
    reader = QuestionReader(PROMPT, 2, LENGTH, apart=True)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        document = reader({"json": question_member(asked)}, rng)
        assert sorted(set(document.branches.tolist())) == [0, 1, 2]
        turns = question_member(asked, {"conversation": True})
        assert reader({"json": turns}, rng).branches is None
    # What does not fit is left out, one question after the other.
    long = [*asked, Question("why?", "because " * 60)]
    document = QuestionReader(PROMPT, 4, LENGTH, apart=True)(
        {"json": question_member(long)}, np.random.default_rng(0)
    )
    assert max(document.branches) == 3


def test_an_unreadable_image_teaches_no_branch_anything():
    asked = [Question(f"question {k}?", "yes") for k in range(3)]
    broken = {"json": question_member(asked), "png": b"no image"}
    rows = rows_of(Samples(questions=3, **{"1": broken}), questions=3, apart=True)
    batches = [rows[number] for number in range(BLOCK)]
    batch = next(batch for batch in batches if batch["skipped"])
    codes = np.take_along_axis(batch["documents"], batch["answer_places"], axis=1)
    codes[codes < BRANCH] = 0  # places that are not used
    silent = [
        {int(code) // BRANCH for code in own[own % BRANCH == number]}
        for own, weights in zip(codes, batch["answer_weights"], strict=True)
        for number in set((own % BRANCH).tolist()) - {0}
        if not weights[own % BRANCH == number].any()
    ]
    assert silent == [{1, 2, 3}]


def test_turns_of_a_conversation_stay_in_order():
    told = Told()
    asked = [Question(f"turn {k}?", "yes") for k in range(5)]
    asked[3] = Question("turn 3?", "because " * 60)
    sample = {"json": question_member(asked, {"conversation": True})}
    for seed in range(5):
        rng = np.random.default_rng(seed)
        QuestionReader(told, 2, LENGTH)(sample, rng)
        assert [question for question, _ in told.turns] == ["turn 0?", "turn 1?"]
        # Nothing is left out in between.
        document = QuestionReader(PROMPT, 5, LENGTH)(sample, rng)
        assert int(document.answer.sum()) == 3 * 2
    odd = question_member(asked, {"conversation": "yes"})
    with pytest.raises(SampleError, match="expected true or false"):
        QuestionReader(told, 2, LENGTH)({"json": odd}, rng)


def test_what_is_too_long_is_left_out_and_what_is_nothing_else_is_told():
    long = Question("why?", "because " * 60)
    member = question_member([long, Question("short?", "yes")])
    reader = QuestionReader(PROMPT, 2, LENGTH)
    for seed in range(4):
        document = reader({"json": member}, np.random.default_rng(seed))
        assert PROMPT.text(document.token_ids[document.answer]) == "yes"
    with pytest.raises(SampleError, match=TOO_LONG):
        reader({"json": question_member([long])}, np.random.default_rng(0))


def test_what_can_be_no_tokens_is_not_called_too_long():
    member = question_member([Question("why <END_OF_TEXT> so?", "yes")])
    with pytest.raises(SampleError, match="has <end_of_text> in it") as refused:
        QuestionReader(PROMPT, 2, LENGTH)({"json": member}, np.random.default_rng(0))
    assert refused.value.reason == NO_TOKENS
    assert "longer rows" not in str(refused.value)


@pytest.mark.parametrize("name", ["most_questions", "length"])
@pytest.mark.parametrize("size", [0, -1, 1.5])
def test_numbers_of_questions_and_tokens_are_checked(name, size):
    sizes = {"most_questions": 2, "length": LENGTH, name: size}
    with pytest.raises(ValueError, match=f"{name} must be a whole number"):
        QuestionReader(PROMPT, **sizes)


def test_bad_samples_are_counted_and_an_unreadable_image_teaches_nothing():
    broken = Samples()[7] | {"png": b"no image"}
    source = Samples(**{"3": {"json": b"{}"}, "7": broken})
    dataset = rows_of(source, batch=6)
    skipped = [one for n in range(BLOCK) for one in dataset[n]["skipped"]]
    assert sorted(one.number for one in skipped) == [3, 7]
    for number in range(BLOCK):
        for row in range(dataset.shape.rows):
            answers = answers_of(dataset[number], row).values()
            assert not any(text.endswith("number 7") for text in answers)


def test_what_finds_no_room_is_counted():
    source = Samples()
    dataset = rows_of(source, batch=6, shape=RowShape(1, LENGTH, 2, 20))
    skipped = [one for n in range(BLOCK) for one in dataset[n]["skipped"]]
    assert {one.reason for one in skipped} == {NO_ROOM}
    given = sum(dataset[n]["num_samples"] for n in range(BLOCK))
    assert given + len(skipped) == len(source)
    report = SkippedSamples(max_bad_share=0.01, min_samples=1)
    with pytest.raises(TooManySkipped, match="no room in the rows"):
        report.add_batch(1, skipped)


@pytest.mark.slow
def test_larger_blocks_than_the_first_have_room():
    source = Samples(count=3000, questions=3)
    for seed in range(3):
        order = ShuffledOrder(len(source), 24, seed=seed)
        reader = QuestionReader(PROMPT, 2, LENGTH)
        shape = row_shape(source, order, reader, seed=seed)
        rows = QuestionRows(source, order, reader, WholeImage(8), shape, (8, 8), seed)
        for block in range(6):
            assert not any(rows._planned(block).skipped.values())
        # Four samples of five have an image: no more places a row than they need.
        assert shape.images == math.ceil(24 * 4 / 5 / shape.rows)


def test_a_source_of_nothing_is_told():
    source = Samples(count=20, **{str(n): {"json": b"{}"} for n in range(20)})
    with pytest.raises(SampleError, match="None of 64 samples can be used; "):
        rows_of(source, batch=4)


def test_the_loader_gives_what_fit_takes():
    dataset = rows_of(Samples(), batch=6)
    with batches(dataset[2:4], num_threads=2) as loader:
        found = list(loader)
    assert len(found) == 2
    assert loader.skip_report.num_samples == sum(
        dataset[n]["num_samples"] for n in (2, 3)
    )
    for batch, number in zip(found, (2, 3), strict=True):
        assert "num_samples" not in batch
        np.testing.assert_array_equal(batch["images"], dataset[number]["images"])


def test_hosts_share_the_rows():
    with pytest.raises(ValueError, match="5 rows, host_index=0, host_count=2"):
        rows_of(Samples(), shape=RowShape(5, LENGTH, 2, 20), host_count=2)


@pytest.mark.slow
def test_devices_change_nothing_but_empty_rows():
    source = Samples(questions=4)
    order, reader = ShuffledOrder(96, 12, seed=3), QuestionReader(PROMPT, 2, LENGTH)
    shapes = [row_shape(source, order, reader, multiple) for multiple in (1, 2, 5)]
    assert len({shape.rows for shape in shapes}) > 1
    one, *others = (rows_of(source, questions=2, shape=shape) for shape in shapes)
    for other in others:
        for number in (0, BLOCK - 1, BLOCK):
            ours, theirs = one[number], other[number]
            for name in ("token_ids", "images", "answer_ids"):
                count = len(ours[name])
                np.testing.assert_array_equal(ours[name], theirs[name][:count])
                assert not theirs["answer_weights"][count:].any()


def test_the_order_may_be_any():
    reader = QuestionReader(PROMPT, 1, LENGTH)
    shape = row_shape(Samples(), SequentialOrder(96, 6), reader, multiple=4)
    assert shape.rows % 4 == 0


def test_long_answers_that_come_late_find_room():
    """Batches of two say little of the longest answer; none of it is skipped."""
    rng = np.random.default_rng(0)
    lengths = np.minimum(rng.lognormal(1.5, 0.8, 600).astype(int) + 1, 40)
    changed = {
        str(k): {"json": question_member([Question("q?", "well " * int(count))])}
        for k, count in enumerate(lengths)
    }
    source = Samples(600, **changed)
    order = ShuffledOrder(len(source), batch_size=2, seed=1)
    reader = QuestionReader(PROMPT, 1, LENGTH)
    shape = row_shape(source, order, reader)
    rows = QuestionRows(source, order, reader, WholeImage(16), shape, (16, 16))
    assert shape.slots > max(
        int(reader(source[k], rng).answer.sum()) for k in order[0].tolist()
    )
    skipped = [one for k in range(300) for one in rows.batch(k)["skipped"]]
    assert len(skipped) < 6  # one per cent


def test_rows_are_full_where_long_texts_are_rare():
    """Places for images are cheaper than rows that stay empty for want of them."""
    changed = {
        str(k): {"json": question_member([Question("q?", "well " * 40)])}
        for k in range(0, 400, 50)
    }
    source = Samples(400, **changed)
    order = SequentialOrder(len(source), batch_size=50)
    reader = QuestionReader(PROMPT, 1, LENGTH)
    shape = row_shape(source, order, reader)
    tokens = sum(len(reader(source[k], np.random.default_rng(0))) for k in range(400))
    assert tokens / (8 * shape.rows * LENGTH) > 0.75
