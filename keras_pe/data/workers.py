"""Reading threads and processes that never outlive the program that started them."""

import contextlib
import functools
import gc
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from multiprocessing import connection, parent_process, shared_memory
from typing import Any, NamedTuple

import grain
import numpy as np
from absl import flags

# === What each is doing, for the error when one stalls ===
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


# === Threads ===
# How often a thread with a full queue looks whether it should end, in seconds.
_POLL = 0.2


class Outcome(NamedTuple):
    """What a reader hands over: a batch, an error, or neither at the end."""

    batch: Any = None
    error: BaseException | None = None


class ReadingThread:
    """Runs an iterator in a thread, a few elements ahead.

    The thread is a daemon: a program whose storage hangs can still end, which it cannot
    with the threads of `concurrent.futures`.

    Args:
        iterate: makes the iterator, in the thread.
        ahead: elements to hold ready.
        board: where the thread reports what it does.
        reader: its row there; `None` if the iterator reports for itself.
    """

    def __init__(
        self,
        iterate: Callable[[], Iterator[Any]],
        ahead: int,
        board: ReadingBoard,
        reader: int | None,
    ) -> None:
        self._iterate = iterate
        self._board = board
        self._reader = reader
        self._results: queue.Queue[Outcome] = queue.Queue(max(ahead, 1))
        self._stopped = threading.Event()
        self.thread = threading.Thread(
            target=self._run, name="keras_pe_reader", daemon=True
        )
        self.thread.start()

    def get(self, timeout: float) -> Outcome | None:
        """Returns the next result, or None if there is none within `timeout` s."""
        try:
            return self._results.get(timeout=timeout)
        except queue.Empty:
            return None

    def stop(self) -> None:
        """Makes the thread end as soon as it can; does not wait for it."""
        self._stopped.set()

    def forget(self, timeout: float) -> None:
        """Waits for the end, up to `timeout` s, and drops all that was read."""
        self.thread.join(timeout)
        self._iterate = lambda: iter(())
        with contextlib.suppress(queue.Empty):
            while True:
                self._results.get_nowait()

    def _run(self) -> None:
        if self._reader is not None:
            self._board.attach(self._reader)
        try:
            for element in self._iterate():
                if not self._put(Outcome(element)):
                    return
            self._put(Outcome())
        except BaseException as error:  # the consumer raises it
            self._put(Outcome(error=error))
        finally:
            self._board.detach()

    def _put(self, result: Outcome) -> bool:
        while not self._stopped.is_set():
            try:
                self._results.put(result, timeout=_POLL)
                return True
            except queue.Full:
                continue
        return False


# === Processes ===
_CLOSE_WITHIN = 5.0  # seconds for processes to end by themselves


class ReadingProcesses:
    """Grain's worker processes and their iterator.

    Args:
        dataset: whole batches by number.
        num_workers: processes.
        prefetch: finished batches that each holds ready.
        board: where they report what they do.
    """

    def __init__(
        self,
        dataset: grain.MapDataset[Any],
        num_workers: int,
        prefetch: int,
        board: ReadingBoard,
    ) -> None:
        self._board = board
        # Grain 0.2.18 fails outside `absl.app` otherwise: google/grain#1355.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        ahead = max(prefetch // 2, 1)  # grain has two queues of this size a worker
        self.iterator = iter(
            # Each process makes one batch at a time, without threads of its own.
            dataset.to_iter_dataset(grain.ReadOptions(0, 0)).mp_prefetch(
                grain.MultiprocessingOptions(num_workers, ahead),
                functools.partial(start_process, board.name, num_workers),
            )
        )

    def close(self) -> None:
        """Ends the processes; those that do not end by themselves are killed."""
        # In a thread, because grain waits for a stalled process without end.
        closing = threading.Thread(target=self.iterator.close, daemon=True)
        try:
            closing.start()
            closing.join(_CLOSE_WITHIN)
            if not closing.is_alive():
                # Grain's last exception holds the last batches in a reference cycle,
                # and these hold shared memory.
                gc.collect()
                return
        except RuntimeError:  # Python is ending and starts no more threads
            closing = threading.current_thread()
        ours = set(self._board.processes)
        for process in multiprocessing.active_children():
            if process.pid in ours:
                process.kill()
                process.join(_CLOSE_WITHIN)
        if closing is not threading.current_thread():
            closing.join(_CLOSE_WITHIN)


class StartWatch:
    """Says when starting processes have had their time.

    Time is what they compute, or what passes while they compute nothing: a process that
    shares its core with many others is slow by the clock and yet soon done.

    Args:
        seconds: for them to start.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._computed: dict[int, float] = {}
        self._last_sign = time.monotonic()

    def is_over(self, started: Collection[int]) -> bool:
        """Looks at the processes of this program that have not started yet.

        Args:
            started: ids of those that have.

        Returns:
            Whether they computed for longer than allowed, or nothing for so long.
        """
        now = time.monotonic()
        children = {child.pid for child in multiprocessing.active_children()}
        computed = {pid: _cpu_seconds(pid) for pid in children - {*started} if pid}
        if computed != self._computed:
            self._computed, self._last_sign = computed, now
        longest = max(computed.values(), default=0.0)
        return max(longest, now - self._last_sign) > self._seconds


def _cpu_seconds(pid: int) -> float:
    """Returns what a process has computed; 0 where the system does not tell."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            fields = stream.read().rpartition(b")")[2].split()
        # utime and stime are fields 14 and 15 in all, two of which stand before ")".
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0.0


def start_process(name: str, num_readers: int, reader: int, count: int) -> None:
    """Prepares a reading process; grain calls it there.

    Args:
        name: of the `ReadingBoard`.
        num_readers: its length.
        reader: number of this process.
        count: number of processes.
    """
    del count
    # Ctrl-C reaches every process of a terminal; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # One process a core: threads below would only compete.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    board = ReadingBoard(num_readers, shared=True, name=name)
    board.attach(reader, whole_process=True)


def _end_with_parent() -> None:
    """Ends this process when its parent is gone, even if that was killed."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
