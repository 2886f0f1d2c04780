"""Who takes rows through stages: this process, or several of this machine."""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from keras_pe.arrays import check_sizes
from keras_pe.data_engine.apply import Loaded, apply_stage
from keras_pe.data_engine.ledger import Ledger
from keras_pe.data_engine.stage import Row, Stage

# Takes rows through stages: `(rows, stages, ledger)`, in whatever order, wherever.
Mapper = Callable[[Sequence[Row], Sequence[Stage], Ledger], Iterable[Row]]
_LOOK = 0.2  # seconds between two looks whether the first process is alive


class Stages:
    """Stages and what they load, in one process.

    Args:
        stages: in their order.
        ledger: of all of them.
    """

    def __init__(self, stages: Sequence[Stage], ledger: Ledger) -> None:
        self._stages = [(stage, Loaded(stage)) for stage in stages]
        self._ledger = ledger

    def __call__(self, row: Row) -> Row:
        """Returns the row after the last stage, or with the failure of one."""
        for stage, loaded in self._stages:
            row = apply_stage(stage, row, loaded, self._ledger)
        return row


def in_this_process(
    rows: Sequence[Row], stages: Sequence[Stage], ledger: Ledger
) -> Iterator[Row]:
    """Takes one row after the other through all stages: the plain mapper.

    Example:
        >>> from keras_pe.data_engine import FolderLedger
        >>> list(in_this_process([{"key": "a"}], [], FolderLedger("ledger")))
        [{'key': 'a'}]
    """
    yield from map(Stages(stages, ledger), rows)


class InProcesses:
    """A mapper of several processes of this machine, each with its models.

    What one has computed is in the ledger before it begins with the next row: whenever
    they are killed, what is lost is a row a process.

    Args:
        workers: processes. Each loads all models: their memory counts as often.
        context: how they start, as of `multiprocessing`. "fork" is for programs that
            have not computed yet.

    Raises:
        ValueError: if `workers` is no positive number.

    Example:
        >>> mapper = InProcesses(workers=2)
        >>> run_engine(clips, engine, "pairs", mapper=mapper)       # doctest: +SKIP
    """

    def __init__(self, workers: int, context: str = "spawn") -> None:
        check_sizes(workers=workers)
        self.workers, self.context = workers, context

    def __call__(
        self, rows: Sequence[Row], stages: Sequence[Stage], ledger: Ledger
    ) -> Iterator[Row]:
        """Returns rows in their order.

        Raises:
            BrokenProcessPool: if a process died, as of too little memory.
        """
        context = multiprocessing.get_context(self.context)
        pool = ProcessPoolExecutor(
            self.workers, context, _start, (stages, ledger, os.getpid())
        )
        try:
            yield from pool.map(_apply, rows)
        finally:
            pool.shutdown(cancel_futures=True)


_here: list[Stages] = []  # of a process that was started by `InProcesses`


def _start(stages: Sequence[Stage], ledger: Ledger, parent: int) -> None:
    _here[:] = [Stages(stages, ledger)]
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """Ends this process when the first one was killed: nobody reads its results."""
    while os.getppid() == parent:
        time.sleep(_LOOK)
    os._exit(1)


def _apply(row: Row) -> Any:
    return _here[0](row)
