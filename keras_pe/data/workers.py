"""Reading threads and processes that never outlive the program that started them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from multiprocessing import connection, parent_process
from typing import Any, NamedTuple

from keras_pe.data.reading_board import ReadingBoard

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
