"""Orders in which some shards come more often: exact counts, the same every time."""

from collections import Counter

import numpy as np
import pytest

from keras_pe.data.order import Order, ShuffledOrder
from keras_pe.data.repeated_order import RepeatedOrder, shard_repeats

pytestmark = [pytest.mark.quick, pytest.mark.once]


def test_every_sample_comes_as_often_as_its_shard_says():
    order = RepeatedOrder([3, 4, 2], [1, 3, 2], batch_size=19, seed=5)
    assert isinstance(order, Order)
    assert order.num_samples == 19
    for epoch in range(3):
        counts = Counter(order[epoch].tolist())
        assert counts == dict.fromkeys(range(3), 1) | dict.fromkeys(
            range(3, 7), 3
        ) | dict.fromkeys(range(7, 9), 2)
    assert order[0].tolist() != order[1].tolist()


def test_a_batch_is_a_function_of_seed_and_number():
    one, again = (RepeatedOrder([5, 7], [2, 1], 4, seed=1) for _ in range(2))
    other = RepeatedOrder([5, 7], [2, 1], 4, seed=2)
    rows = [one[number].tolist() for number in range(8)]
    assert rows == [again[number].tolist() for number in range(8)]
    assert rows != [other[number].tolist() for number in range(8)]


def test_without_repeats_it_is_the_shuffled_order():
    mine, plain = RepeatedOrder([5, 6], [1, 1], 4, 3), ShuffledOrder(11, 4, 3)
    for number in range(6):
        np.testing.assert_array_equal(mine[number], plain[number])


@pytest.mark.parametrize(
    "repeats", [[1], [1, 0], [1, 2, 3], [1, 1.5], [1, float("nan")]]
)
def test_odd_repeats_are_refused(repeats):
    with pytest.raises(ValueError, match="at least 1 for each shard"):
        RepeatedOrder([5, 6], repeats, 4)


def test_rules_are_matched_by_the_names_of_files():
    paths = ["words/names-0.tar", "names/words-0.tar", "names/words-1.tar"]
    assert shard_repeats(paths, []) == [1, 1, 1]
    assert shard_repeats(paths, ["words-*:3"]) == [1, 3, 3]
    assert shard_repeats(paths, ["words-1*:3", "names-*:2"]) == [2, 1, 3]


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (["words-*"], "PATTERN:TIMES"),
        (["words-*:0"], "PATTERN:TIMES"),
        ([":2"], "PATTERN:TIMES"),
        (["words-*:1.5"], "PATTERN:TIMES"),
        (["letters-*:2"], "matches none of 2 shards, 'names-0.tar' to 'words-0.tar'"),
        (["words-*:2", "*:3"], "both match"),
    ],
)
def test_rules_that_mean_nothing_are_refused(rules, said):
    with pytest.raises(ValueError, match=said):
        shard_repeats(["a/names-0.tar", "a/words-0.tar"], rules)
