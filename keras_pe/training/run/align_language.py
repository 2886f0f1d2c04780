"""Language alignment from a configuration to results: what its recipe runs."""

import dataclasses
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from keras_pe.language.prompts import Prompt
from keras_pe.language.vision_language_model import VisionLanguageModel
from keras_pe.training.devices.setup import check_layout
from keras_pe.training.run.language_config import (
    LanguageConfig,
    LanguageParts,
    build_language_trainer,
    check_language,
    gguf_path,
    hub_preset,
    unallocated_trainer,
)
from keras_pe.training.run.overrides import SettingError
from keras_pe.training.run.train import RunOptions, RunParts, run_trainer
from keras_pe.training.run.training_run import Evaluate, MakeBatches
from keras_pe.training.trainers.base import BaseTrainer
from keras_pe.training.trainers.language_trainer import LanguageAlignmentTrainer


class LanguageData(Protocol):
    """What language alignment is trained on and scored by."""

    def describe(self) -> dict[str, Any]:
        """Returns what a run's configuration says of it, wherever it lies."""

    def batches(self, config: LanguageConfig, prompt: Prompt) -> MakeBatches:
        """Returns what makes the batches of a stage: from (stage, first, count)."""

    def scores(
        self, config: LanguageConfig, model: VisionLanguageModel
    ) -> Evaluate | None:
        """Returns what scores the model during training, or None."""


def check_alignment(config: LanguageConfig) -> None:
    """Refuses an alignment that can't run, here.

    Raises:
        SettingError: as `check_language` does; if the decoder is KerasHub's, which has
            a template of its own for questions, or a file that can't be read here.
    """
    check_language(config)
    if hub_preset(config) is not None:
        raise SettingError(
            f"decoder={config.decoder}: presets of KerasHub are planned (--plan), and "
            f"trained by LanguageAlignmentTrainer in Python, with rows of their own "
            f"template. A run asks small ones and GGUF files: --set decoder=small."
        )
    path = gguf_path(config)
    if path is not None:
        missing = [name for name in ("gguf", "keras_hub") if find_spec(name) is None]
        if missing:
            raise SettingError(
                f"decoder={config.decoder}: GGUF files need {' and '.join(missing)}: "
                f"pip install 'keras-pe[gguf]' keras-hub. Or --set decoder=small."
            )
        if not Path(path).expanduser().is_file():
            raise SettingError(f"decoder={config.decoder}: there is no file {path}.")


def align_language(
    config: LanguageConfig, data: LanguageData, options: RunOptions
) -> VisionLanguageModel:
    """Aligns an encoder and leaves weights, logs and curves in a directory.

    Args:
        config: the run.
        data: what it is trained on and scored by.
        options: where it goes; `initial_weights` is the configuration's `encoder`.

    Returns:
        The aligned encoder with its projector and decoder.

    Raises:
        ValueError: if the configuration can't run, or the directory holds another run.
    """
    check_alignment(config)
    built: list[LanguageParts] = []

    def make_trainer() -> LanguageAlignmentTrainer:
        built.append(build_language_trainer(config))
        trainer = built[0].trainer
        check_layout(trainer)
        return trainer

    def parts(trainer: BaseTrainer) -> RunParts:
        model = built[0].model
        return RunParts(
            data.batches(config, model.prompt),
            data.scores(config, model),
            {},
            (),
            model,
        )

    def untrained_variables() -> list[Any]:
        variables: list[Any] = unallocated_trainer(config).variables
        return variables

    configuration = {**dataclasses.asdict(config), **data.describe()}
    run_trainer(
        config, untrained_variables, make_trainer, parts, options, configuration
    )
    return built[0].model
