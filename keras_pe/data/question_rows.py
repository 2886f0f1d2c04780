"""Batches of packed questions and answers, each a pure function of (seed, number).

Documents are packed over `BLOCK` batches together, since few fill rows badly: a batch
is a part of what its block's samples, questions and rows decide, and nothing else.
"""

import dataclasses
import math
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import grain
import numpy as np

from keras_pe.data.image_text import Batch, Source, Transform, opened_image
from keras_pe.data.order import Order
from keras_pe.data.packing import Document, pack_documents, packed_row
from keras_pe.data.questions import read_questions
from keras_pe.data.sample_errors import NO_ROOM, SampleError, SkippedSample
from keras_pe.data.shard_files import IMAGE_EXTENSIONS, Sample
from keras_pe.data.workers import report
from keras_pe.preprocessing.image_errors import ImageError

BLOCK = 16  # batches packed together
TOO_LONG = "questions too long"
SPARE = 1.02  # times as many places for images as a block has, at least
SIGMAS = 2.0  # by how much larger than the first block others may be
FULL = 0.97  # share of the rows that the mean document is to fill
ENDLESS = 1 << 62


class Prompt(Protocol):
    """What puts questions into words of a language model; `QuestionPrompt` does.

    Attributes:
        image_tokens: tokens of an image.
        packs: whether its documents may share a row; they may if it does not say.
    """

    image_tokens: int

    def conversation(
        self, turns: Sequence[tuple[str, str]], image: bool, source: str
    ) -> Document: ...


class RowShape(NamedTuple):
    """How large packed batches are, which a compiled step wants to be told.

    Attributes:
        rows: of a batch, over all hosts.
        length: tokens of a row.
        images: most images of a row.
        slots: most tokens of answers of a row.
        empty: of the rows, those that are left empty for devices to share alike. What
            a batch holds does not depend on them.
    """

    rows: int
    length: int
    images: int
    slots: int
    empty: int = 0

    @property
    def room(self) -> int:
        """The rows of a block of batches that documents are packed into."""
        return BLOCK * (self.rows - self.empty)


@dataclasses.dataclass(frozen=True)
class QuestionReader:
    """Makes documents of samples.

    Args:
        prompt: makes a document of (question, answer) pairs.
        most_questions: of a sample, drawn anew each time it comes.
        length: most tokens of a document: questions that go beyond are left out.
    """

    prompt: Prompt
    most_questions: int
    length: int

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Document:
        """Returns some of a sample's questions as one document.

        They are drawn, and in random order; turns of a conversation are the first ones,
        as they come.

        Raises:
            SampleError: if it has no sound questions, or none that is short enough.
        """
        questions, turns = read_questions(sample)
        drawn = np.arange(len(questions)) if turns else rng.permutation(len(questions))
        has_image = any(name in sample for name in IMAGE_EXTENSIONS)
        source = str(sample.get("__key__", "a sample"))
        drawn = drawn[: self.most_questions]
        chosen: list[tuple[str, str]] = []
        document = error = None
        try:  # all of them at once, as nearly always: each text becomes tokens once
            asked = [(questions[k].question, questions[k].answer) for k in drawn]
            whole = self.prompt.conversation(asked, has_image, source)
            if len(whole) <= self.length:
                return whole
        except ValueError:
            pass  # said below, if nothing fits
        for place in drawn:
            one = questions[place]
            try:
                found = self.prompt.conversation(
                    [*chosen, (one.question, one.answer)], has_image, source
                )
            except ValueError as refused:  # a text beyond the tokenizer's context
                error = refused
            else:
                if len(found) <= self.length:
                    chosen.append((one.question, one.answer))
                    document = found
                    continue
            if turns:  # the next ones may speak of this one
                break
        if document is None:
            said = error or f"None fits into a row of {self.length} tokens."
            raise SampleError(TOO_LONG, f"{said} Give longer rows, or shorter texts.")
        return document


class Placed(NamedTuple):
    """A document and the sample that it is of."""

    document: Document
    sample: int


