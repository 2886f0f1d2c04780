"""Shards or tables of image-caption pairs as what a run is trained on and scored by."""

import logging
from collections.abc import Callable, Collection, Iterator
from pathlib import PurePath
from typing import Any

import numpy as np

from keras_pe.data import (
    CaptionReader,
    ShuffledOrder,
    SkippedSamples,
    TrainAugmentation,
    batches,
    image_text_dataset,
)
from keras_pe.data.augmentation import WholeImage
from keras_pe.data.clip_frames import ClipFrames
from keras_pe.data.image_text import ImageTextDataset, Tokenizer
from keras_pe.data.pair_table import PairTable
from keras_pe.data.shard_files import expand_paths, open_shard_file
from keras_pe.data.validation import ANOMALIES_FILE, check_data, read_schema
from keras_pe.models.core import PECore
from keras_pe.preprocessing.tokenizer import PETokenizer
from keras_pe.training.devices.distribution import host_position
from keras_pe.training.resolution import PlannedStage
from keras_pe.training.run.config import RunConfig
from keras_pe.training.run.retrieval_scores import (
    NUM_THREADS,
    Pairs,
    RetrievalScores,
    opened_pairs,
)
from keras_pe.training.run.training_run import Evaluate, MakeBatches
from keras_pe.training.trainers.patch_masking import (
    kept_patches,
    masked_patches,
    masked_rows,
)

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
    """Tar shards, ArrayRecord files or a table of pairs that a run is trained on.

    Args:
        data: path, folder, pattern or URL: see `keras_pe.data.TarShards`; or a
            `PairTable`.
        validation_data: pairs to measure retrieval on; None for none.
        workers: processes that prepare batches; 0 prepares them in threads.
        start_timeout: seconds for a process to start.

    Raises:
        ValueError: if there are fewer than 0 workers or no seconds.

    Example:
        >>> with open("pairs.csv", "w") as stream:
        ...     _ = stream.write("path,caption\\nowl.png,an owl\\nfox.png,a fox\\n")
        >>> data = ShardData(PairTable("pairs.csv"))    # or ShardData("shards/*.tar")
        >>> data.describe()["data"]["pairs"]
        2
    """

    def __init__(
        self,
        data: Pairs,
        validation_data: Pairs | None = None,
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
        source = opened_pairs(self.data)
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
        source = opened_pairs(self.data)
        host_index, host_count = host_position()
        # One for the run, so that the limit holds for all stages together.
        skip_report = SkippedSamples(config.max_bad_share)

        def make(stage: PlannedStage, first: int, count: int) -> ShardBatches:
            draw = patch_arrays(config, stage.image_size)
            dataset = image_text_dataset(
                source,
                ShuffledOrder(len(source), config.batch_size, config.seed),
                transform=transform_of(config, stage.image_size),
                tokenizer=tokenizer,
                captions=caption_reader(config, self.data),
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
            captions=caption_reader(config, self.validation_data),
            max_bad_share=config.max_bad_share,
            num_frames=config.num_frames,
        )


def transform_of(config: RunConfig, image_size: int) -> Any:
    """Returns what makes arrays of the images, or of the clips, of a run.

    Args:
        config: the run.
        image_size: of the stage, pixels.
    """
    transform: Any = WholeImage(image_size)
    if config.augment:  # bytes cost a fourth on their way; the loader makes the floats
        transform = TrainAugmentation(image_size, dtype="uint8")
    if config.num_frames is None:
        return transform
    return ClipFrames(transform, config.num_frames)


def caption_reader(config: RunConfig, data: Pairs) -> CaptionReader:
    """Returns what reads the captions, where the configuration says they are.

    Args:
        config: the run.
        data: the pairs; a table has found its captions by itself.
    """
    if config.caption_key is None or isinstance(data, PairTable):
        return CaptionReader()
    return CaptionReader(config.caption_key)


def patch_arrays(
    config: RunConfig, image_size: int
) -> Callable[[int, np.random.Generator], dict[str, np.ndarray]]:
    """Returns what draws the masks or kept patches of a batch, by its rows."""
    side = image_size // config.vision["patch_size"]
    masked = 0
    if config.mask_weight:
        # Here: a process that makes batches knows no devices.
        masked = masked_rows(
            config.batch_size, config.mask_every, config.image_chunk_size
        )

    def draw(rows: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        arrays = {}
        if config.mask_weight:
            arrays["masked_patches"] = masked_patches(
                masked,
                (side, side),
                config.mask_ratio,
                rng,
                config.mask_block,
            )
        if config.keep_patches < 1.0:
            arrays["kept_patches"] = kept_patches(
                rows, side * side, config.keep_patches, rng
            )
        return arrays

    return draw


# === The look at their validation ===
def check_validation(
    data: str,
    results: str | None = None,
    allow_anomalies: bool | Collection[str] = False,
) -> None:
    """Refuses shards that did not pass `recipes/validate_data.py`.

    Args:
        data: pattern of the shards.
        results: where the results of the validation are; None for `validation` in the
            folder of the shards, where it is no error if there are none.
        allow_anomalies: True to train on data with anomalies all the same; or the names
            of features whose anomalies are accepted.

    Raises:
        DataValidationError: for anomalies, or if the results are of other shards.
    """
    paths = expand_paths(data)
    folder = results or _beside(paths[0])
    if results is None and not _exists(f"{folder}/{ANOMALIES_FILE}"):
        say = _log.info if host_position()[0] else _log.warning
        say(
            "No results of data validation in %s: training goes on without. To look at "
            "the data first: uv run recipes/validate_data.py '%s' --output %s",
            folder,
            data,
            folder,
        )
        return
    accepted = check_data(folder, paths, allow_anomalies)
    for anomaly in accepted:
        _log.warning("Accepted anomaly of the data: %s", anomaly)
    _log.info(
        "The data passed validation with a schema of %d features, %d anomalies "
        "accepted: %s",
        len(read_schema(folder).feature),
        len(accepted),
        folder,
    )


def _beside(path: str) -> str:
    """Returns `validation` in the folder of a shard."""
    folder = path.replace("\\", "/").rpartition("/")[0]
    return f"{folder}/validation" if folder or path.startswith("/") else "validation"


def _exists(path: str) -> bool:
    try:
        open_shard_file(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
