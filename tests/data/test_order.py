"""Which samples a batch holds."""

import itertools

import numpy as np
import pytest

from keras_pe.data import Order, SequentialOrder, ShuffledOrder
from keras_pe.data.order import permute

pytestmark = [pytest.mark.quick, pytest.mark.once]


@pytest.mark.parametrize("num_samples", [1, 2, 3, 4, 5, 17, 64, 65, 1000, 4097])
def test_a_permutation_for_every_length(num_samples):
    places = np.arange(num_samples)
    for epoch in range(5):
        found = permute(places, num_samples, (1, epoch))
        assert sorted(found.tolist()) == places.tolist()


@pytest.mark.parametrize(("num_samples", "batch_size"), [(12, 4), (13, 4), (7, 7)])
def test_every_sample_once_an_epoch_even_across_batches(num_samples, batch_size):
    order = ShuffledOrder(num_samples, batch_size, seed=3)
    stream = list(itertools.chain(*(order[i].tolist() for i in range(40))))
    epochs = [
        stream[start : start + num_samples]
        for start in range(0, len(stream) - num_samples + 1, num_samples)
    ]
    assert len(epochs) > 3
    for epoch in epochs:
        assert sorted(epoch) == list(range(num_samples))
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)


def test_a_pure_function_of_seed_and_number():
    order = ShuffledOrder(100, 8, seed=5)
    late = [order[i].tolist() for i in (50, 3, 10**9)]
    again = ShuffledOrder(100, 8, seed=5)
    assert [again[i].tolist() for i in (50, 3, 10**9)] == late
    assert ShuffledOrder(100, 8, seed=6)[50].tolist() != late[0]
    assert order[0].dtype == np.int64
    assert order[0].shape == (8,)


def test_does_not_change_between_releases():
    """Runs are resumed with later versions: these numbers must stay."""
    assert ShuffledOrder(10, 10, seed=0)[0].tolist() == [6, 2, 9, 0, 1, 8, 7, 3, 5, 4]
    assert ShuffledOrder(5_400_000_000, 4, seed=1)[1000].tolist() == [
        4776383990,
        2305242093,
        2736073170,
        3113297435,
    ]


def test_billions_of_samples_without_a_table():
    order = ShuffledOrder(5_400_000_000, 131_072, seed=0)
    batch = order[40_000]
    assert len(np.unique(batch)) == len(batch)
    assert 0 <= batch.min() < batch.max() < 5_400_000_000
    # Uniform: the mean of so many has a standard error of 0.0008 of the range.
    assert abs(batch.mean() / 5_400_000_000 - 0.5) < 0.004


@pytest.mark.slow
@pytest.mark.parametrize("num_samples", [4, 10, 100])
def test_places_and_samples_are_independent(num_samples):
    """Chi-squared over epochs: every sample comes equally often at every place."""
    epochs = 6000 // num_samples + 500
    found = np.stack(
        [permute(np.arange(num_samples), num_samples, (7, e)) for e in range(epochs)]
    )
    for counts in (
        np.stack([np.bincount(row, minlength=num_samples) for row in found.T]),
        # neighbours: the step from one sample to the next
        np.bincount(
            ((found[:, 1:] - found[:, :-1]) % num_samples).ravel(),
            minlength=num_samples,
        )[1:][None],
    ):
        expected = counts.sum() / counts.size
        chi_squared = ((counts - expected) ** 2 / expected).sum()
        freedom = (counts.shape[0] - 1 or 1) * (counts.shape[1] - 1)
        assert abs(chi_squared - freedom) < 5 * np.sqrt(2 * freedom)


def test_sequential_order():
    order = SequentialOrder(5, 2)
    assert [order[i].tolist() for i in range(4)] == [[0, 1], [2, 3], [4, 0], [1, 2]]


def test_any_object_of_the_form_will_do():
    class Constant:
        batch_size = 2

        def __getitem__(self, batch):
            return np.array([batch, batch])

    assert isinstance(Constant(), Order)
    assert isinstance(ShuffledOrder(3, 2), Order)


def test_impossible_orders():
    with pytest.raises(ValueError, match="would hold a sample twice"):
        ShuffledOrder(3, 4)
    with pytest.raises(ValueError, match="batch_size=0"):
        SequentialOrder(3, 0)
    with pytest.raises(ValueError, match="seed=-1"):
        ShuffledOrder(3, 2, seed=-1)
    with pytest.raises(IndexError, match="Batch -1"):
        ShuffledOrder(3, 2)[-1]
