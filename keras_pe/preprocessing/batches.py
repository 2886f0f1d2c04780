"""Images in batches, decoded by a few threads, with the bad ones counted."""

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import keras
import numpy as np

from keras_pe.preprocessing.given_images import as_sequence, image_name
from keras_pe.preprocessing.image import PEImageConverter
from keras_pe.preprocessing.image_errors import ImageError, SkipReport

TOO_MANY_SKIPPED = "too many images skipped"


class ImageBatches:
    """The batches of `load_batches`; iterate it, then read `report`.

    Each iteration starts afresh, with a new `report`.

    Example:
        >>> from keras_pe.preprocessing import PEImageConverter
        >>> images = [np.zeros((20, 30, 3), "uint8")] * 3
        >>> loaded = load_batches(images, PEImageConverter(16), batch_size=2)
        >>> isinstance(loaded, ImageBatches), [len(indices) for indices, _ in loaded]
        (True, [2, 1])
    """

    def __init__(
        self,
        images: Any,
        converter: PEImageConverter,
        batch_size: int,
        on_error: str,
        max_skipped_share: float,
        num_threads: int | None,
        progress: bool,
    ) -> None:
        if isinstance(batch_size, bool) or int(batch_size) < 1:
            raise ValueError(f"batch_size={batch_size!r}: expected a positive integer.")
        if on_error not in ("skip", "raise"):
            raise ValueError(f"on_error={on_error!r}: expected 'skip' or 'raise'.")
        if not 0 <= max_skipped_share <= 1:
            raise ValueError(
                f"max_skipped_share={max_skipped_share!r}: expected a share from 0 "
                "(none) to 1 (all)."
            )
        if num_threads is not None and num_threads < 1:
            raise ValueError(f"num_threads={num_threads!r}: expected at least 1.")
        self.images = as_sequence(images)
        self.converter = converter
        self.batch_size = int(batch_size)
        self.on_error = on_error
        self.max_skipped_share = float(max_skipped_share)
        self.num_threads = num_threads or min(4, os.cpu_count() or 1)
        self.progress = progress
        self.report = SkipReport()

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        self.report = SkipReport()
        indices: list[int] = []
        images: list[np.ndarray] = []
        for index, image in self._good_images():
            indices.append(index)
            images.append(image)
            if len(images) == self.batch_size:
                yield np.array(indices), np.stack(images)
                indices, images = [], []
        if images:
            yield np.array(indices), np.stack(images)

    def _good_images(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yields converted images in order and books the others as skipped."""
        total = len(self.images)
        bar = keras.utils.Progbar(total, unit_name="image") if self.progress else None
        for index, future in self._futures():
            self.report.num_images += 1
            if bar is not None:
                bar.update(self.report.num_images)
            try:
                image = future.result()
            except ImageError as error:
                if self.on_error == "raise":
                    raise
                self.report.add(index, error)
                self._stop_if_too_many(total)
                continue
            yield index, image

    def _futures(self) -> Iterator[tuple[int, Future[np.ndarray]]]:
        """Keeps the threads busy one batch ahead, and never further."""
        # At most `num_threads` images are decoded at any time; what waits is
        # already small. That bounds memory whatever the length of the list.
        ahead = self.batch_size + self.num_threads
        waiting: deque[tuple[int, Future[np.ndarray]]] = deque()
        pool = ThreadPoolExecutor(self.num_threads, "keras_pe_images")
        try:
            for index, image in enumerate(self.images):
                name = image_name(image, index)
                future = pool.submit(self.converter.convert, image, name)
                waiting.append((index, future))
                if len(waiting) >= ahead:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:  # also when the consumer stops early or an error is raised
            pool.shutdown(wait=True, cancel_futures=True)

    def _stop_if_too_many(self, total: int) -> None:
        # Judged against the whole list, so one bad image at the beginning of a
        # long run is no reason to stop, and a hopeless run stops early.
        if self.report.num_skipped > self.max_skipped_share * total:
            raise ImageError(
                f"{self.report.num_skipped} of {total} images",
                TOO_MANY_SKIPPED,
                f"max_skipped_share={self.max_skipped_share:g} allows "
                f"{int(self.max_skipped_share * total)}. {self.report}. Remove or "
                "repair them, or raise max_skipped_share.",
            )


def load_batches(
    images: Any,
    converter: PEImageConverter,
    batch_size: int,
    on_error: str = "skip",
    max_skipped_share: float = 0.1,
    num_threads: int | None = None,
    progress: bool = False,
) -> ImageBatches:
    """Loads images in batches; skips the bad ones, but counts and names them.

    Batches are full (except the last), whatever was skipped, so that a compiled
    model sees one shape. Memory does not grow with the number of images.

    Args:
        images: anything a `PEImageConverter` takes; usually a list of paths.
        converter: does the conversion, in threads.
        batch_size: images per batch.
        on_error: `"skip"`, or `"raise"` at the first bad image.
        max_skipped_share: the run stops as soon as more than this share of all
            images had to be skipped: that is a broken data set, not bad luck.
        num_threads: decoding threads; by default one a core, at most 4.
        progress: show a progress bar.

    Returns:
        An iterable of `(indices, images)`: positions in `images`, int64
        (batch,), and float32 (batch, height, width, 3). Its `report` is a
        `SkipReport`, complete once the loop is over.

    Raises:
        ImageError: while iterating; for a bad image with
            `on_error="raise"`, or if too many were skipped.

    Example:
        >>> from PIL import Image
        >>> images = [Image.new("RGB", (9, 9)), "missing.jpg"]
        >>> batches = load_batches(
        ...     images, PEImageConverter(8), batch_size=4, max_skipped_share=0.5
        ... )
        >>> [(indices.tolist(), images.shape) for indices, images in batches]
        [([0], (1, 8, 8, 3))]
        >>> print(batches.report)
        1 of 2 images skipped: 1 missing file (missing.jpg)
    """
    return ImageBatches(
        images,
        converter,
        batch_size,
        on_error,
        max_skipped_share,
        num_threads,
        progress,
    )
