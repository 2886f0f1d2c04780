"""Images alone as what a run of alignment is trained on."""

from typing import Any

import numpy as np

from keras_pe.data import ShuffledOrder, SkippedSamples, TrainAugmentation
from keras_pe.data.augmentation import WholeImage
from keras_pe.data.image_text import image_text_dataset
from keras_pe.data.tar_shards import open_shards
from keras_pe.models.aligned import PESpatial
from keras_pe.training.devices.distribution import host_position
from keras_pe.training.resolution import PlannedStage
from keras_pe.training.run.overrides import SettingError
from keras_pe.training.run.shard_data import START_TIMEOUT, ShardBatches, ShardData
from keras_pe.training.run.spatial_config import MASKS, SpatialConfig
from keras_pe.training.run.training_run import Evaluate, MakeBatches
from keras_pe.training.trainers.patch_masking import masked_patches


class ImageData:
    """Tar shards, or ArrayRecord files, of which the images alone are read.

    Args:
        data: as of `ShardData`.
        workers: as of `ShardData`.
        start_timeout: as of `ShardData`.

    Raises:
        ValueError: as of `ShardData`.
    """

    def __init__(
        self, data: str, workers: int = 0, start_timeout: float = START_TIMEOUT
    ) -> None:
        self.shards = ShardData(data, None, workers, start_timeout)

    def describe(self) -> dict[str, Any]:
        """Returns what a run's configuration says of them, wherever they lie."""
        return self.shards.describe()

    def batches(self, config: SpatialConfig, patch_size: int) -> MakeBatches:
        """Returns what makes the batches of a stage: from (stage, first, count).

        Raises:
            SettingError: if masks are asked of samples that have none.
        """
        if config.mask_teacher == MASKS:
            raise SettingError(
                "These samples have no masks: --set mask_teacher=teacher for the "
                "teacher's own tokens, or none."
            )
        source = open_shards(self.shards.data)
        host_index, host_count = host_position()
        skip_report = SkippedSamples(config.max_bad_share)

        def make(stage: PlannedStage, first: int, count: int) -> ShardBatches:
            dataset = image_text_dataset(
                source,
                ShuffledOrder(len(source), config.batch_size, config.seed),
                # No crops: table 21 has none. The aspect varies within the image.
                transform=TrainAugmentation(
                    stage.image_size, scale=(0.75, 1.0), dtype="uint8"
                )
                if config.augment
                else WholeImage(stage.image_size),
                tokenizer=_no_texts,
                captions=_no_caption,
                seed=config.seed,
                max_bad_share=config.max_bad_share,
                host_index=host_index,
                host_count=host_count,
                extras=hidden_patches(config, stage.image_size // patch_size),
            )
            workers, seconds = self.shards.workers, self.shards.start_timeout
            return ShardBatches(dataset, first, count, workers, skip_report, seconds)

        return make

    def scores(self, config: SpatialConfig, model: PESpatial) -> Evaluate | None:
        """Returns None: images alone say nothing of an encoder."""
        return None


def hidden_patches(config: SpatialConfig, side: int) -> Any:
    """Returns what draws the patches that the student does not see, by batch."""
    rows, ratio, block = config.batch_size, config.mask_ratio, config.mask_block

    def draw(number: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        if not ratio:
            return {"masked_patches": np.zeros((rows, side * side), bool)}
        masks = masked_patches(rows, (side, side), ratio, rng, block)
        return {"masked_patches": masks}

    return draw


def _no_texts(captions: list[str]) -> dict[str, np.ndarray]:
    return {}


def _no_caption(sample: Any, rng: np.random.Generator) -> str:
    return ""