def drawn_documents(
    source: Source, order: Order, reader: QuestionReader, seed: int, number: int
) -> tuple[list[Placed], list[SkippedSample]]:
    """Returns the documents of a batch's samples, and those that have none."""
    found, skipped = [], []
    for place, sample in enumerate(np.asarray(order[number]).tolist()):
        report(number, place, sample, "reading")
        record = source[sample]
        try:
            rng = np.random.default_rng([seed, number, place])
            found.append(Placed(reader(record, rng), sample))
        except SampleError as error:
            key = str(record.get("__key__", sample))
            skipped.append(skipped_sample(source, sample, error, key))
    return found, skipped


def skipped_sample(
    source: Source, sample: int, error: SampleError | ImageError, key: str
) -> SkippedSample:
    """Returns the record of a sample that can't be used."""
    return SkippedSample(sample, key, repr(source), error.reason, error.detail)


def row_shape(
    source: Source,
    order: Order,
    reader: QuestionReader,
    multiple: int = 1,
    seed: int = 0,
) -> RowShape:
    """Returns the smallest rows that hold, nearly always, what a block gives.

    The first block is packed to see. What of later ones finds no room is skipped, and
    counted as such.

    Args:
        source: samples by number.
        order: which of them each batch has.
        reader: makes their documents, for rows of its length.
        multiple: of which the number of rows is to be one: devices, chunks.
        seed: of the run.

    Raises:
        SampleError: if no sample of the first block can be used.
    """
    placed: list[Placed] = []
    skipped: list[SkippedSample] = []
    for number in range(BLOCK):
        found, bad = drawn_documents(source, order, reader, seed, number)
        placed, skipped = placed + found, skipped + bad
    if not placed:
        first = skipped[0]
        raise SampleError(
            first.reason,
            f"None of {len(skipped)} samples can be used; {first.key} in "
            f"{first.shard}: {first.detail}",
        )
    documents = [document for document, _ in placed]
    shown = [bool(document.image.any()) for document in documents]
    answers = [int(document.answer.sum()) for document in documents]
    tokens = sum(map(len, documents)) / BLOCK
    rows = math.ceil(tokens / (FULL * reader.length))
    most = max(reader.length // (max(reader.prompt.image_tokens, 1) + 2), 1)
    most = most if getattr(reader.prompt, "packs", True) else 1
    spread = float(np.std([len(document) for document in documents]))
    # How far the sums of two blocks lie apart, in rows; a row each is always enough.
    spare = SIGMAS * spread * math.sqrt(2 * len(documents)) / reader.length
    spare = spare if most > 1 else 0.0
    while True:
        # A document alone always fits.
        slots = max(math.ceil(1.25 * sum(answers) / BLOCK / rows), max(answers))
        mean = sum(shown) / BLOCK / rows
        # As few places for images as will do: an encoder computes those left empty.
        for images in range(math.ceil(SPARE * mean), math.ceil(1.1 * mean) + 2):
            size = min(max(images, 1), most)
            shape = RowShape(rows, reader.length, size, slots)
            packed = len(_packed(documents, shape, reader))
            if packed + spare <= shape.room:
                empty = -rows % multiple
                return shape._replace(rows=rows + empty, empty=empty)
        rows += 1


def _packed(
    documents: Sequence[Document], shape: RowShape, reader: QuestionReader
) -> list[list[Document]]:
    """Returns the fuller rows of two ways to pack; or rows of a document each."""
    if not getattr(reader.prompt, "packs", True):
        return [[document] for document in documents]
    image_tokens = shape.images * reader.prompt.image_tokens
    ways = (
        list(
            pack_documents(
                documents,
                shape.length,
                image_tokens=image_tokens,
                slots=shape.slots,
                mixed=mixed,
            )
        )
        for mixed in (False, True)
    )
    return min(ways, key=len)


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
                mine = arrays["documents"][arrays["answer_places"]] == order + 1
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
            for row in _packed(documents, self.shape, self.reader)
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
