"""Pretraining and distillation, from a configuration to results: what recipes run."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import keras

from keras_pe.arrays import check_sizes
from keras_pe.data.image_text import Tokenizer
from keras_pe.models.core import PECore
from keras_pe.preprocessing.given_texts import check_tokenizer
from keras_pe.preprocessing.image import PEImageConverter
from keras_pe.preprocessing.tokenizer import PETokenizer
from keras_pe.presets.save import check_room
from keras_pe.training.devices.setup import (
    all_devices,
    check_layout,
    is_first_process,
)
from keras_pe.training.devices.sharding import whole_values
from keras_pe.training.resolution import plan_stages
from keras_pe.training.run.config import (
    DistillConfig,
    RunConfig,
    build_model,
    build_tokenizer,
    build_trainer,
    check_config,
    freeze,
)
from keras_pe.training.run.identity import completed
from keras_pe.training.run.initial_weights import (
    copy_spaced_blocks,
    load_initial_weights,
)
from keras_pe.training.run.log import draw_curves
from keras_pe.training.run.training_config import TrainingConfig, build_optimizer
from keras_pe.training.run.training_run import Evaluate, MakeBatches, TrainingRun
from keras_pe.training.trainers.base import BaseTrainer
from keras_pe.training.trainers.contrastive_trainer import ContrastiveTrainer
from keras_pe.training.trainers.distillation_trainer import DistillationTrainer


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Where a run goes, and what of it is no matter of its results.

    Attributes:
        output: directory for everything.
        resume: go on from the newest checkpoint there.
        extend: with it, the stages may be longer than those of the run so far.
        initial_weights: file or preset to start from; None starts from scratch.
        save_every: steps between checkpoints.
        evaluate_every: steps between evaluations.
        progress: whether a progress bar is shown.

    Raises:
        ValueError: if `save_every` or `evaluate_every` is below 1.

    Example:
        >>> RunOptions(Path("run"), save_every=50).resume
        False
    """

    output: Path
    resume: bool = False
    extend: bool = False
    initial_weights: str | None = None
    save_every: int = 100
    evaluate_every: int = 250
    progress: bool = True

    def __post_init__(self) -> None:
        check_sizes(save_every=self.save_every, evaluate_every=self.evaluate_every)


class RunData(Protocol):
    """What a run is trained on and scored by, such as `ShardData`."""

    def describe(self) -> dict[str, Any]:
        """Returns what a run's configuration says of it, wherever it lies."""

    def batches(self, config: RunConfig, tokenizer: Tokenizer) -> MakeBatches:
        """Returns what makes the batches of a stage: from (stage, first, count)."""

    def scores(
        self, config: RunConfig, model: PECore, tokenizer: PETokenizer
    ) -> Evaluate | None:
        """Returns what scores the model during training, or None."""


def pretrain(config: RunConfig, data: RunData, options: RunOptions) -> PECore:
    """Trains a model and leaves weights, logs and curves in a directory.

    Args:
        config: the run.
        data: what it is trained on and scored by.
        options: where it goes, and from which weights.

    Returns:
        The trained model.

    Raises:
        ValueError: if the configuration can't run, or the directory holds another run.

    Example:
        >>> from PIL import Image
        >>> from keras_pe.data import PairTable
        >>> from keras_pe.training import ResolutionStage, ShardData, small_towers
        >>> rows = ["path,caption"]
        >>> for colour in ("red", "green", "blue", "white"):
        ...     Image.new("RGB", (64, 64), colour).save(f"{colour}.png")
        ...     rows.append(f"{colour}.png,a {colour} wall")
        >>> _ = Path("pairs.csv").write_text("\\n".join(rows))
        >>> towers = small_towers(64, width=16, layers=1, text_layers=1)
        >>> config = RunConfig(**towers, stages=(ResolutionStage(64, 8),), batch_size=4,
        ...     warmup_steps=1, mask_weight=0.0)
        >>> options = RunOptions(Path("pretrained"), progress=False)
        >>> model = pretrain(config, ShardData(PairTable("pairs.csv")), options)
        >>> type(PECore.from_preset("pretrained/preset")).__name__
        'PECore'
    """

    def make_trainer() -> ContrastiveTrainer:
        model = build_model(config)
        if options.initial_weights is not None:
            load_initial_weights(model, options.initial_weights)
        freeze(model, config.freeze)
        trainer = build_trainer(config, model)
        check_layout(trainer)
        return trainer

    return run_pairs(config, make_trainer, data, options)


