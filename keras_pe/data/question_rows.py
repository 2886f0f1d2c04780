"""Batches of packed questions and answers, each a pure function of (seed, number).

Documents are packed over `BLOCK` batches together, since few fill rows badly: a batch
is a part of what its block's samples, questions and rows decide, and nothing else.
"""

import threading
from typing import Any, NamedTuple

import grain
import numpy as np

from keras_pe.data.image_text import Batch, Source, Transform, opened_image
from keras_pe.data.order import Order
from keras_pe.data.packing import BRANCH, packed_row
from keras_pe.data.question_documents import (
    TOO_LONG,
    Placed,
    QuestionReader,
    drawn_documents,
    skipped_sample,
)
from keras_pe.data.row_shape import BLOCK, RowShape, packed_block
from keras_pe.data.sample_errors import NO_ROOM, SampleError, SkippedSample
from keras_pe.data.shard_files import Sample
from keras_pe.data.workers import report
from keras_pe.preprocessing.image_errors import ImageError

ENDLESS = 1 << 62


class _Plan(NamedTuple):
    """The rows of a block's batches, and what of each batch can't be used."""

    rows: list[list[Placed]]
    skipped: dict[int, list[SkippedSample]]


class QuestionRows(grain.MapDataset[Batch]):
    """Packed batches of questions, by number, for `keras_pe.data.batches`.

    An element has the arrays of `packed_row`, stacked, and `images` `(rows, images,
    height, width, 3)`; and `num_samples` and `skipped`, which the loader takes out. Of
    an image that can't be read the answers have no weight.

    Args:
        source: samples by number.
        order: which of them each batch has.
        reader: makes their documents.
        transform: makes an image's array.
        shape: of the batches: `row_shape` finds one that fits.
        image_size: pixels, (height, width).
        seed: of the choice of questions and of the transform.
        host_index: number of this host.
        host_count: hosts, each of which makes its share of the rows.

    Raises:
        ValueError: if the hosts can't share the rows.

    Example:
        >>> shards = open_shards("data/*.tar")                      # doctest: +SKIP
        >>> order = ShuffledOrder(len(shards), batch_size=64)       # doctest: +SKIP
        >>> reader = QuestionReader(prompt, 4, 256)    # doctest: +SKIP
        >>> shape = row_shape(shards, order, reader, 16)            # doctest: +SKIP
        >>> QuestionRows(shards, order, reader, WholeImage(64), shape, (64, 64))
        ... # doctest: +SKIP
    """

    def __init__(
        self,
        source: Source,
        order: Order,
        reader: QuestionReader,
        transform: Transform,
        shape: RowShape,
        image_size: tuple[int, int],
        seed: int = 0,
        host_index: int = 0,
        host_count: int = 1,
    ) -> None:
        super().__init__()
        if shape.rows % host_count or not 0 <= host_index < host_count:
            raise ValueError(
                f"{shape.rows} rows, host_index={host_index}, host_count={host_count}: "
                f"expected rows that divide among the hosts."
            )
        self.source, self.order, self.reader = source, order, reader
        self.transform, self.shape, self.image_size = transform, shape, image_size
        self.seed = seed
        share = shape.rows // host_count
        self.host_rows = range(host_index * share, (host_index + 1) * share)
        self._forget()

    def _forget(self) -> None:
        self._plans: dict[int, _Plan] = {}
        self._planning = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        gone = ("_plans", "_planning")
        return {k: v for k, v in self.__dict__.items() if k not in gone}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: Any) -> Any:
        return self.slice(index) if isinstance(index, slice) else self.batch(index)

    def batch(self, number: int) -> Batch:
        """Makes one batch, of the number counted from the beginning of training."""
        plan = self._plan(number // BLOCK)
        skipped = list(plan.skipped.get(number, ()))
        # In turn: the last rows of a block are the emptiest.
        rows = plan.rows[number % BLOCK :: BLOCK]
        rows = rows + [[] for _ in range(self.shape.rows - len(rows))]
        made = [
            self._row(number, place, rows[place], skipped) for place in self.host_rows
        ]
        report(number, -1, -1, "waiting")
        return {
            **{name: np.stack([row[name] for row in made]) for name in made[0]},
            "skipped": tuple(skipped),
            "num_samples": max(sum(len(rows[place]) for place in self.host_rows), 1),
        }

    def _row(
        self, number: int, place: int, row: list[Placed], skipped: list[SkippedSample]
    ) -> dict[str, np.ndarray]:
        length, most, slots = self.shape[1:4]
        arrays = packed_row([placed.document for placed in row], length, slots)
        images = np.zeros((most, *self.image_size, 3), "float32")
        shown = 0
        for order, (document, sample) in enumerate(row):
            if not document.image.any():
                continue
            report(number, place, sample, "reading")
            rng = np.random.default_rng([self.seed, number, place, order])
            try:
                images[shown] = self._image(self.source[sample], rng)
            except (SampleError, ImageError) as error:
                key = row[order].document.source
                skipped.append(skipped_sample(self.source, sample, error, key))
                owners = arrays["documents"][arrays["answer_places"]] % BRANCH
                mine = owners == order + 1
                arrays["answer_weights"][mine] = 0.0
            shown += 1
        return {**arrays, "images": images}

    def _image(self, record: Sample, rng: np.random.Generator) -> np.ndarray:
        headers = bool(getattr(self.transform, "decodes", False))
        return self.transform(opened_image(record, headers), rng)

    # === Packing ===
    def _plan(self, block: int) -> _Plan:
        with self._planning:
            if block not in self._plans:
                # Reading goes forward: what lies far behind is not asked for again.
                self._plans = {k: v for k, v in self._plans.items() if k >= block - 1}
                self._plans[block] = self._planned(block)
            return self._plans[block]

    def _planned(self, block: int) -> _Plan:
        skipped: dict[int, list[SkippedSample]] = {}
        placed: dict[int, Placed] = {}  # by the identity of its document
        for number in range(block * BLOCK, (block + 1) * BLOCK):
            found, skipped[number] = drawn_documents(
                self.source, self.order, self.reader, self.seed, number
            )
            for one in found:
                if int(one.document.answer.sum()) <= self.shape.slots:
                    placed[id(one.document)] = one
                else:
                    skipped[number].append(self._left_out(one, TOO_LONG))
        documents = [one.document for one in placed.values()]
        rows = [
            [placed[id(document)] for document in row]
            for row in packed_block(documents, self.shape, self.reader)
        ]
        for row in rows[self.shape.room :]:
            skipped[number] += [self._left_out(one, NO_ROOM) for one in row]
        return _Plan(rows[: self.shape.room], skipped)

    def _left_out(self, one: Placed, reason: str) -> SkippedSample:
        said = (
            f"Rows have {self.shape.slots} answers, and batches {self.shape.rows} rows."
        )
        error = SampleError(reason, said)
        return skipped_sample(self.source, one.sample, error, one.document.source)
