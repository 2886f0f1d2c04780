"""Shards of picture-caption pairs as what a run is trained on and scored by."""

import logging
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

from keras_pe.data import (
    CaptionReader,
    ShuffledOrder,
    SkippedSamples,
    TrainAugmentation,
    batches,
    image_text_dataset,
)
from keras_pe.data.augmentation import WholePicture
from keras_pe.data.image_text import ImageTextDataset, Tokenizer
from keras_pe.data.tar_shards import open_shards
from keras_pe.models.core import PECore
from keras_pe.preprocessing.tokenizer import PETokenizer
from keras_pe.training.devices.distribution import host_position
from keras_pe.training.resolution import PlannedStage
from keras_pe.training.run.config import RunConfig
from keras_pe.training.run.patch_arrays import patch_arrays
from keras_pe.training.run.retrieval_scores import RetrievalScores
from keras_pe.training.run.training_run import Evaluate, MakeBatches

NUM_THREADS = 2  # that prepare batches where no processes do
START_TIMEOUT = 60.0  # seconds for a process that prepares batches to start

_log = logging.getLogger(__name__)


# === Training ===
class ShardBatches:
    """A range of batches that starts anew whenever it is iterated over.

    Args:
        dataset: all batches of a stage, by number.
        first: number of the first one, counted from the beginning of the run.
        count: how many.
        workers: processes that prepare them; 0 prepares them in threads.
        skip_report: counts the samples that can't be used.
        start_timeout: seconds for a process to start, see `keras_pe.data.batches`.
    """

    def __init__(
        self,
        dataset: ImageTextDataset,
        first: int,
        count: int,
        workers: int = 0,
        skip_report: SkippedSamples | None = None,
        start_timeout: float = START_TIMEOUT,
    ) -> None:
        self.dataset, self.first, self.count = dataset, first, count
        self.workers, self.skip_report = workers, skip_report
        self.start_timeout = start_timeout

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[dict[str, Any]]]:
        with batches(
            self.dataset[self.first : self.first + self.count],
            num_workers=min(self.workers, self.count),
            num_threads=NUM_THREADS,
            start_timeout=self.start_timeout,
            skip_report=self.skip_report,
        ) as loader:
            for _ in range(self.count - 1):
                yield (next(loader),)
            last = next(loader)
            if loader.skip_report.num_skipped:
                _log.warning("%s", loader.skip_report)
        # After the loader's end: the next stage starts processes of its own while
        # whoever iterates may still hold this generator.
        yield (last,)


class ShardData:
    """Tar shards, or ArrayRecord files, that a run is trained on.

    Args:
        data: path, folder, pattern or URL: see `keras_pe.data.TarShards`.
        validation_data: shards to measure retrieval on; None for none.
        workers: processes that prepare batches; 0 prepares them in threads.
        start_timeout: seconds for a process to start.

    Raises:
        ValueError: if there are fewer than 0 workers or no seconds.
    """

    def __init__(
        self,
        data: str,
        validation_data: str | None = None,
        workers: int = 0,
        start_timeout: float = START_TIMEOUT,
    ) -> None:
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 0:
            raise ValueError(f"workers={workers!r}: expected 0 or more.")
        if not start_timeout > 0:
            raise ValueError(f"start_timeout={start_timeout}: expected more than 0.")
        self.data, self.validation_data = data, validation_data
        self.workers, self.start_timeout = workers, start_timeout

    def describe(self) -> dict[str, Any]:
        """Returns what the samples and their order depend on, wherever they lie.

        The digest tells other content of the same names and counts apart; what it
        can't see stands at `keras_pe.data.tar_index.shard_digest`.
        """
        source = open_shards(self.data)
        # No folders: a copy elsewhere is the same data.
        names = [PurePath(path).name for path in source.paths]
        return {
            "data": {
                "shards": [names[0], names[-1], len(names)],
                "pairs": len(source),
                "digest": source.digest,
            }
        }

    def batches(self, config: RunConfig, tokenizer: Tokenizer) -> MakeBatches:
        """Returns what makes the batches of a stage: from (stage, first, count).

        Args:
            config: the run.
            tokenizer: makes token ids, or several such arrays by name, of captions.
        """
        source = open_shards(self.data)
        host_index, host_count = host_position()
        # One for the run, so that the limit holds for all stages together.
        skip_report = SkippedSamples(config.max_bad_share)

        def make(stage: PlannedStage, first: int, count: int) -> ShardBatches:
            draw = patch_arrays(config, stage.image_size)
            dataset = image_text_dataset(
                source,
                ShuffledOrder(len(source), config.batch_size, config.seed),
                # Bytes cost a fourth on their way; the loader makes the floats.
                transform=TrainAugmentation(stage.image_size, dtype="uint8")
                if config.augment
                else WholePicture(stage.image_size),
                tokenizer=tokenizer,
                captions=caption_reader(config),
                seed=config.seed,
                max_bad_share=config.max_bad_share,
                host_index=host_index,
                host_count=host_count,
                extras=lambda number, rng: draw(config.batch_size, rng),
            )
            return ShardBatches(
                dataset, first, count, self.workers, skip_report, self.start_timeout
            )

        return make

    def scores(
        self, config: RunConfig, model: PECore, tokenizer: PETokenizer
    ) -> Evaluate | None:
        """Returns what scores the model during training, or None."""
        if self.validation_data is None:
            return None
        return RetrievalScores(
            self.validation_data,
            model,
            tokenizer,
            captions=caption_reader(config),
            max_bad_share=config.max_bad_share,
        )


def caption_reader(config: RunConfig) -> CaptionReader:
    """Returns what reads the captions, where the configuration says they are."""
    return CaptionReader(config.caption_key) if config.caption_key else CaptionReader()
