"""The batches and the validation scores of `recipes.contrastive`."""

import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_pe import PECore, PETokenizer
from keras_pe.training.distribution import host_position, local_rows
from keras_pe.training.patch_sampling import kept_patches, masked_patches
from keras_pe.training.resolution import PlannedStage
from recipes.contrastive_configs import Config
from recipes.emoji_pairs import AUGMENTATIONS, Drawings, EmojiBatches, Tokenize
from recipes.emoji_scores import ValidationScores
from recipes.retrieval_scores import RetrievalScores
from recipes.shard_batches import describe_shards, shard_batches


def extra_arrays(
    config: Config, image_size: int
) -> Callable[[int, np.random.Generator], dict[str, np.ndarray]]:
    """Returns what draws the masks or kept patches of a batch, by its rows."""
    side = image_size // config.vision["patch_size"]

    def draw(rows: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        found = {}
        if config.mask_weight:
            found["masked_patches"] = masked_patches(
                rows // config.mask_every,
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
) -> Callable[[PlannedStage, int, int], Iterable[Any]]:
    """Returns what makes the batches of a stage: from (stage, first, count)."""
    if config.dataset == "emoji":
        splits = ["train"]
        if any(Path(data).glob("extra_train-*.tar")):
            splits.append("extra_train")
        drawings = Drawings(Path(data), splits, leave_out)

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
    return shard_batches(
        config, data, tokenizer, workers, functools.partial(extra_arrays, config)
    )


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
        return RetrievalScores(validation_data, model, tokenizer)
    return None


def describe_data(config: Config, data: str) -> dict[str, Any]:
    """Returns what a run's configuration says of its data."""
    return {} if config.dataset == "emoji" else describe_shards(data)
