"""How large packed batches of questions are, of what the first of them hold."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from keras_pe.data.image_text import Source
from keras_pe.data.order import Order
from keras_pe.data.packing import Document, pack_documents
from keras_pe.data.question_documents import Placed, QuestionReader, drawn_documents
from keras_pe.data.sample_errors import SampleError, SkippedSample

BLOCK = 16  # batches packed together
SPARE = 1.02  # times as many places for images as a block has, at least
SIGMAS = 2.0  # by how much larger than the first block others may be
FULL = 0.97  # share of the rows that the mean document is to fill
PLACE = 2  # what a place for an image costs, in its tokens, even if it stays empty
LOOKED_AT = 1024  # documents, for the longest of them


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
    answers = [int(document.answer.sum()) for document in documents]
    later = list(_later_documents(source, order, reader, seed, len(documents)))
    longest = max([*answers, *(int(each.answer.sum()) for each in later)])
    longest = min(math.ceil(1.25 * longest), reader.length)
    shown = sum(bool(document.image.any()) for document in documents) / BLOCK
    tokens = sum(map(len, documents)) / BLOCK
    fewest = math.ceil(tokens / (FULL * reader.length))
    most = max(reader.length // (max(reader.prompt.image_tokens, 1) + 2), 1)
    most = most if getattr(reader.prompt, "packs", True) else 1
    spread = float(np.std([len(document) for document in documents + later]))
    # How far the sums of two blocks lie apart, in rows; a row each is always enough.
    spare = SIGMAS * spread * math.sqrt(2 * len(documents)) / reader.length
    spare = spare if most > 1 else 0.0

    def shape(rows: int, images: int) -> RowShape:
        # A document alone always fits.
        slots = max(math.ceil(1.25 * sum(answers) / BLOCK / rows), longest)
        return RowShape(rows, reader.length, images, slots)

    def fits(rows: int, images: int) -> bool:
        made = shape(rows, images)
        return len(packed_block(documents, made, reader)) + spare <= made.room

    image_tokens = reader.prompt.image_tokens
    best: tuple[int, int, int] | None = None  # cost, rows, images
    for rows in _row_numbers(fewest):
        # Bisection: more places for images never need more rows.
        few, many = min(max(math.ceil(SPARE * shown / rows), 1), most), most
        least = rows * (reader.length + PLACE * few * image_tokens)
        if best is not None and (least >= best[0] or rows > 2 * best[1]):
            break
        if not fits(rows, many):
            continue
        while few < many:
            middle = (few + many) // 2
            few, many = (few, middle) if fits(rows, middle) else (middle + 1, many)
        cost = rows * (reader.length + PLACE * many * image_tokens)
        best = min(best or (cost, rows, many), (cost, rows, many))
    assert best is not None
    _, rows, images = best
    empty = -rows % multiple
    return shape(rows, images)._replace(rows=rows + empty, empty=empty)


def _later_documents(
    source: Source, order: Order, reader: QuestionReader, seed: int, count: int
) -> Iterator[Document]:
    """Yields documents behind the first block, if there were few: rare ones are long.

    Args:
        source, order, reader, seed: as of `row_shape`.
        count: documents of the first block.
    """
    number = BLOCK
    while count < LOOKED_AT:
        found, _ = drawn_documents(source, order, reader, seed, number)
        yield from (one.document for one in found)
        count, number = count + max(len(found), 1), number + 1


def _row_numbers(fewest: int) -> Iterator[int]:
    """Yields numbers of rows, without end: each one, or steps of three per cent."""
    rows = fewest
    while True:
        yield rows
        rows = max(rows + 1, math.ceil(1.03 * rows))


def packed_block(
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
