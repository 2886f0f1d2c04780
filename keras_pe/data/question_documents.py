"""Samples with questions as documents of tokens, those of each batch by its number."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from keras_pe.arrays import check_sizes, check_switches
from keras_pe.data.image_text import Source
from keras_pe.data.order import Order
from keras_pe.data.packing import Document
from keras_pe.data.questions import read_questions
from keras_pe.data.sample_errors import SampleError, SkippedSample
from keras_pe.data.shard_files import IMAGE_EXTENSIONS, Sample
from keras_pe.data.workers import report
from keras_pe.preprocessing.image_errors import ImageError

TOO_LONG = "questions too long"
NO_TOKENS = "questions that can't be tokens"


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

    def questions(
        self, asked: Sequence[tuple[str, str]], image: bool, source: str
    ) -> Document: ...


@dataclasses.dataclass(frozen=True)
class QuestionReader:
    """Makes documents of samples.

    Args:
        prompt: makes a document of (question, answer) pairs.
        most_questions: of a sample, drawn anew each time it comes.
        length: most tokens of a document: questions that go beyond are left out.
        apart: whether the questions of an image do not see each other, unless they are
            turns of a conversation.
    """

    prompt: Prompt
    most_questions: int
    length: int
    apart: bool = False

    def __post_init__(self) -> None:
        check_sizes(most_questions=self.most_questions, length=self.length)
        check_switches(apart=self.apart)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Document:
        """Returns some of a sample's questions as one document.

        They are drawn, and in random order; turns of a conversation are the first ones,
        as they come.

        Raises:
            SampleError: if it has no sound questions, or none that is short enough and
                can be tokens.
        """
        questions, turns = read_questions(sample)
        drawn = np.arange(len(questions)) if turns else rng.permutation(len(questions))
        has_image = any(name in sample for name in IMAGE_EXTENSIONS)
        source = str(sample.get("__key__", "a sample"))
        drawn = drawn[: self.most_questions]
        apart = self.apart and not turns

        def join(asked: Sequence[tuple[str, str]]) -> Document:
            if apart:
                return self.prompt.questions(asked, has_image, source)
            return self.prompt.conversation(asked, has_image, source)

        chosen: list[tuple[str, str]] = []
        document = error = None
        try:  # all of them at once, as nearly always: each text becomes tokens once
            asked = [(questions[k].question, questions[k].answer) for k in drawn]
            whole = join(asked)
            if len(whole) <= self.length:
                return whole
        except ValueError:
            pass  # said below, if nothing fits
        for place in drawn:
            one = questions[place]
            try:
                found = join([*chosen, (one.question, one.answer)])
            except ValueError as refused:  # too long, or with a mark in it
                error = refused
            else:
                if len(found) <= self.length:
                    chosen.append((one.question, one.answer))
                    document = found
                    continue
            if turns:  # the next ones may speak of this one
                break
        if document is None:
            if error is not None:
                raise SampleError(NO_TOKENS, str(error))
            raise SampleError(
                TOO_LONG,
                f"None fits into a row of {self.length} tokens. Give longer rows, or "
                f"shorter texts.",
            )
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
