"""Features on disk, so that a sweep's memory does not grow with its data."""

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np

from keras_pe.arrays import check_finite

TARGETS = "targets"  # the column that every sample has
PIECE = 2**30  # bytes of one system call


class FeatureStore:
    """Columns of rows: written once, in batches; read in chunks or row by row.

    Files are read, not mapped into memory: mapped pages would count as memory used.

    Args:
        directory: an empty or new directory that stays; None makes a temporary one,
            which goes with the store.

    Raises:
        ValueError: if the directory holds something.

    Example:
        >>> with FeatureStore() as store:
        ...     store.append("layer_1", np.ones((2, 3), "float32"))
        ...     store.append("layer_1", np.zeros((1, 3), "float32"))
        ...     store.read("layer_1", 1, 3).shape
        (2, 3)
    """

    def __init__(self, directory: str | Path | None = None) -> None:
        self._temporary = directory is None
        if directory is None:
            directory = tempfile.mkdtemp(prefix="keras_pe_features_")
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        if any(self.directory.iterdir()):
            raise ValueError(
                f"{self.directory} is not empty. Features need an own directory."
            )
        self._files: dict[str, BinaryIO] = {}
        self._rows: dict[str, tuple[np.dtype, tuple[int, ...]]] = {}
        self._counts: dict[str, int] = {}

    def append(self, column: str, rows: np.ndarray) -> None:
        """Writes rows at the end of a column; all are of one shape and dtype.

        Raises:
            ValueError: for rows of another shape or dtype.
            NonFiniteError: naming the first row, of all so far, with NaN or infinity.
        """
        if rows.dtype.kind == "f":
            first = self._counts.get(column, 0)
            check_finite(
                rows,
                f"column {column!r}",
                "row",
                [f"sample {first + number}" for number in range(len(rows))],
                "Features of a probe and its targets must be numbers; a depth that is "
                "not known is 0.",
            )
        if rows.dtype.hasobject:  # their bytes are addresses
            raise ValueError(
                f"Rows of {column!r} are Python objects, such as None, text or rows of "
                "unequal lengths: expected numbers, of one shape for all samples."
            )
        kind = (rows.dtype, rows.shape[1:])
        if column not in self._files:
            self._files[column] = (self.directory / f"{column}.bin").open("w+b")
            self._rows[column], self._counts[column] = kind, 0
        if kind != self._rows[column]:
            dtype, shape = self._rows[column]
            raise ValueError(
                f"Rows of {column!r} are {dtype} {shape}, got {kind[0]} {kind[1]}. All "
                f"images and targets of a sweep must have one size."
            )
        file = self._files[column]
        file.seek(0, os.SEEK_END)
        file.write(np.ascontiguousarray(rows).tobytes())
        self._counts[column] += len(rows)

    def __contains__(self, column: str) -> bool:
        return column in self._counts

    def count(self, column: str) -> int:
        """Returns the number of rows."""
        return self._counts[column]

    def shape(self, column: str) -> tuple[int, ...]:
        """Returns the shape of a row."""
        return self._rows[column][1]

    def read(self, column: str, start: int, stop: int) -> np.ndarray:
        """Returns the rows from `start` to before `stop`."""
        dtype, shape = self._rows[column]
        size = dtype.itemsize * int(np.prod(shape))
        file = self._files[column]
        file.flush()
        stop = min(stop, self._counts[column])
        data = np.empty(size * (stop - start), "uint8")
        place = 0
        while place < len(data):  # Linux reads at most 2 GB in one call
            part = data[place : place + PIECE].data
            count = os.preadv(file.fileno(), [part], size * start + place)
            if not count:
                raise OSError(f"{file.name} is shorter than what was written to it.")
            place += count
        return data.view(dtype).reshape(stop - start, *shape)

    def take(self, column: str, rows: np.ndarray) -> np.ndarray:
        """Returns some rows, in the order given."""
        first, last = int(rows.min()), int(rows.max()) + 1
        if last - first <= 2 * len(rows):  # close together: one piece is faster
            return self.read(column, first, last)[rows - first]
        return np.concatenate([self.read(column, row, row + 1) for row in rows])

    def close(self) -> None:
        """Closes the files; removes them if they are temporary."""
        for file in self._files.values():
            file.close()
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Samples:
    """Some rows of a store: the features of one layer, and their targets.

    Args:
        store: holds the columns.
        features: column of the features.
        rows: int64, which rows, ascending.
        target_rows: whose targets they have; None for their own.
    """

    def __init__(
        self,
        store: FeatureStore,
        features: str,
        rows: np.ndarray,
        target_rows: np.ndarray | None = None,
    ) -> None:
        self.store, self.features, self.rows = store, features, rows
        self.target_rows = rows if target_rows is None else target_rows

    def __len__(self) -> int:
        return len(self.rows)

    def shuffled(self, seed: int) -> "Samples":
        """Returns the same samples with each other's targets, in a random order.

        As many keep their own as do by chance: one, on average.
        """
        rng = np.random.default_rng(seed)
        return Samples(
            self.store, self.features, self.rows, rng.permutation(self.target_rows)
        )

    def chunks(self, size: int = 1024) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields (features, targets) of all rows in order, about `size` at a time."""
        for start in range(0, self.store.count(self.features), size):
            first, last = np.searchsorted(self.rows, (start, start + size))
            if first == last:
                continue
            features = self.store.read(self.features, start, start + size)
            yield features[self.rows[first:last] - start], self._targets(first, last)

    def batch(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns (features, targets) of the samples at these positions."""
        return (
            self.store.take(self.features, self.rows[positions]),
            self.store.take(TARGETS, self.target_rows[positions]),
        )

    def targets(self, size: int = 1024) -> Iterator[np.ndarray]:
        """Yields the targets alone, in order."""
        for start in range(0, len(self.rows), size):
            yield self._targets(start, start + size)

    def _targets(self, first: int, last: int) -> np.ndarray:
        return self.store.take(TARGETS, self.target_rows[first:last])


@dataclasses.dataclass(frozen=True)
class Standardization:
    """Brings every channel to mean 0 and deviation 1 of the training samples.

    Layers differ in scale by orders of magnitude: after this one range of regularisers
    suits them all.

    Attributes:
        mean: `(channels,)`.
        deviation: `(channels,)`; 1 for constant channels.
    """

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, samples: Samples) -> Self:
        """Returns that of some samples, in two passes: exact where means are large."""
        total = sum(f.sum(axis=0, dtype="float64") for f, _ in samples.chunks())
        mean = np.asarray(total) / len(samples)
        squares = sum(
            np.square(f.astype("float64") - mean).sum(axis=0)
            for f, _ in samples.chunks()
        )
        deviation = np.sqrt(np.asarray(squares) / len(samples))
        # Constant but for rounding.
        still = deviation <= 1e-7 * np.maximum(np.abs(mean), 1e-12)
        return cls(mean, np.where(still, 1.0, deviation))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Returns float64 `(samples, channels)`."""
        return np.asarray((features - self.mean) / self.deviation)
