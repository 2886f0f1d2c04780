"""Alignment from a configuration to results: what its recipes run."""

import dataclasses
from importlib.util import find_spec
from typing import Any, Protocol

import keras

from keras_pe.models.aligned import PESpatial
from keras_pe.preprocessing.image import PEImageConverter
from keras_pe.training.devices.setup import check_layout
from keras_pe.training.run.overrides import SettingError
from keras_pe.training.run.spatial_config import (
    SpatialConfig,
    build_spatial_trainer,
    check_spatial,
    sam_preset,
    unallocated_trainer,
)
from keras_pe.training.run.train import RunOptions, RunParts, run_trainer
from keras_pe.training.run.training_run import Evaluate, MakeBatches
from keras_pe.training.trainers.base import BaseTrainer
from keras_pe.training.trainers.spatial_trainer import SpatialAlignmentTrainer


class SpatialData(Protocol):
    """What spatial alignment is trained on and scored by."""

    def describe(self) -> dict[str, Any]:
        """Returns what a run's configuration says of it, wherever it lies."""

    def batches(self, config: SpatialConfig, patch_size: int) -> MakeBatches:
        """Returns what makes the batches of a stage: from (stage, first, count)."""

    def mask_teachers(self, config: SpatialConfig) -> tuple[keras.Model, ...]:
        """Returns the frozen models that the batches ask for masks."""

    def scores(self, config: SpatialConfig, model: PESpatial) -> Evaluate | None:
        """Returns what scores the encoder during training, or None."""


def check_alignment(config: SpatialConfig) -> None:
    """Refuses an alignment that can't run, here.

    Raises:
        SettingError: as `check_spatial` does; if SAM is to teach without KerasHub.
    """
    check_spatial(config)
    if sam_preset(config) is not None and find_spec("keras_hub") is None:
        raise SettingError(
            f"mask_teacher={config.mask_teacher}: SAM comes from KerasHub, which is "
            f"not installed: pip install keras-hub. Or --set mask_teacher=teacher."
        )


def align_spatial(
    config: SpatialConfig, data: SpatialData, options: RunOptions
) -> PESpatial:
    """Aligns an encoder and leaves weights, logs and curves in a directory.

    Args:
        config: the run.
        data: what it is trained on and scored by.
        options: where it goes; `initial_weights` is the configuration's `encoder`.

    Returns:
        The aligned encoder.

    Raises:
        ValueError: if the configuration can't run, or the directory holds another run.
    """
    check_alignment(config)

    def make_trainer() -> SpatialAlignmentTrainer:
        trainer = build_spatial_trainer(config)
        check_layout(trainer)
        return trainer

    def parts(trainer: BaseTrainer) -> RunParts:
        model = trainer.model
        converter = PEImageConverter(model.image_size)
        return RunParts(
            data.batches(config, model.patch_size),
            data.scores(config, model),
            {"image_converter": converter},
            data.mask_teachers(config),
        )

    def untrained_variables() -> list[Any]:
        variables: list[Any] = unallocated_trainer(config).variables
        return variables

    configuration = {**dataclasses.asdict(config), **data.describe()}
    model: PESpatial = run_trainer(
        config, untrained_variables, make_trainer, parts, options, configuration
    )
    return model
