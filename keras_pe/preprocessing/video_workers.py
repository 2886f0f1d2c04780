"""Videos decoded in several processes, given out in order.

Processes are started with "spawn": a copy of a program whose threads hold locks, as
those of a backend may, can wait for ever. So a script needs `if __name__ ==
"__main__":` around what uses them.
"""

import functools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, parent_process
from typing import Any

import numpy as np

from keras_pe.preprocessing.given_images import file_content, is_file
from keras_pe.preprocessing.time_limit import stop_when

Result = Callable[[], np.ndarray]
_AHEAD = 2  # videos a process, done or being decoded: that bounds memory
_converter: Any = None  # in a process that decodes: its copy


def convert_in_processes(
    converter: Any, items: Iterable[tuple[Any, str]], workers: int
) -> Generator[Result, None, None]:
    """Yields for each video what gives its frames or raises its error, in order.

    Files, folders and bytes go to processes; what lies in memory as arrays or images is
    converted here. When the iterator is closed, as by an error or Ctrl-C, the processes
    end at their next packet.

    Args:
        converter: a `PEVideoConverter`.
        items: videos and their names.
        workers: processes.

    Raises:
        RuntimeError: when called for a video whose process was killed.
    """
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(
        workers,
        context,
        initializer=_start,
        initargs=(stop, type(converter), converter.get_config()),
    )
    waiting: deque[Result] = deque()
    try:
        for video, name in items:
            waiting.append(_submit(pool, converter, video, name))
            if len(waiting) >= _AHEAD * workers:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def check_workers(workers: int) -> None:
    """Raises ValueError if this is no number of processes."""
    whole = isinstance(workers, int | np.integer) and not isinstance(workers, bool)
    if not whole or workers < 0:
        raise ValueError(
            f"workers={workers!r}: expected how many processes decode, or 0 for none "
            "beside this one."
        )


def _submit(pool: ProcessPoolExecutor, converter: Any, video: Any, name: str) -> Result:
    """Returns what gives the frames of a video that is decoded, here or elsewhere."""
    try:
        if is_file(video):
            video = file_content(video, name)
        if isinstance(video, bytearray | memoryview):
            video = bytes(video)
    except Exception:  # a file that can't be read: said when its turn comes
        return functools.partial(converter.convert, video, name)
    if not isinstance(video, str | os.PathLike | bytes):
        return functools.partial(converter.convert, video, name)
    try:
        future = pool.submit(_convert, video, name)
    except BrokenProcessPool as error:
        return functools.partial(_ended, name, error)
    return functools.partial(_result, future, name)


def _result(future: Future[np.ndarray], name: str) -> np.ndarray:
    try:
        return future.result()
    except BrokenProcessPool as error:
        return _ended(name, error)


def _ended(name: str, error: Exception) -> np.ndarray:
    raise RuntimeError(
        f"A process that decodes videos ended without a word, before {name} was done: "
        "killed for its memory perhaps, or FFmpeg crashed on a file. With workers=0 "
        "the same file does it again. A script with workers needs `if __name__ == "
        '"__main__":` around what uses them.'
    ) from error


# === In a process that decodes ===
def _start(stop: Any, kind: type, config: dict[str, Any]) -> None:
    global _converter
    # Ctrl-C reaches every process of a terminal; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    stop_when(stop.is_set)
    _converter = kind(**config)


def _convert(video: Any, name: str) -> np.ndarray:
    frames: np.ndarray = _converter.convert(video, name)
    return frames


def _end_with_parent() -> None:
    """Ends this process when its parent is gone, even if that was killed."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
