"""Which samples each batch holds, as a pure function of (seed, number of the batch)."""

from typing import Protocol, runtime_checkable

import numpy as np

# With 8 rounds, permutations of fewer than ten samples are visibly uneven.
_ROUNDS = 12
_MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)  # splitmix64


@runtime_checkable
class Order(Protocol):
    """What decides which samples a batch holds; any object of this form will do.

    Attributes:
        batch_size: samples in every batch.

    Example:
        >>> class EveryOther:
        ...     batch_size = 4
        ...     def __getitem__(self, batch):
        ...         return np.arange(4 * batch, 4 * batch + 4) * 2
        >>> isinstance(EveryOther(), Order), EveryOther()[1].tolist()
        (True, [8, 10, 12, 14])
    """

    @property
    def batch_size(self) -> int: ...

    def __getitem__(self, batch: int) -> np.ndarray:
        """Returns the samples of a batch, int64 (batch_size,); the same every time."""


class ShuffledOrder:
    """Every sample exactly once an epoch, shuffled anew in each.

    The epochs follow each other without a seam, so a batch may hold the end of one and
    the beginning of the next, and no sample is dropped. Any batch of any epoch costs
    the same, about 0.1 microseconds a sample: the permutation is computed, not stored.

    Args:
        num_samples: samples to order.
        batch_size: samples in a batch, over all hosts.
        seed: seed of the order, at least 0.

    Raises:
        ValueError: if there are fewer samples than a batch holds.

    Source: a Feistel network with cycle walking: Black and Rogaway, "Ciphers with
        Arbitrary Finite Domains", 2002.

    Example:
        >>> order = ShuffledOrder(num_samples=6, batch_size=3, seed=0)
        >>> sorted([*order[0], *order[1]]) == [0, 1, 2, 3, 4, 5]
        True
    """

    def __init__(self, num_samples: int, batch_size: int, seed: int = 0) -> None:
        _check(num_samples, batch_size)
        if seed < 0:
            raise ValueError(f"seed={seed}: expected an integer of at least 0.")
        self.num_samples = int(num_samples)
        self.batch_size = int(batch_size)
        self.seed = int(seed)

    def __getitem__(self, batch: int) -> np.ndarray:
        epochs, places = _places(batch, self.batch_size, self.num_samples)
        samples = np.empty(self.batch_size, np.int64)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            rows = epochs == epoch
            samples[rows] = permute(places[rows], self.num_samples, (self.seed, epoch))
        return samples

    def __repr__(self) -> str:
        return (
            f"ShuffledOrder(num_samples={self.num_samples}, "
            f"batch_size={self.batch_size}, seed={self.seed})"
        )


class SequentialOrder:
    """The samples as they are stored, again and again; for evaluation and debugging.

    Args:
        num_samples: samples to order.
        batch_size: samples in a batch, over all hosts.

    Raises:
        ValueError: if there are fewer samples than a batch holds.

    Example:
        >>> SequentialOrder(num_samples=5, batch_size=3)[1]
        array([3, 4, 0])
    """

    def __init__(self, num_samples: int, batch_size: int) -> None:
        _check(num_samples, batch_size)
        self.num_samples = int(num_samples)
        self.batch_size = int(batch_size)

    def __getitem__(self, batch: int) -> np.ndarray:
        return _places(batch, self.batch_size, self.num_samples)[1]

    def __repr__(self) -> str:
        return (
            f"SequentialOrder(num_samples={self.num_samples}, "
            f"batch_size={self.batch_size})"
        )


def permute(
    places: np.ndarray, num_samples: int, key: tuple[int, ...]
) -> np.ndarray:  # int64 (n,) -> int64 (n,)
    """Returns where a random permutation of `range(num_samples)` sends each place.

    Args:
        places: int64, each in `range(num_samples)`.
        num_samples: length of the permutation, up to 2**62.
        key: what picks the permutation: non-negative integers.

    Returns:
        int64, of the same shape: different places give different values.

    Example:
        >>> sorted(permute(np.arange(5), 5, (0, 1)).tolist())
        [0, 1, 2, 3, 4]
    """
    keys = np.random.SeedSequence(key).generate_state(_ROUNDS, np.uint64)
    bits = max(int(num_samples - 1).bit_length(), 2)
    values = _feistel(places.astype(np.uint64), bits, keys)
    # The network permutes a power of two; whoever lands outside goes on walking.
    outside = np.flatnonzero(values >= num_samples)
    while len(outside):
        values[outside] = _feistel(values[outside], bits, keys)
        outside = outside[values[outside] >= num_samples]
    return values.astype(np.int64)


def _feistel(values: np.ndarray, bits: int, keys: np.ndarray) -> np.ndarray:
    """Permutes `range(2**bits)`; the halves may differ by one bit."""
    low_bits = bits // 2
    high_bits = bits - low_bits
    high, low = values >> np.uint64(low_bits), values & _ones(low_bits)
    for key in keys:
        high, low = low, high ^ (_mix(low + key) & _ones(high_bits))
        high_bits, low_bits = low_bits, high_bits
    return (high << np.uint64(low_bits)) | low


def _mix(values: np.ndarray) -> np.ndarray:
    for shift, factor in zip((30, 27), _MIX, strict=True):
        values = (values ^ (values >> np.uint64(shift))) * np.uint64(factor)
    return values ^ (values >> np.uint64(31))


def _ones(bits: int) -> np.uint64:
    return np.uint64((1 << bits) - 1)


def _places(
    batch: int, batch_size: int, num_samples: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns epoch and place in the epoch of each row, int64 (batch_size,) each."""
    if batch < 0:
        raise IndexError(f"Batch {batch}: expected 0 or more.")
    first = int(batch) * batch_size
    rows = np.arange(first, first + batch_size, dtype=np.int64)
    epochs, places = np.divmod(rows, num_samples)
    return epochs, places


def _check(num_samples: int, batch_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: expected at least 1.")
    if num_samples < batch_size:
        raise ValueError(
            f"num_samples={num_samples} is less than batch_size={batch_size}: a batch "
            "would hold a sample twice. Use a smaller batch or more data."
        )
