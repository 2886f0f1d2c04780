"""Shards of questions and answers as what a run is trained on and scored by."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_pe.data import Order, SkippedSamples
from keras_pe.data.augmentation import WholeImage
from keras_pe.data.image_text import opened_image
from keras_pe.data.question_rows import (
    QuestionReader,
    QuestionRows,
    RowShape,
    row_shape,
)
from keras_pe.data.questions import questions_of
from keras_pe.data.repeated_order import RepeatedOrder, shard_repeats
from keras_pe.data.sample_errors import SampleError
from keras_pe.data.shard_files import IMAGE_EXTENSIONS
from keras_pe.data.tar_shards import open_shards
from keras_pe.evaluation.language import box_accuracy, exact_match, parse_box
from keras_pe.language.prompts import Prompt
from keras_pe.language.vision_language_model import VisionLanguageModel
from keras_pe.training.devices.distribution import batch_parts, host_position
from keras_pe.training.resolution import PlannedStage
from keras_pe.training.run.language_config import LanguageConfig
from keras_pe.training.run.overrides import SettingError
from keras_pe.training.run.shard_data import START_TIMEOUT, ShardBatches, ShardData
from keras_pe.training.run.training_run import Evaluate, MakeBatches

MOST_QUESTIONS = 1000  # scored during training
ANSWER_TOKENS = 24  # most of an answer then


class QuestionData:
    """Tar shards of images with questions, see `keras_pe.data.questions`.

    Args:
        data: as of `ShardData`.
        validation_data: shards to be asked during training; None for none.
        workers: as of `ShardData`.
        start_timeout: as of `ShardData`.

    Raises:
        ValueError: as of `ShardData`.
    """

    def __init__(
        self,
        data: str,
        validation_data: str | None = None,
        workers: int = 0,
        start_timeout: float = START_TIMEOUT,
    ) -> None:
        self.shards = ShardData(data, validation_data, workers, start_timeout)

    def describe(self) -> dict[str, Any]:
        """Returns what a run's configuration says of them, wherever they lie."""
        return self.shards.describe()

    def batches(self, config: LanguageConfig, prompt: Prompt) -> MakeBatches:
        """Returns what makes the batches of a stage: from (stage, first, count).

        Raises:
            SampleError: if nothing of the first samples can be used.
            SettingError: if `repeats` do not fit the shards.
        """
        source, order, reader = self._read(config, prompt)
        shape = _shape(config, source, order, reader)
        host_index, host_count = host_position()
        skip_report = SkippedSamples(config.max_bad_share)

        def make(stage: PlannedStage, first: int, count: int) -> Iterable[Any]:
            size = stage.image_size
            rows = QuestionRows(
                source,
                order,
                reader,
                WholeImage(size),
                shape,
                (size, size),
                config.seed,
                host_index,
                host_count,
            )
            workers, seconds = self.shards.workers, self.shards.start_timeout
            return ShardBatches(rows, first, count, workers, skip_report, seconds)

        return make

    def shape(self, config: LanguageConfig, prompt: Prompt) -> RowShape:
        """Returns how large the batches are, of what the first samples show."""
        return _shape(config, *self._read(config, prompt))

    def _read(
        self, config: LanguageConfig, prompt: Prompt
    ) -> tuple[Any, Order, QuestionReader]:
        """Returns the samples, which of them each batch has, and how they are read."""
        source = open_shards(self.shards.data)
        try:
            repeats = shard_repeats(source.paths, config.repeats)
        except ValueError as error:
            raise SettingError(f"repeats: {error}") from error
        order = RepeatedOrder(source.counts, repeats, config.batch_size, config.seed)
        reader = QuestionReader(prompt, config.questions, config.row_length)
        return source, order, reader

    def scores(
        self, config: LanguageConfig, model: VisionLanguageModel
    ) -> Evaluate | None:
        """Returns what asks the model during training, or None."""
        if self.shards.validation_data is None:
            return None
        return AnswerAccuracy(self.shards.validation_data, model)


def _shape(
    config: LanguageConfig, source: Any, order: Order, reader: QuestionReader
) -> RowShape:
    multiple = config.image_chunk_size or batch_parts()
    return row_shape(source, order, reader, multiple, config.seed)


class AnswerAccuracy:
    """Shares of questions that a model answers as it should, by their kind.

    Answers that are boxes count if they cover the right one by half, others if they
    are equal but for capitals, articles and punctuation.

    Args:
        data: pattern of the shards; samples are drawn until there are enough questions.
        model: that answers.
        most_questions: that are asked.

    Raises:
        SampleError: if one of those samples has no sound questions or image.
    """

    def __init__(
        self,
        data: str,
        model: VisionLanguageModel,
        most_questions: int = MOST_QUESTIONS,
    ) -> None:
        self.model = model
        self.images: list[Any] = []
        self.asked: list[Any] = []
        source = open_shards(data)
        # Of all shards, which may be of several sets; the same ones every time.
        for number in np.random.default_rng(0).permutation(len(source)).tolist():
            sample = source[number]
            try:
                questions = questions_of(sample)
                shown = any(name in sample for name in IMAGE_EXTENSIONS)
                image = opened_image(sample) if shown else None
            except SampleError as error:
                raise SampleError(
                    error.reason, f"{data}, {source.describe(number)}: {error.detail}"
                ) from error
            self.asked += questions
            self.images += [image] * len(questions)
            if len(self.asked) >= most_questions:
                break
        del self.asked[most_questions:], self.images[most_questions:]

    def __call__(self) -> dict[str, float]:
        """Returns `answers` for all, and `answers/KIND` for each kind."""
        questions = [asked.question for asked in self.asked]
        answers = self.model.generate(self.images, questions, ANSWER_TOKENS)
        kinds = defaultdict(list)
        for asked, answer in zip(self.asked, answers, strict=True):
            kinds[asked.kind].append((answer, asked.answer))
        found, total = {}, 0.0
        for kind, pairs in sorted(kinds.items()):
            given, right = (list(texts) for texts in zip(*pairs, strict=True))
            boxes = [parse_box(text) for text in right]
            if all(box is not None for box in boxes):
                scores = box_accuracy(given, boxes)
            else:
                scores = exact_match(given, [[text] for text in right])
            total += float(scores.values.sum())
            if kind:
                found[f"answers/{kind}"] = scores.mean
        return {"answers": total / len(self.asked), **found}
