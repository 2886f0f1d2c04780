"""Drawings of emoji as what a run is trained on and scored by."""

import argparse
import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import keras

from keras_pe import PECore, PETokenizer
from keras_pe.data.shard_files import joined_digest
from keras_pe.training.devices.distribution import host_position, local_rows
from keras_pe.training.resolution import PlannedStage
from keras_pe.training.run.config import RunConfig
from keras_pe.training.run.shard_data import patch_arrays
from keras_pe.training.run.training_run import Evaluate, MakeBatches
from projects.emoji.configs import EmojiConfig
from projects.emoji.data.shards import shard_paths
from projects.emoji.pairs import AUGMENTATIONS, Drawings, EmojiBatches, Tokenize
from projects.emoji.validation_scores import ValidationScores


class Batches:
    """A range of batches that starts anew whenever it is iterated over."""

    def __init__(self, batch: Callable[[int], Any], first: int, count: int) -> None:
        self.batch, self.first, self.count = batch, first, count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Any]:
        for number in range(self.first, self.first + self.count):
            yield (self.batch(number),)


class DrawingsData:
    """The drawings that `projects.emoji.data.prepare` makes.

    Args:
        folder: where they are.
        leave_out: vendors to train without.
    """

    def __init__(self, folder: Path | str, leave_out: tuple[str, ...] = ()) -> None:
        self.folder, self.leave_out = Path(folder), leave_out

    def splits(self) -> list[str]:
        """Returns the splits of emoji and other drawings that are trained on."""
        extra = any(self.folder.glob("extra_train-*.tar"))
        return ["train", *(["extra_train"] if extra else [])]

    def describe(self) -> dict[str, Any]:
        """Returns what a run's configuration says of them, wherever they lie."""
        paths = [p for split in self.splits() for p in shard_paths(self.folder, split)]
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
        names = [path.name for path in paths]
        return {
            "leave_out": list(self.leave_out),
            "data": {"shards": names, "digest": joined_digest(digests)},
        }

    def batches(self, config: RunConfig, tokenizer: Tokenize) -> MakeBatches:
        """Returns what makes the batches of a stage: from (stage, first, count)."""
        assert isinstance(config, EmojiConfig)
        drawings = Drawings(self.folder, self.splits(), self.leave_out)
        how = AUGMENTATIONS[config.augmentation] if config.augment else None

        def make(stage: PlannedStage, first: int, count: int) -> Iterable[Any]:
            batch = EmojiBatches(
                drawings,
                tokenizer,
                config.batch_size,
                stage.image_size,
                config.seed,
                augmentation=how,
                masks=patch_arrays(config, stage.image_size),
                # Nothing is compiled for a shape under PyTorch.
                fixed_length=keras.backend.backend() != "torch",
            )
            # Every process makes the whole batch and trains on its part.
            position = host_position()
            return Batches(lambda i: local_rows(batch(i), *position), first, count)

        return make

    def scores(
        self, config: RunConfig, model: PECore, tokenizer: PETokenizer
    ) -> Evaluate | None:
        """Returns what scores the model on the validation drawings."""
        return ValidationScores(self.folder, model, tokenizer)


def add_drawings_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what says where the drawings are."""
    group = parser.add_argument_group("data")
    group.add_argument("--data", metavar="FOLDER", help="of the drawings")
    group.add_argument(
        "--leave-out",
        nargs="*",
        default=[],
        metavar="VENDOR",
        help="vendors to train without",
    )


def check_drawings(options: argparse.Namespace) -> None:
    """Refuses a folder without drawings.

    Raises:
        FileNotFoundError: saying how they are made.
    """
    if not any(Path(options.data).glob("train-*.tar")):
        raise FileNotFoundError(
            f"--data {options.data}: no emoji data (train-*.tar) are there. Make them "
            f"with python -m projects.emoji.data.prepare --output {options.data}."
        )


def drawings_data(options: argparse.Namespace) -> DrawingsData:
    """Returns the drawings of a command line."""
    return DrawingsData(options.data, tuple(options.leave_out))
