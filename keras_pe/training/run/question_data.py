"""Shards of questions and answers as what a run is trained on and scored by."""

from collections.abc import Iterable
from typing import Any

from keras_pe.data import Order, SkippedSamples
from keras_pe.data.augmentation import WholeImage
from keras_pe.data.question_documents import QuestionReader
from keras_pe.data.question_rows import QuestionRows
from keras_pe.data.repeated_order import RepeatedOrder, shard_repeats
from keras_pe.data.row_shape import RowShape, row_shape
from keras_pe.data.tar_shards import open_shards
from keras_pe.language.prompts import Prompt
from keras_pe.language.vision_language_model import VisionLanguageModel
from keras_pe.training.devices.distribution import batch_parts, host_position
from keras_pe.training.resolution import PlannedStage
from keras_pe.training.run.answer_accuracy import AnswerAccuracy
from keras_pe.training.run.language_config import LanguageConfig
from keras_pe.training.run.overrides import SettingError
from keras_pe.training.run.shard_data import START_TIMEOUT, ShardBatches, ShardData
from keras_pe.training.run.training_run import Evaluate, MakeBatches


class QuestionData:
    """Tar shards of images with questions, see `keras_pe.data.questions`.

    Args:
        data: as of `ShardData`.
        validation_data: shards to be asked during training; None for none.
        workers: as of `ShardData`.
        start_timeout: as of `ShardData`.

    Raises:
        ValueError: as of `ShardData`.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> from keras_pe.data import Question, question_member, write_question_shards
        >>> samples = []
        >>> for number, colour in enumerate(("red", "green", "blue", "white")):
        ...     file = io.BytesIO()
        ...     Image.new("RGB", (64, 64), colour).save(file, "PNG")
        ...     asked = [Question("Which colour?", colour, "colour")]
        ...     samples.append({"__key__": str(number), "png": file.getvalue(),
        ...         "json": question_member(asked)})
        >>> shards = write_question_shards("questions", "train", samples)
        >>> QuestionData("questions/train-*.tar").describe()["data"]["pairs"]
        4
    """

    def __init__(
        self,
        data: str,
        validation_data: str | None = None,
        workers: int = 0,
        start_timeout: float = START_TIMEOUT,
    ) -> None:
        self.data, self.validation_data = data, validation_data
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
        source = open_shards(self.data)
        try:
            repeats = shard_repeats(source.paths, config.repeats)
        except ValueError as error:
            raise SettingError(f"repeats: {error}") from error
        order = RepeatedOrder(source.counts, repeats, config.batch_size, config.seed)
        reader = QuestionReader(
            prompt, config.questions, config.row_length, config.questions_apart
        )
        return source, order, reader

    def scores(
        self, config: LanguageConfig, model: VisionLanguageModel
    ) -> Evaluate | None:
        """Returns what asks the model during training, or None."""
        if self.validation_data is None:
            return None
        return AnswerAccuracy(self.validation_data, model)


def _shape(
    config: LanguageConfig, source: Any, order: Order, reader: QuestionReader
) -> RowShape:
    multiple = config.image_chunk_size or batch_parts()
    return row_shape(source, order, reader, multiple, config.seed)
