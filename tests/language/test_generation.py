"""Greedy answers: those of each prompt alone, and of no cache."""

import numpy as np
import pytest

from keras_pe.arrays import NonFiniteError
from keras_pe.language import generate
from tests.arrays import to_numpy
from tests.language.test_small_decoder import WORDS, decoder

pytestmark = pytest.mark.quick

STOP = 7


def prompts(model, lengths, seed=0):
    rng = np.random.default_rng(seed)
    return to_numpy(model.embed(rng.integers(0, WORDS, (len(lengths), max(lengths)))))


def slow_answer(model, prompt, steps, stop=STOP, no_repeat=None):
    """Runs the whole sequence anew for each token, at one length: nothing sees zeros
    that come after it.
    """
    found, x = [], np.zeros((1, model.max_length, prompt.shape[1]), "float32")
    x[0, : len(prompt)] = prompt
    while len(found) < steps and stop not in found:
        place = len(prompt) + len(found)
        logits = to_numpy(model.logits(model.run(x)))[0, place - 1]
        order = np.argsort(-logits, kind="stable").tolist()
        if no_repeat is not None:
            order = [word for word in order if is_new([*found, word], no_repeat)]
        found.append(order[0])
        x[0, place] = to_numpy(model.embed(np.array([[found[-1]]])))[0, 0]
    return found + [stop] * (steps - len(found))


def is_new(words, run):
    runs = [words[n : n + run] for n in range(len(words) - run + 1)]
    return not runs or runs[-1] not in runs[:-1]


@pytest.mark.parametrize("lengths", [[4], [4, 4, 4], [2, 5, 3]])
def test_answers_are_those_of_each_prompt_alone_without_a_cache(lengths):
    model = decoder(max_length=20)
    x = prompts(model, lengths)
    expected = [
        slow_answer(model, row[:n], 6) for row, n in zip(x, lengths, strict=True)
    ]
    found = generate(model, x, STOP, max_tokens=6, lengths=lengths)
    assert found.dtype == np.int32
    assert found.tolist() == expected
    # What is padding does not matter.
    for number in (9.0, np.nan):
        for row, n in zip(x, lengths, strict=True):
            row[n:] = number
        assert generate(model, x, STOP, 6, lengths).tolist() == expected


@pytest.mark.compiled
@pytest.mark.parametrize("run", [1, 2, 3])
def test_no_run_of_tokens_comes_twice(run):
    lengths, changed = [2, 5, 3], 0
    for seed in range(3):
        model = decoder(max_length=20)
        x = prompts(model, lengths, seed)
        free = generate(model, x, STOP, 12, lengths)
        found = generate(model, x, STOP, 12, lengths, no_repeat=run)
        assert found.tolist() == [
            slow_answer(model, row[:n], 12, no_repeat=run)
            for row, n in zip(x, lengths, strict=True)
        ]
        changed += (found != free).any(1).sum()
        # Of more tokens than an answer has there are no two.
        for long in (12, 10**9):
            same = generate(model, x, STOP, 12, lengths, no_repeat=long)
            np.testing.assert_array_equal(same, free)
    assert changed  # or it has shown nothing


def test_an_answer_that_can_only_repeat_itself_ends():
    model = decoder(vocabulary_size=3, max_length=20)
    x = to_numpy(model.embed(np.array([[1, 2]])))
    longest = 0
    for stop in range(3):
        (found,) = generate(model, x, stop, max_tokens=12, no_repeat=1).tolist()
        end = found.index(stop)
        assert found[end:] == [stop] * (12 - end)
        assert len({*found[:end]}) == end <= 2
        longest = max(longest, end)
    assert longest == 2


@pytest.mark.compiled
def test_an_answer_ends_at_its_stop():
    model = decoder(max_length=20)
    x = prompts(model, [3, 3, 3, 3], seed=1)
    free = generate(model, x, STOP, max_tokens=5)
    stop = int(free[1, 1])  # so that the second answer ends with its second token
    found = generate(model, x, stop, max_tokens=5)
    for row, before in zip(found, free, strict=True):
        end = before.tolist().index(stop) if stop in before else 5
        assert row[:end].tolist() == before[:end].tolist()
        assert (row[end:] == stop).all()


def test_logits_that_are_not_finite_are_refused():
    model = decoder()
    x = prompts(model, [4, 4]).copy()
    x[1, 2, 3] = np.nan
    with pytest.raises(NonFiniteError, match="logits of prompt 1 of 2"):
        generate(model, x, STOP, max_tokens=4)


@pytest.mark.once
def test_what_does_not_fit_is_refused():
    model = decoder()
    x = prompts(model, [4, 4])
    for options, message in (
        ({"lengths": [4]}, "length from 1 to 4"),
        ({"lengths": [0, 4]}, "length from 1 to 4"),
        ({"lengths": [4, 5]}, "length from 1 to 4"),
        ({"lengths": [2.5, 4.0]}, "length from 1 to 4"),
        ({"max_tokens": 9}, "at most 12 tokens"),
        ({"max_tokens": 0}, "max_tokens must be"),
        ({"no_repeat": 0}, "no_repeat must be"),
        ({"no_repeat": 2.5}, "no_repeat must be"),
        ({"stop_id": WORDS}, "stop_id must be"),
        ({"stop_id": 1.5}, "stop_id must be"),
    ):
        with pytest.raises(ValueError, match=message):
            generate(model, x, **{"stop_id": STOP, "max_tokens": 4, **options})
    for wrong in (x[:0], x[..., :8], np.array([[1, 2]]), None, "a cat", ["a cat"]):
        with pytest.raises(ValueError, match=r"There must be prompts|embeddings \("):
            generate(model, wrong, STOP, max_tokens=4)
