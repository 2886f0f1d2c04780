"""Images, and masks beside them, as what a run of alignment is trained on."""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from PIL import Image

from keras_pe.data import ShuffledOrder, SkippedSamples, TrainAugmentation
from keras_pe.data.augmentation import WholeImage
from keras_pe.data.image_text import image_text_dataset
from keras_pe.data.sample_masks import WithInstances
from keras_pe.data.shard_files import Sample
from keras_pe.data.tar_shards import open_shards
from keras_pe.files import FilePath
from keras_pe.models.aligned import PESpatial
from keras_pe.presets import CheckpointError
from keras_pe.training.devices.distribution import host_position
from keras_pe.training.resolution import PlannedStage
from keras_pe.training.run.overrides import SettingError
from keras_pe.training.run.shard_data import START_TIMEOUT, ShardBatches, ShardData
from keras_pe.training.run.spatial_config import MASKS, SpatialConfig, sam_preset
from keras_pe.training.run.training_run import Evaluate, MakeBatches
from keras_pe.training.teachers.cached import CachedTeacher, with_mask_rows
from keras_pe.training.teachers.sam import SamTeacher
from keras_pe.training.teachers.shapes import background_share, renumbered, shape_rows
from keras_pe.training.trainers.patch_masking import masked_patches


class ImageData:
    """Tar shards, or ArrayRecord files, of which images and masks are read.

    Masks of samples are instance maps: beside `0001.jpg` a PNG `0001.seg.png` of its
    size, see `keras_pe.data.sample_masks.instance_map`.

    Args:
        data: as of `ShardData`.
        workers: as of `ShardData`.
        start_timeout: as of `ShardData`.
        mask_cache: folder that keeps SAM's masks; None makes them anew each time.

    Raises:
        ValueError: as of `ShardData`.
    """

    def __init__(
        self,
        data: str,
        workers: int = 0,
        start_timeout: float = START_TIMEOUT,
        mask_cache: FilePath | None = None,
    ) -> None:
        self.data = data
        self.shards = ShardData(data, None, workers, start_timeout)
        self.mask_cache = mask_cache
        self._loaded: dict[Any, Any] = {}  # SAM, once

    def describe(self) -> dict[str, Any]:
        """Returns what a run's configuration says of them, wherever they lie."""
        return self.shards.describe()

    def batches(self, config: SpatialConfig, patch_size: int) -> MakeBatches:
        """Returns what makes the batches of a stage: from (stage, first, count).

        Raises:
            CheckpointError: if SAM's preset can't be loaded.
        """
        source = open_shards(self.data)
        host_index, host_count = host_position()
        skip_report = SkippedSamples(config.max_bad_share)
        teacher = self._mask_teacher(config)

        def make(stage: PlannedStage, first: int, count: int) -> Iterable[Any]:
            side = stage.image_size // patch_size
            # No crops: table 21 has none. The aspect varies within the image.
            transform: Any = (
                TrainAugmentation(stage.image_size, scale=(0.75, 1.0), dtype="uint8")
                if config.augment
                else WholeImage(stage.image_size)
            )
            if config.mask_teacher == MASKS:
                transform = WithMaskRows(transform, config, side)
            dataset = image_text_dataset(
                source,
                ShuffledOrder(len(source), config.batch_size, config.seed),
                transform=transform,
                tokenizer=_no_texts,
                captions=_no_caption,
                seed=config.seed,
                max_bad_share=config.max_bad_share,
                host_index=host_index,
                host_count=host_count,
                extras=hidden_patches(config, side),
            )
            workers, seconds = self.shards.workers, self.shards.start_timeout
            batches: Iterable[Any] = ShardBatches(
                dataset, first, count, workers, skip_report, seconds
            )
            if teacher is not None:
                batches = with_mask_rows(batches, teacher, patch_size)
            return batches

        return make

    def mask_teachers(self, config: SpatialConfig) -> tuple[keras.Model, ...]:
        """Returns SAM, if it teaches.

        Raises:
            CheckpointError: if its preset can't be loaded.
        """
        return tuple(getattr(self._mask_teacher(config), "models", ()))

    def _mask_teacher(self, config: SpatialConfig) -> Any:
        key = sam_preset(config), config.sam_points, config.sam_keep
        if key not in self._loaded:
            self._loaded[key] = sam_teacher(config, self.mask_cache)
        return self._loaded[key]

    def scores(self, config: SpatialConfig, model: PESpatial) -> Evaluate | None:
        """Returns None: images alone say nothing of an encoder."""
        return None


class WithMaskRows:
    """Makes an image's array and what its instance map says of each patch.

    Args:
        transform: of the image.
        config: the run.
        side: patches along a side of the result.
    """

    reads_sample = True

    def __init__(self, transform: Any, config: SpatialConfig, side: int) -> None:
        self.both = WithInstances(transform)
        self.decodes = self.both.decodes
        self.grid, self.most = (side, side), config.most_shapes
        self.background = config.background_weight != 1.0

    def __call__(
        self, image: Image.Image, rng: np.random.Generator, sample: Sample
    ) -> dict[str, np.ndarray]:
        """Returns `images`, `mask_rows` and, if its pairs count less, `background`."""
        arrays = self.both(image, rng, sample)
        numbers = renumbered(arrays.pop("instances"), self.most)
        arrays["mask_rows"] = shape_rows(numbers, self.grid, self.most)
        if self.background:
            arrays["background"] = background_share(numbers, self.grid)
        return arrays


def sam_teacher(config: SpatialConfig, cache: FilePath | None) -> Any:
    """Returns the SAM that a configuration names, None if none, with its cache.

    Raises:
        CheckpointError: if KerasHub can't load it.
        SettingError: if there is a cache and no SAM.
    """
    preset = sam_preset(config)
    if preset is None and cache is not None:
        raise SettingError(
            f"mask_teacher={config.mask_teacher}: SAM's masks alone are kept, got "
            f"{cache}. Leave out --mask-cache, or --set mask_teacher=sam:PRESET."
        )
    if preset is None:
        return None
    keep: Any = int(config.sam_keep) if config.sam_keep.isdigit() else config.sam_keep
    try:
        teacher = SamTeacher.from_preset(preset, points=config.sam_points, keep=keep)
    except Exception as error:  # KerasHub's, Kaggle's, of a file system
        raise CheckpointError(
            f"mask_teacher=sam:{preset}: KerasHub does not load it. Give a name of its "
            f"presets (sam_base_sa1b, sam_large_sa1b, sam_huge_sa1b) or a folder that "
            f"it saved. ({type(error).__name__}: {error})"
        ) from error
    return teacher if cache is None else CachedTeacher(teacher, cache)


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
