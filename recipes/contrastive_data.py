"""The batches and the validation scores of `recipes.contrastive`."""

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_pe import PECore, PETokenizer
from keras_pe.data.tar_shards import joined_digest
from keras_pe.training.devices.distribution import host_position, local_rows
from keras_pe.training.resolution import PlannedStage
from keras_pe.training.stages.patch_sampling import kept_patches, masked_patches
from recipes.contrastive_configs import Config
from recipes.emoji_data.shards import shard_paths
from recipes.emoji_pairs import AUGMENTATIONS, Drawings, EmojiBatches, Tokenize
from recipes.emoji_scores import ValidationScores
from recipes.mask_rows import masked_rows
from recipes.retrieval_scores import RetrievalScores
from recipes.shard_batches import (
    START_TIMEOUT,
    caption_reader,
    describe_shards,
    shard_batches,
)


def extra_arrays(
    config: Config, image_size: int
) -> Callable[[int, np.random.Generator], dict[str, np.ndarray]]:
    """Returns what draws the masks or kept patches of a batch, by its rows."""
    side = image_size // config.vision["patch_size"]
    # Here: a process that makes batches knows no devices.
    masked = masked_rows(config, config.batch_size) if config.mask_weight else 0

    def draw(rows: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        found = {}
        if config.mask_weight:
            found["masked_patches"] = masked_patches(
                masked,
                (side, side),
                config.mask_ratio,
                rng,
                config.mask_block,
            )
        if config.keep_patches < 1.0:
            found["kept_patches"] = kept_patches(
                rows, side * side, config.keep_patches, rng
            )
        return found

    return draw


class Batches:
    """A range of batches that starts anew whenever it is iterated over."""

    def __init__(self, batch: Callable[[int], Any], first: int, count: int) -> None:
        self.batch, self.first, self.count = batch, first, count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Any]:
        for number in range(self.first, self.first + self.count):
            yield (self.batch(number),)


def make_batches(
    config: Config,
    data: str,
    tokenizer: Tokenize,
    leave_out: tuple[str, ...] = (),
    workers: int = 0,
    start_timeout: float = START_TIMEOUT,
) -> Callable[[PlannedStage, int, int], Iterable[Any]]:
    """Returns what makes the batches of a stage: from (stage, first, count)."""
    if config.dataset == "emoji":
        drawings = Drawings(Path(data), emoji_splits(Path(data)), leave_out)

        def emoji(stage: PlannedStage, first: int, count: int) -> Iterable[Any]:
            batch = EmojiBatches(
                drawings,
                tokenizer,
                config.batch_size,
                stage.image_size,
                config.seed,
                augmentation=AUGMENTATIONS[config.augmentation]
                if config.augment
                else None,
                masks=extra_arrays(config, stage.image_size),
                # Nothing is compiled for a shape under PyTorch.
                fixed_length=keras.backend.backend() != "torch",
            )
            # Every process makes the whole batch and trains on its part.
            position = host_position()
            return Batches(lambda i: local_rows(batch(i), *position), first, count)

        return emoji
    draw_arrays = functools.partial(extra_arrays, config)
    return shard_batches(config, data, tokenizer, workers, draw_arrays, start_timeout)


def validation_scores(
    config: Config,
    data: str,
    validation_data: str | None,
    model: PECore,
    tokenizer: PETokenizer,
) -> Callable[[], dict[str, float]] | None:
    """Returns what scores the model during training, or None."""
    if config.dataset == "emoji":
        return ValidationScores(Path(data), model, tokenizer)
    if validation_data is not None:
        return RetrievalScores(
            validation_data,
            model,
            tokenizer,
            captions=caption_reader(config),
            max_bad_share=config.max_bad_share,
        )
    return None


def describe_data(config: Config, data: str) -> dict[str, Any]:
    """Returns what a run's configuration says of its data, wherever they lie."""
    if config.dataset != "emoji":
        return describe_shards(data)
    paths = [
        path for split in emoji_splits(Path(data)) for path in shard_paths(data, split)
    ]
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    names = [path.name for path in paths]
    return {"data": {"shards": names, "digest": joined_digest(digests)}}


def emoji_splits(data: Path) -> list[str]:
    """Returns the splits of emoji and other drawings that are trained on."""
    extra = ["extra_train"] if any(data.glob("extra_train-*.tar")) else []
    return ["train", *extra]
