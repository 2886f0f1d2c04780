"""Training batches of picture-caption shards, each a pure function of its number."""

import functools
import logging
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import Any

import numpy as np
from PIL import Image

from keras_pe import PEImageConverter
from keras_pe.data import (
    ArrayRecordShards,
    CaptionReader,
    ShuffledOrder,
    SkippedSamples,
    TarShards,
    TrainAugmentation,
    batches,
    image_text_dataset,
)
from keras_pe.data.image_text import ImageTextDataset, Tokenizer
from keras_pe.data.shard_files import expand_paths
from keras_pe.training.devices.distribution import host_position
from keras_pe.training.resolution import PlannedStage
from recipes.contrastive_configs import Config

# Draws the masks or kept patches of a batch: from (rows, generator) to arrays by name.
DrawArrays = Callable[[int, np.random.Generator], dict[str, np.ndarray]]

ARRAY_RECORD_ENDINGS = (".arrayrecord", ".array_record")
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


def shard_batches(
    config: Config,
    data: str,
    tokenizer: Tokenizer,
    workers: int,
    draw_arrays: Callable[[int], DrawArrays],
    start_timeout: float = START_TIMEOUT,
) -> Callable[[PlannedStage, int, int], ShardBatches]:
    """Returns what makes the batches of a stage: from (stage, first, count).

    Args:
        config: the run.
        data: pattern of the shards.
        tokenizer: makes token ids, or several such arrays by name, of captions.
        workers: processes that prepare batches; 0 prepares them in threads.
        draw_arrays: from a picture size to what draws the batch's other arrays.
        start_timeout: seconds for a process to start.
    """
    source = open_shards(data)
    host_index, host_count = host_position()
    # One for the run, so that the limit holds for all stages together.
    skip_report = SkippedSamples(config.max_bad_share)

    def make(stage: PlannedStage, first: int, count: int) -> ShardBatches:
        draw = draw_arrays(stage.image_size)
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
        return ShardBatches(dataset, first, count, workers, skip_report, start_timeout)

    return make


def caption_reader(config: Config) -> CaptionReader:
    """Returns what reads the captions, where the configuration says they are."""
    return CaptionReader(config.caption_key) if config.caption_key else CaptionReader()


class WholePicture:
    """The transform of evaluation: the picture squashed to a square, nothing random."""

    def __init__(self, image_size: int) -> None:
        self.converter = PEImageConverter(image_size)

    def __call__(self, picture: Image.Image, rng: np.random.Generator) -> np.ndarray:
        return self.converter.convert(picture)


# === The shards ===
@functools.lru_cache(maxsize=4)
def open_shards(data: str) -> TarShards | ArrayRecordShards:
    """Opens tar shards, or ArrayRecord files if they are called `*.arrayrecord`.

    Args:
        data: path, folder, glob, brace range or URL: see `keras_pe.data.TarShards`.

    Raises:
        ValueError: if both kinds are among them.
    """
    paths = expand_paths(data)
    records = [path for path in paths if path.endswith(ARRAY_RECORD_ENDINGS)]
    if records and len(records) < len(paths):
        other = next(path for path in paths if path not in records)
        raise ValueError(
            f"{data!r} is {records[0]} and {other}: expected tar shards or ArrayRecord "
            "files, not both in one run."
        )
    return ArrayRecordShards(paths) if records else TarShards(paths)


def describe_shards(data: str) -> dict[str, Any]:
    """Returns what a run's samples and their order depend on, for its configuration.

    The digest tells other content of the same names and counts apart; what it can't
    see stands at `keras_pe.data.tar_index.shard_digest`.
    """
    source = open_shards(data)
    # No folders: a copy elsewhere is the same data.
    names = [PurePath(path).name for path in source.paths]
    return {
        "data": {
            "shards": [names[0], names[-1], len(names)],
            "pairs": len(source),
            "digest": source.digest,
        }
    }