class BothTokenizers:
    """Makes a student's and a teacher's token ids of the same captions."""

    def __init__(self, student: PETokenizer, teacher: PETokenizer) -> None:
        self.student, self.teacher = student, teacher

    def __call__(self, captions: list[str]) -> dict[str, Any]:
        return {
            "token_ids": self.student(captions),
            "teacher_token_ids": self.teacher(captions),
        }


def distill(config: DistillConfig, data: RunData, options: RunOptions) -> PECore:
    """Distils a student; arguments and output as of `pretrain`.

    Example:
        >>> from PIL import Image
        >>> from keras_pe.data import PairTable
        >>> from keras_pe.training import ResolutionStage, ShardData, small_towers
        >>> rows = ["path,caption"]
        >>> for colour in ("red", "green", "blue", "white"):
        ...     Image.new("RGB", (64, 64), colour).save(f"{colour}.png")
        ...     rows.append(f"{colour}.png,a {colour} wall")
        >>> _ = Path("pairs.csv").write_text("\\n".join(rows))
        >>> towers = small_towers(64, width=16, layers=1, text_layers=1)
        >>> config = RunConfig(**towers, stages=(ResolutionStage(64, 8),), batch_size=4,
        ...     warmup_steps=1, mask_weight=0.0)
        >>> config = DistillConfig(config, "pe_core_emoji_small_patch8_64")
        >>> options = RunOptions(Path("distilled"), progress=False)
        >>> student = distill(config, ShardData(PairTable("pairs.csv")), options)
        >>> student.vision_encoder.num_layers
        1
    """
    of_student = config.student
    teacher = PETokenizer.from_preset(config.teacher)
    captions = BothTokenizers(build_tokenizer(of_student), teacher)

    def make_trainer() -> DistillationTrainer:
        teacher = PECore.from_preset(config.teacher, dtype=of_student.precision)
        check_tokenizer(captions.teacher, teacher)
        student = build_model(of_student)
        if options.initial_weights is not None:
            load_initial_weights(student, options.initial_weights)
        elif config.start == "blocks":
            copy_spaced_blocks(teacher, student)
        freeze(student, of_student.freeze)
        trainer = DistillationTrainer(
            student,
            teacher,
            teacher_logit_scale=config.teacher_logit_scale,
            image_size=student.vision_encoder.image_size,
            image_chunk_size=of_student.image_chunk_size,
            text_chunk_size=of_student.text_chunk_size,
            loss_chunk_size=of_student.loss_chunk_size,
        )
        trainer.compile(optimizer=build_optimizer(of_student))
        check_layout(trainer)
        return trainer

    settings = dataclasses.asdict(config)
    return run_pairs(of_student, make_trainer, data, options, settings, captions)


