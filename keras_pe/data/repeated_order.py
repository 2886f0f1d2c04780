"""An order in which some shards come more often than others: a mixture of sources."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import PurePath

import numpy as np

from keras_pe.arrays import is_whole
from keras_pe.data.order import ShuffledOrder


class RepeatedOrder:
    """Every sample of a shard exactly so many times an epoch, all of them shuffled.

    A batch may hold a sample twice, which a loss over pairs would take for a false
    negative: this is for losses on single samples.

    Args:
        counts: samples of each shard.
        repeats: how often each shard's samples come in an epoch, at least once.
        batch_size: samples in a batch, over all hosts.
        seed: seed of the order, at least 0.

    Raises:
        ValueError: if there are fewer samples than a batch holds, or numbers of shards
            differ.

    Example:
        >>> order = RepeatedOrder([2, 1], [1, 3], batch_size=5)
        >>> sorted(order[0].tolist())
        [0, 1, 2, 2, 2]
    """

    def __init__(
        self,
        counts: Sequence[int],
        repeats: Sequence[int],
        batch_size: int,
        seed: int = 0,
    ) -> None:
        whole = all(is_whole(times) and times >= 1 for times in repeats)
        if len(counts) != len(repeats) or not whole:
            raise ValueError(
                f"{len(counts)} shards and repeats={list(repeats)}: expected a whole "
                f"number of at least 1 for each shard."
            )
        self.counts = np.array(counts, np.int64)
        self.repeats = np.array(repeats, np.int64)
        self._starts = np.cumsum([0, *self.counts])
        self._copies = np.cumsum([0, *self.counts * self.repeats])
        self._order = ShuffledOrder(int(self._copies[-1]), batch_size, seed)

    @property
    def batch_size(self) -> int:
        return self._order.batch_size

    @property
    def num_samples(self) -> int:
        """Samples of an epoch, each as often as it comes."""
        return self._order.num_samples

    def __getitem__(self, batch: int) -> np.ndarray:
        copies = self._order[batch]
        shards = np.searchsorted(self._copies, copies, side="right") - 1
        return (
            self._starts[shards] + (copies - self._copies[shards]) % self.counts[shards]
        )

    def __repr__(self) -> str:
        return (
            f"RepeatedOrder({self._order!r}, counts={self.counts.tolist()}, "
            f"repeats={self.repeats.tolist()})"
        )


def shard_repeats(paths: Sequence[str], rules: Sequence[str]) -> list[int]:
    """Returns how often the samples of each shard come in an epoch.

    Args:
        paths: the shards.
        rules: `PATTERN:TIMES` each, a pattern of file names and a number; what none
            matches comes once.

    Raises:
        ValueError: if a rule is none, matches no shard, or two match one.

    Example:
        >>> shard_repeats(["a/names-0.tar", "a/words-0.tar"], ["names-*:8"])
        [8, 1]
    """
    found = [1] * len(paths)
    matched: dict[int, str] = {}
    for rule in rules:
        pattern, _, times = rule.rpartition(":")
        if not pattern or not times.isdecimal() or int(times) < 1:
            raise ValueError(f"{rule!r}: expected PATTERN:TIMES, such as 'names-*:8'.")
        places = [
            place
            for place, path in enumerate(paths)
            if fnmatchcase(PurePath(path).name, pattern)
        ]
        if not places:
            shown = sorted({PurePath(path).name for path in paths})
            raise ValueError(
                f"{rule!r} matches none of {len(shown)} shards, {shown[0]!r} to "
                f"{shown[-1]!r}. Mend the pattern, or leave it out."
            )
        for place in places:
            if place in matched:
                raise ValueError(
                    f"{paths[place]}: {matched[place]!r} and {rule!r} both match. Give "
                    f"each shard one rule."
                )
            found[place], matched[place] = int(times), rule
    return found
