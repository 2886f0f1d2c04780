"""The iterator that training takes its batches from."""

import atexit
import functools
import gc
import signal
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import Any, Self

import grain
import numpy as np

from keras_pe.data.augmentation import to_unit_range
from keras_pe.data.image_text import Batch, ImageTextDataset
from keras_pe.data.sample_errors import SkippedSamples
from keras_pe.data.workers import (
    Outcome,
    ReadingBoard,
    ReadingProcesses,
    ReadingThread,
    StartWatch,
)

_CHECK_EVERY = 0.5  # seconds between two looks at a reader that gives nothing
_FORGET_WITHIN = 1.0  # seconds for the thread that reads from them to end


class LoaderStalled(RuntimeError):
    """No batch came within the time allowed.

    Example:
        >>> import time
        >>> def asleep(number):
        ...     time.sleep(2)
        >>> with batches(grain.MapDataset.range(1).map(asleep), stall_timeout=0.2,
        ...         start_timeout=0.2) as loader:
        ...     try:
        ...         batch = next(loader)
        ...     except LoaderStalled:
        ...         print("nothing came")
        nothing came
    """


def batches(
    dataset: grain.MapDataset[Batch],
    *,
    num_workers: int = 0,
    num_threads: int = 1,
    prefetch: int = 2,
    stall_timeout: float = 55.0,
    start_timeout: float = 60.0,
    skip_report: SkippedSamples | None = None,
    image_dtype: str = "float32",
) -> "BatchIterator":
    """Makes the batches of a dataset ahead of their use, in order.

    The batches do not depend on the number of workers or threads. Processes are
    grain's (`mp_prefetch`), started with "spawn", so a script that uses them needs `if
    __name__ == "__main__":`. Close the iterator, or use it in a `with` statement.

    Args:
        dataset: of `image_text_dataset`, or a part of it (`dataset[1000:]`); any other
            grain `MapDataset` of dictionaries works too.
        num_workers: processes that make batches, each whole ones; 0 uses threads.
        num_threads: threads that do, with `num_workers=0`. Decoding and resizing run
            side by side in threads, the rest does not.
        prefetch: finished batches that each worker or thread holds ready.
        stall_timeout: seconds without a sign of life, sample or batch, after which the
            reader of the next batch counts as stalled.
        start_timeout: seconds that a process may take to start, on top of
            `stall_timeout`. On Linux they are seconds of its CPU time, or seconds
            without any, so that a loaded machine has all the time it needs; elsewhere
            seconds of the clock.
        skip_report: counts skipped samples; by default a new one, with the limit of
            `image_text_dataset`.
        image_dtype: `"float32"` turns uint8 images into float32 in [-1, 1]; `"uint8"`
            passes them on as they are.

    Returns:
        An iterator over dictionaries of arrays.

    Raises:
        ValueError: if there are more workers than batches, or another argument is
            impossible.
        LoaderStalled: while iterating, with what the reader was doing.
        TooManySkipped: while iterating, if too many samples are bad.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> from keras_pe import PETokenizer
        >>> from keras_pe.data import SequentialOrder, TrainAugmentation
        >>> from keras_pe.data import image_text_dataset
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (40, 30), "white").save(file, "PNG")
        >>> source = [{"png": file.getvalue(), "txt": b"a white wall"}] * 8
        >>> dataset = image_text_dataset(source, SequentialOrder(8, batch_size=4),
        ...     transform=TrainAugmentation(32, dtype="uint8"),
        ...     tokenizer=PETokenizer(16, 600), num_batches=3)
        >>> with batches(dataset, num_threads=2) as loader:
        ...     [batch["images"].dtype.name for batch in loader]
        ['float32', 'float32', 'float32']
    """
    if num_workers < 0 or num_threads < 1 or prefetch < 1:
        raise ValueError(
            f"num_workers={num_workers}, num_threads={num_threads}, prefetch="
            f"{prefetch}: expected at least 0, 1 and 1."
        )
    if not (stall_timeout > 0 and start_timeout > 0):
        raise ValueError(
            f"stall_timeout={stall_timeout}, start_timeout={start_timeout}: expected "
            "more than 0 seconds."
        )
    if image_dtype not in ("float32", "uint8"):
        raise ValueError(f"image_dtype={image_dtype!r}: expected 'float32' or 'uint8'.")
    if len(dataset) < max(num_workers, 1):
        raise ValueError(
            f"The dataset has {len(dataset)} batches for {num_workers} workers: "
            "expected a batch for each at least. Use fewer workers or smaller batches."
        )
    return BatchIterator(
        dataset,
        num_workers,
        min(num_threads, len(dataset)),
        prefetch,
        stall_timeout,
        start_timeout,
        skip_report,
        image_dtype,
    )


