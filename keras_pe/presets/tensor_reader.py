"""Opens checkpoint files as data: names and shapes first, then tensor by tensor."""

import dataclasses
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import ml_dtypes
import numpy as np

from keras_pe.arrays import aligned_empty
from keras_pe.presets.report import CheckpointError

SAFETENSORS_DTYPES: Mapping[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
}
TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
# The largest published model has 1,100 tensors and a header of 120 KB.
MAX_TENSORS = 20_000
MAX_HEADER_BYTES = 8 * 2**20
PIECE = 2**18  # bytes that are read at a time of what is stored by plane


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """Shape and dtype of a tensor in a file."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def item_size(self) -> int:
        """Bytes of an element."""
        return np.dtype(SAFETENSORS_DTYPES[self.dtype]).itemsize


class Reader(Protocol):
    """An open checkpoint.

    Attributes:
        path: the file.
        tensors: what is in it.
        wrappers: what was taken off the names: prefixes ("module.") and keys of
            mappings around them ("state_dict").
    """

    path: Path
    tensors: dict[str, TensorInfo]
    wrappers: tuple[str, ...]

    def read(self, name: str, rows: slice | None = None) -> np.ndarray:
        """Returns one tensor, or some of its rows, read from the file now."""

    def check_unchanged(self) -> None:
        """Raises CheckpointError if the file is no longer the one that was opened."""

    def close(self) -> None:
        """Closes the file."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: Any) -> None: ...


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the elements of a tensor lie in a file.

    Attributes:
        start: byte of the first element.
        shape: sizes.
        dtype: name of the dtype.
        strides: bytes between neighbours along each axis; None if row by row.
        plane: of a tensor whose bytes are stored by plane, first the lowest byte of all
            elements, then the next: bytes from one plane to the next, the elements of
            the whole tensor. `start` is then the lowest byte of the first element.
    """

    start: int
    shape: tuple[int, ...]
    dtype: str
    strides: tuple[int, ...] | None = None
    plane: int | None = None

    def rows(self, rows: slice) -> "Place":
        """Returns the place of some rows."""
        shape = (rows.stop - rows.start, *self.shape[1:])
        if self.strides is not None:
            row = self.strides[0]
        else:
            item_size = 1 if self.plane is not None else self.info.item_size
            row = math.prod(self.shape[1:]) * item_size
        return dataclasses.replace(
            self, start=self.start + rows.start * row, shape=shape
        )

    @property
    def info(self) -> TensorInfo:
        """Shape and dtype."""
        return TensorInfo(self.shape, self.dtype)


class OpenFile:
    """A file of which tensors are read, and that must not change meanwhile.

    Plain reads: a memory map would count every page of the file towards the process's
    memory, and kills the process where a file is cut while it is read.

    Args:
        path: the file.
    """

    wrappers: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.file = path.open("rb")
        except OSError as error:
            raise CheckpointError(
                f"{path} can't be read ({error.strerror}). Give a file you may read."
            ) from error
        self._identity = self._state()
        self.size = os.fstat(self.file.fileno()).st_size
        self.places: dict[str, Place] = {}
        self.tensors: dict[str, TensorInfo] = {}

    def _state(self) -> tuple[int, int, int]:
        found = os.fstat(self.file.fileno())
        return found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def set_places(self, places: Mapping[str, Place]) -> None:
        """Sets what the file holds, under the names that a reader goes by."""
        self.places = dict(places)
        self.tensors = {name: place.info for name, place in places.items()}

    def read(self, name: str, rows: slice | None = None) -> np.ndarray:
        """Returns one tensor, or some of its rows, read from the file now."""
        place = self.places[name]
        place = place if rows is None else place.rows(rows)
        dtype = np.dtype(SAFETENSORS_DTYPES[place.dtype])
        if place.plane is not None:
            array = aligned_empty(place.shape, dtype)
            self._fill_planes(name, place, array.reshape(-1).view(np.uint8))
            return array
        if place.strides is None:
            array = aligned_empty(place.shape, dtype)
            self._fill(name, place.start, array.reshape(-1).view(np.uint8))
            return array
        last = sum(
            (n - 1) * stride
            for n, stride in zip(place.shape, place.strides, strict=True)
        )
        raw = aligned_empty((last + dtype.itemsize,), np.uint8)
        self._fill(name, place.start, raw)
        return np.ndarray(place.shape, dtype, raw.data, 0, place.strides)

    def _fill_planes(self, name: str, place: Place, target: np.ndarray) -> None:
        """Reads the bytes of each plane into their places among the others'."""
        assert place.plane is not None
        size = place.info.item_size
        elements = target.reshape(-1, size)
        buffer = np.empty(min(len(elements), PIECE), np.uint8)
        for byte in range(size):
            for first in range(0, len(elements), PIECE):
                piece = buffer[: len(elements) - first]
                self._fill(name, place.start + byte * place.plane + first, piece)
                elements[first : first + PIECE, byte] = piece

    def _fill(self, name: str, start: int, target: np.ndarray) -> None:
        try:
            self.file.seek(start)
            read = self.file.readinto(target.data)
        except OSError as error:
            raise CheckpointError(
                f"{name} of {self.path.name} can't be read ({error.strerror}): fetch "
                f"the file again, or copy it to another disk."
            ) from error
        if read != target.nbytes:
            raise self._changed()

    def check_unchanged(self) -> None:
        """Raises CheckpointError if the file is no longer the one that was opened."""
        if self._state() != self._identity:
            raise self._changed()

    def _changed(self) -> CheckpointError:
        return CheckpointError(
            f"{self.path.name} changed while it was read. Wait until whatever writes "
            f"it is done, then load it again."
        )

    def close(self) -> None:
        """Closes the file."""
        self.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "file"):
            self.file.close()


def check_count(path: Path, count: int) -> None:
    """Raises CheckpointError for more tensors than any model has."""
    if count > MAX_TENSORS:
        raise CheckpointError(
            f"{path.name} lists {count:,} tensors, expected at most {MAX_TENSORS:,}: "
            f"the largest Perception Encoder has 1,100. Save the weights alone, "
            f"without optimizer state."
        )
