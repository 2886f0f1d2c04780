"""What each reading thread or process is doing, for the error when one stalls."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from multiprocessing import shared_memory

import numpy as np

STAGES = ("starting", "reading", "captioning", "transforming", "tokenizing", "waiting")
_FIELDS = 6  # process, time, batch, row, sample, stage
_BYTES = 8


class ReadingStopped(RuntimeError):
    """The loader was closed while a batch was being made."""


@dataclass(frozen=True)
class Activity:
    """What a reader reported last.

    Args:
        process: its process id; 0 if it has not started.
        seconds: how long ago.
        batch: number of the batch.
        row: row of the batch.
        sample: position in the source.
        stage: one of `STAGES`.
    """

    process: int
    seconds: float
    batch: int
    row: int
    sample: int
    stage: str


class ReadingBoard:
    """A small table: a row a reader, and a flag that stops them all.

    Args:
        num_readers: rows.
        shared: put it into shared memory, for readers in other processes.
        name: open the shared one of this name, rather than making one.

    Example:
        >>> board = ReadingBoard(num_readers=1)
        >>> board.attach(0)
        >>> report(batch=3, row=0, sample=17, stage="reading")
        >>> board.activity(0).sample
        17
        >>> board.detach()
    """

    def __init__(
        self, num_readers: int, shared: bool = False, name: str | None = None
    ) -> None:
        shape = (num_readers + 1, _FIELDS)
        self._memory: shared_memory.SharedMemory | None = None
        self._owner = shared and name is None
        if shared:
            size = shape[0] * shape[1] * _BYTES
            self._memory = shared_memory.SharedMemory(name, self._owner, size)
            self._table = np.ndarray(shape, np.int64, self._memory.buf)
        else:
            self._table = np.zeros(shape, np.int64)
        if self._owner:
            self._table[:] = 0

    @property
    def name(self) -> str:
        """What another process opens the board by."""
        return self._memory.name if self._memory else ""

    @property
    def processes(self) -> list[int]:
        """The process of each reader that has started."""
        return [int(process) for process in self._table[1:, 0] if process]

    def attach(self, reader: int, whole_process: bool = False) -> None:
        """Makes this thread, or this process, report as a reader."""
        place = _process if whole_process else _thread
        place.board, place.reader = self, reader
        self._table[reader + 1] = (os.getpid(), time.monotonic_ns(), -1, -1, -1, 0)

    def detach(self) -> None:
        """Ends the reporting of this thread."""
        _thread.board = None

    def activity(self, reader: int) -> Activity:
        """Returns what a reader reported last."""
        process, at, batch, row, sample, stage = self._table[reader + 1].tolist()
        seconds = (time.monotonic_ns() - at) / 1e9
        return Activity(process, seconds, batch, row, sample, STAGES[stage])

    def write(self, reader: int, batch: int, row: int, sample: int, stage: int) -> None:
        """Notes what a reader does; raises `ReadingStopped` if it has to stop."""
        if self._table[0, 0]:
            raise ReadingStopped("The loader was closed.")
        now = time.monotonic_ns()
        self._table[reader + 1, 1:] = (now, batch, row, sample, stage)

    def stop(self) -> None:
        """Makes every reader end at its next report."""
        self._table[0, 0] = 1

    def __del__(self) -> None:
        memory = getattr(self, "_memory", None)
        if memory is not None:
            del self._table  # or its memory could not be unmapped
            memory.close()
            if self._owner:
                memory.unlink()


class _Place:
    """Which reader a thread or process is."""

    board: ReadingBoard | None = None
    reader = 0


class _ThreadPlace(threading.local, _Place):
    """One for each thread."""


_thread = _ThreadPlace()
_process = _Place()


def report(batch: int, row: int, sample: int, stage: str) -> None:
    """Notes what the current reader is about to do; costs about a microsecond.

    Args:
        batch: number of the batch.
        row: row of the batch.
        sample: position in the source.
        stage: one of `STAGES`.

    Raises:
        ReadingStopped: if the loader has been closed.

    Example:
        >>> report(0, 0, 0, "reading")  # no board: nothing happens
    """
    place = _thread if _thread.board is not None else _process
    if place.board is not None:
        place.board.write(place.reader, batch, row, sample, STAGES.index(stage))