class BatchIterator(Iterator[Batch]):
    """What `batches` returns.

    Attributes:
        skip_report: the samples looked at and skipped so far.

    Example:
        >>> numbers = grain.MapDataset.range(6).map(lambda n: {"number": np.array([n])})
        >>> with batches(numbers) as loader:
        ...     isinstance(loader, BatchIterator), next(loader)["number"].tolist()
        (True, [0])
    """

    def __init__(
        self,
        dataset: grain.MapDataset[Batch],
        num_workers: int,
        num_threads: int,
        prefetch: int,
        stall_timeout: float,
        start_timeout: float,
        skip_report: SkippedSamples | None,
        image_dtype: str,
    ) -> None:
        self._image_text = _image_text(dataset)
        self._stall_timeout = stall_timeout
        self._start_timeout = start_timeout
        self._num_given = 0
        self._closed = False
        self._processes: ReadingProcesses | None = None
        if skip_report is None:
            limit = self._image_text.max_bad_share if self._image_text else 0.01
            skip_report = SkippedSamples(limit)
        self.skip_report = skip_report
        self._num_readers = num_workers or num_threads
        self._board = ReadingBoard(self._num_readers, shared=num_workers > 0)
        finish = functools.partial(_finish, image_dtype=image_dtype)
        if num_workers:
            self._processes = ReadingProcesses(
                dataset, num_workers, prefetch, self._board
            )
            in_order = functools.partial(map, finish, self._processes.iterator)
            self._threads = [ReadingThread(in_order, 1, self._board, None)]
        else:
            self._threads = [
                ReadingThread(
                    functools.partial(_every, dataset, reader, num_threads, finish),
                    prefetch,
                    self._board,
                    reader,
                )
                for reader in range(num_threads)
            ]
        self._close_at_exit = functools.partial(_close, weakref.ref(self))
        atexit.register(self._close_at_exit)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        if self._closed:
            raise StopIteration
        try:
            outcome = self._wait()
            if outcome.error is not None:
                self._add_note(outcome.error)
                raise outcome.error
            if outcome.batch is None:
                raise StopIteration
            batch = dict(outcome.batch)
            skipped = batch.pop("skipped", None)
            samples = batch.pop("num_samples", None)  # where rows are no samples
            if skipped is not None:
                self.skip_report.add_batch(samples or len(batch["images"]), skipped)
            self._num_given += 1
            return batch
        except BaseException:  # Ctrl-C too: nothing may be left running
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.close()

    def close(self) -> None:
        """Ends all threads and processes; a stalled process is killed."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self._close_at_exit)
        self._board.stop()
        for thread in self._threads:
            thread.stop()
        if self._processes is not None:
            self._processes.close()
            # Whoever still holds this iterator must hold no shared memory: Python
            # would complain at its end.
            for thread in self._threads:
                thread.forget(_FORGET_WITHIN)
            self._processes = None
            gc.collect()

    def _wait(self) -> Outcome:
        """Waits for the next batch, as long as its reader shows signs of life."""
        reader = self._num_given % self._num_readers
        thread = self._threads[self._num_given % len(self._threads)]
        began = time.monotonic()
        starting = StartWatch(self._start_timeout + self._stall_timeout)
        while True:
            outcome = thread.get(min(_CHECK_EVERY, self._stall_timeout / 4))
            if outcome is not None:
                return outcome
            activity = self._board.activity(reader)
            quiet = min(time.monotonic() - began, activity.seconds)
            if activity.process and quiet > self._stall_timeout:
                raise LoaderStalled(self._explain(reader, thread, quiet))
            # A process that has not started yet is importing everything.
            if not activity.process and starting.is_over(self._board.processes):
                waited = time.monotonic() - began
                raise LoaderStalled(self._explain(reader, thread, waited))

    def _explain(self, reader: int, thread: ReadingThread, quiet: float) -> str:
        source = self._image_text.source if self._image_text else "the dataset"
        message = (
            f"No batch for {quiet:.1f} s (stall_timeout={self._stall_timeout:g}). "
            f"Batch {self._num_given} of this loader waits for {self._doing(reader)}. "
            f"Source: {source!r}. Check that its storage answers; raise stall_timeout, "
            "or start_timeout for a process that has not started, if it is only slow."
        )
        if self._processes is None:
            message += " The thread is at:\n" + _stack(thread.thread)
        return message

    def _doing(self, reader: int) -> str:
        """Says what a reader reported last."""
        activity = self._board.activity(reader)
        kind = "process" if self._processes else "thread"
        head = f"{kind} {reader} of {self._num_readers}, which "
        if not activity.process:
            return head + "has not started"
        if activity.sample < 0:
            return head + f"was {activity.stage} (batch {activity.batch})"
        return (
            f"{head}was {activity.stage} row {activity.row} of batch {activity.batch}, "
            f"sample {activity.sample}{self._name_of(activity.sample)}"
        )

    def _add_note(self, error: BaseException) -> None:
        """Says what a process did that was killed from outside."""
        if self._processes is None or "terminated unexpectedly" not in str(error):
            return
        error.add_note(f"Next was {self._doing(self._num_given % self._num_readers)}.")
        if f"exit code {-signal.SIGBUS}" in str(error):
            error.add_note(
                "A bus error usually means that shared memory is full, through which "
                "batches travel: give the container more /dev/shm (docker run "
                "--shm-size), or use smaller batches, less prefetch or uint8 images."
            )

    def _name_of(self, sample: int) -> str:
        describe = getattr(self._image_text and self._image_text.source, "describe", 0)
        if not callable(describe):
            return ""
        try:
            return f", {describe(sample)}"
        except Exception:  # the storage is in trouble already
            return ""


def fit_batches(loader: BatchIterator) -> Generator[tuple[Batch], None, None]:
    """Turns batches into what `keras.Model.fit` takes, on every backend.

    A Python generator is the adapter that keeps the order (a `PyDataset` is shuffled
    unless `fit(shuffle=False)`) and reads nothing twice (Keras reads the first batches
    of a grain dataset once more, which starts all workers again).

    Args:
        loader: of `batches`. It is closed when the generator is.

    Returns:
        A generator of `(batch,)`: fit's form for inputs without targets. Pass
        `steps_per_epoch`; on TensorFlow, which reads ahead, use one loader a call of
        `fit`.

    Raises:
        TypeError: at once, for a dataset, which `batches` has to make a loader of.

    Example:
        >>> numbers = grain.MapDataset.range(6).map(lambda n: {"number": np.array([n])})
        >>> given = fit_batches(batches(numbers))    # to model.fit, steps_per_epoch=6
        >>> next(given)
        ({'number': array([0])},)
        >>> given.close()
    """
    if not isinstance(loader, BatchIterator):
        raise TypeError(
            f"fit_batches takes what keras_pe.data.batches returns, got a "
            f"{type(loader).__name__}. Write fit_batches(batches(dataset))."
        )
    return _for_fit(loader)


def _for_fit(loader: BatchIterator) -> Generator[tuple[Batch], None, None]:
    with loader:
        for batch in loader:
            yield (batch,)


def _every(
    dataset: grain.MapDataset[Batch], first: int, step: int, finish: Any
) -> Iterator[Batch]:
    """Yields batches first, first + step, ... made in this thread."""
    for index in range(first, len(dataset), step):
        yield finish(dataset[index])


def _finish(batch: Batch, image_dtype: str) -> Batch:
    """Makes plain arrays, and floats of images that travelled as bytes."""
    finished = dict(batch)
    images = batch.get("images")
    if image_dtype == "float32" and images is not None and images.dtype == np.uint8:
        finished["images"] = to_unit_range(np.asarray(images))
    for name, value in finished.items():
        # Grain's arrays from processes are views of shared memory. There is little of
        # it, and one that lives to the end of the program makes Python complain.
        if isinstance(value, np.ndarray) and type(value) is not np.ndarray:
            finished[name] = np.array(value)
    return finished


def _image_text(dataset: Any) -> ImageTextDataset | None:
    """Finds the `ImageTextDataset` that a grain dataset is made of."""
    if isinstance(dataset, ImageTextDataset):
        return dataset
    parents = (_image_text(parent) for parent in dataset.parents)
    return next((parent for parent in parents if parent is not None), None)


def _stack(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    return "".join(traceback.format_stack(frame)[-6:]) if frame else "  (ended)"


def _close(iterator: weakref.ref[BatchIterator]) -> None:
    alive = iterator()
    if alive is not None:
        alive.close()