def run_pairs(
    config: RunConfig,
    make_trainer: Callable[[], BaseTrainer],
    data: RunData,
    options: RunOptions,
    settings: dict[str, Any] | None = None,
    captions: Tokenizer | None = None,
) -> PECore:
    """Trains what reads images and their captions; see `run_trainer`.

    Args:
        config: the run.
        make_trainer: as of `run_trainer`.
        data: what it is trained on and scored by.
        options: where it goes.
        settings: all that decides the run; None for `config`.
        captions: makes the token ids of a batch's captions; None for the tokenizer
            that fits the text tower.

    Returns:
        The trained model.

    Raises:
        ValueError: if the configuration can't run, or the directory holds another run.
    """
    check_config(config)
    scorers: list[Evaluate | None] = []

    def parts(trainer: BaseTrainer) -> RunParts:
        model, tokenizer = trainer.model, build_tokenizer(config)
        check_tokenizer(tokenizer, model)
        converter = PEImageConverter(model.vision_encoder.image_size)
        # Who loads the preset is told of texts that are cut.
        kept = PETokenizer(tokenizer.context_length, tokenizer.vocabulary_size)
        scorers.append(data.scores(config, model, tokenizer))
        return RunParts(
            data.batches(config, captions or tokenizer),
            scorers[0],
            {"tokenizer": kept, "image_converter": converter},
        )

    configuration = {**(settings or dataclasses.asdict(config)), **data.describe()}
    variables = functools.partial(_untrained_variables, config)
    model: PECore = run_trainer(
        config, variables, make_trainer, parts, options, configuration
    )
    table = getattr(scorers[0], "table", None)  # that of clips has more to show
    if table is not None and is_first_process() and (shown := table()):
        print(shown)
    return model


def _untrained_variables(config: RunConfig) -> list[Any]:
    variables: list[Any] = build_model(config).variables
    return variables


class RunParts(NamedTuple):
    """What a run needs beside its trainer.

    Attributes:
        batches: makes the batches of a stage: from (stage, first, count).
        evaluate: scores the model during training, or None.
        preset: what is written into the preset beside the model.
        mask_teachers: frozen models that the batches ask: others, another run.
        result: what is written at the end; None for the trainer's model.
    """

    batches: MakeBatches
    evaluate: Evaluate | None
    preset: dict[str, Any]
    mask_teachers: tuple[keras.Model, ...] = ()
    result: Any = None


def run_trainer(
    config: TrainingConfig,
    make_variables: Callable[[], list[Any]],
    make_trainer: Callable[[], BaseTrainer],
    make_parts: Callable[[BaseTrainer], RunParts],
    options: RunOptions,
    configuration: dict[str, Any],
) -> Any:
    """Trains what every recipe trains: devices, seed, trainer, run, results.

    Args:
        config: the run, which has been checked.
        make_variables: makes those of an untrained model, by whose shapes weights are
            cut over devices.
        make_trainer: makes the compiled trainer; called where the devices are, after
            the seed was set.
        make_parts: makes data and scores, once the trainer is there.
        options: where it goes.
        configuration: all that decides the run, compared when it is resumed.

    Returns:
        The trained model.

    Raises:
        ValueError: if the directory holds another run.
    """
    with all_devices(config.sharding, make_variables):
        keras.utils.set_random_seed(config.seed)
        trainer = make_trainer()
        parts = make_parts(trainer)
        run = TrainingRun(
            trainer,
            options.output,
            plan_stages(config.stages, config.batch_size),
            config.batch_size,
            parts.batches,
            configuration={
                **configuration,
                "initial_weights": options.initial_weights,
            },
            save_every=options.save_every,
            evaluate=parts.evaluate,
            evaluate_every=options.evaluate_every,
            progress=options.progress,
            complete=completed,
            mask_teachers=parts.mask_teachers,
        )
        run.train(options.resume, options.extend)
        result = trainer.model if parts.result is None else parts.result
        finish_run(trainer, options.output, parts.preset, result)
        return result


def finish_run(
    trainer: BaseTrainer, output: Path, preset: Mapping[str, Any], result: Any
) -> None:
    """Writes `model.weights.h5`, `preset` and `curves.png`, from one process alone.

    Weights that are cut over devices are put together first. A stop in the middle
    leaves no half-written file of these names.

    Args:
        trainer: has trained its model.
        output: directory of the run.
        preset: what is written into the preset beside the result.
        result: the model, or what has it and more, which is written as the preset.
    """
    with whole_values(trainer.variables):
        if is_first_process():
            check_room(trainer.model, output)
            aside = output / "aside.weights.h5"
            trainer.model.save_weights(aside)
            aside.replace(output / "model.weights.h5")
            result.save_to_preset(output / "preset", **preset)
            draw_curves(output)
