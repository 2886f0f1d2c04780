"""Language alignment from a configuration to results: what its recipe runs."""

import dataclasses
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from keras_pe.language.foreign import HUB
from keras_pe.language.kerashub_preset import save_hub_decoder
from keras_pe.language.prompts import Prompt
from keras_pe.language.stored_prompt import prompt_identity
from keras_pe.language.vision_language_model import VisionLanguageModel
from keras_pe.training.devices.setup import check_layout
from keras_pe.training.run.hub_decoders import check_hub_decoder
from keras_pe.training.run.language_config import (
    SMALL,
    LanguageConfig,
    check_language,
    gguf_path,
    hub_preset,
)
from keras_pe.training.run.language_parts import (
    LanguageParts,
    build_language_trainer,
    unallocated_trainer,
)
from keras_pe.training.run.overrides import SettingError
from keras_pe.training.run.train import RunOptions, RunParts, run_trainer
from keras_pe.training.run.training_run import Evaluate, MakeBatches
from keras_pe.training.trainers.base import BaseTrainer
from keras_pe.training.trainers.language_trainer import LanguageAlignmentTrainer

DECODER = "decoder"  # folder of a run, for a foreign one that was trained


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
        SettingError: as `check_language` does; if the decoder is one of KerasHub's that
            can't be had or asked, or a file that can't be read here.
    """
    check_language(config)
    preset, path = hub_preset(config), gguf_path(config)
    if preset is not None:
        check_hub_decoder(preset, asked=config.start is None)
    if path is not None:
        missing = [name for name in ("gguf", "keras_hub") if find_spec(name) is None]
        if missing:
            raise SettingError(
                f"decoder={config.decoder}: GGUF files need {' and '.join(missing)}: "
                f"pip install 'keras-pe[gguf]' keras-hub. Or --set decoder=small."
            )
        if not Path(path).expanduser().is_file():
            raise SettingError(f"decoder={config.decoder}: there is no file {path}.")


class LanguageResult:
    """What a run leaves: a preset, and the language model if it is not in there.

    Args:
        config: the run.
        model: that was trained.
    """

    def __init__(self, config: LanguageConfig, model: VisionLanguageModel) -> None:
        self.config, self.model = config, model

    def save_to_preset(self, directory: Path) -> None:
        """Writes the preset; a foreign decoder that was trained beside it, `decoder`.

        The preset notes by which name the decoder is to be loaded.
        """
        config, decoder = self.config, self.model.decoder
        handle = None if config.decoder == SMALL else config.decoder
        if handle is not None and config.train_decoder:
            beside = directory.with_name(DECODER)
            save_hub_decoder(decoder, beside, hub_preset(config))
            handle = f"{HUB}{beside}"
        self.model.save_to_preset(directory, decoder_handle=handle)


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

    Example:
        >>> import io
        >>> from PIL import Image
        >>> from keras_pe.data import Question, question_member, write_question_shards
        >>> samples = []
        >>> for number, colour in enumerate(("red", "green", "blue", "white")):
        ...     file = io.BytesIO()
        ...     Image.new("RGB", (64, 64), colour).save(file, "PNG")
        ...     asked = [Question("Which colour?", colour, "colour")]
        ...     samples.append({"__key__": str(number), "png": file.getvalue(),
        ...         "json": question_member(asked)})
        >>> shards = write_question_shards("questions", "train", samples)
        >>> from keras_pe.training import QuestionData, ResolutionStage
        >>> config = LanguageConfig(encoder="pe_core_emoji_small_patch8_64",
        ...     stages=(ResolutionStage(64, 8),), batch_size=4, warmup_steps=1,
        ...     pooling=4, decoder_dim=16, decoder_layers=1, row_length=64)
        >>> options = RunOptions(Path("aligned"), progress=False)
        >>> model = align_language(config, QuestionData("questions"), options)
        >>> picture = Image.new("RGB", (64, 64))
        >>> isinstance(model.generate(picture, "Which colour?", max_tokens=2), str)
        True
    """
    check_alignment(config)
    built: list[LanguageParts] = []
    configuration = {**dataclasses.asdict(config), **data.describe()}

    def make_trainer() -> LanguageAlignmentTrainer:
        built.append(build_language_trainer(config))
        trainer, model = built[0]
        check_layout(trainer)
        if hub_preset(config) is not None:  # what lies there may be another one later
            configuration["prompt"] = prompt_identity(model.prompt)
        return trainer

    def parts(trainer: BaseTrainer) -> RunParts:
        model = built[0].model
        return RunParts(
            data.batches(config, model.prompt),
            data.scores(config, model),
            {},
            (),
            LanguageResult(config, model),
        )

    def untrained_variables() -> list[Any]:
        variables: list[Any] = unallocated_trainer(config).variables
        return variables

    run_trainer(
        config, untrained_variables, make_trainer, parts, options, configuration
    )
    return built[0].model
