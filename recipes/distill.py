"""Distillation: a small Perception Encoder from a large one.

Run:      python -m recipes.distill --config emoji --data data/emoji \\
              --output runs/emoji-distilled
Go on:    the same with --resume.
Expect:   what `recipes.contrastive` leaves, of the student.

The student learns how the teacher ranks the pictures and texts of each batch: the KL
divergence of two softmaxes, the teacher's with a fixed scale of 200. Any preset can
teach: --teacher takes a name, a directory or a handle. The paper starts from a student
that has been pretrained (--initial-weights) and so needs a learning rate of 1e-6 only;
the emoji student starts as every other vision block of its teacher, with the whole
text tower.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any, Literal

# Before Keras: takes a backend that is installed.
from keras_pe import PECore, PETokenizer

# isort: split
import keras

from keras_pe.preprocessing.tokenizer_check import check_tokenizer
from keras_pe.training.resolution import plan_stages
from keras_pe.training.run.training_run import TrainingRun
from keras_pe.training.stages.distillation import DistillationTrainer
from recipes.config_checks import check_config
from recipes.contrastive import (
    build_model,
    build_optimizer,
    build_tokenizer,
    freeze,
)
from recipes.contrastive_configs import Config, paper, small_towers, stages_of
from recipes.contrastive_data import (
    describe_data,
    make_batches,
    validation_scores,
)
from recipes.finished_run import finish_run
from recipes.initial_weights import copy_spaced_blocks, load_initial_weights
from recipes.many_devices import all_devices
from recipes.older_runs import completed
from recipes.run_options import (
    AFTER_STOP,
    OF_A_RUN,
    add_config,
    add_overrides,
    add_run_arguments,
    flag_settings,
    print_settings,
    said_plainly,
    start_run,
    with_samples,
    with_weights_architecture,
)
from recipes.settings import with_settings
from recipes.shard_batches import START_TIMEOUT


@dataclasses.dataclass(frozen=True)
class DistillConfig:
    """A student's run and who teaches it.

    Attributes:
        student: towers, stages, optimizer and data. The picture size of the stages is
            the teacher's; the student's own is that of its tower.
        teacher: preset name, directory or handle.
        teacher_logit_scale: factor of the teacher's cosines.
        start: "scratch", or "blocks": weights of the teacher's blocks, at even
            distances; the student is then as wide as the teacher.
    """

    student: Config
    teacher: str
    teacher_logit_scale: float = 200.0
    start: Literal["scratch", "blocks"] = "scratch"


def paper_student(name: str, teacher_size: int = 448) -> DistillConfig:
    """Returns the paper's distillation from G (table 20): one resolution, no crops."""
    steps, batch_size = 269_000, 16_384
    student = dataclasses.replace(
        paper(name, steps, (teacher_size,), learning_rate=1e-6, remat=True),
        stages=stages_of(steps * batch_size, (teacher_size,), (1,)),
        batch_size=batch_size,
        augment=False,
        mask_weight=0.0,
    )
    return DistillConfig(student, "pe_core_gigantic_patch14_448")


CONFIGS: dict[str, DistillConfig] = {
    "emoji": DistillConfig(
        Config(
            **small_towers(64, width=192, layers=3, text_layers=4),
            stages=stages_of(512_000, (64,), (1,)),
            batch_size=256,
            dataset="emoji",
            augmentation="strong",
            optimizer="adamw",
            learning_rate=1e-3,
            beta_2=0.98,
            schedule="linear",
            warmup_steps=100,
            gradient_clip=1.0,
            mask_weight=0.0,
        ),
        teacher="pe_core_emoji_patch8_64",
        start="blocks",
    ),
    "smoke": DistillConfig(
        Config(
            **small_towers(64, width=32, layers=2, text_layers=1),
            stages=stages_of(96, (64,), (1,)),
            batch_size=32,
            dataset="emoji",
            warmup_steps=2,
            mask_weight=0.0,
        ),
        teacher="pe_core_emoji_patch8_64",
    ),
    "paper-b16": paper_student("PE-Core-B16-224"),
    "paper-l14": paper_student("PE-Core-L14-336"),
}


class BothTokenizers:
    """Makes a student's and a teacher's token ids of the same captions."""

    def __init__(self, student: PETokenizer, teacher: PETokenizer) -> None:
        self.student, self.teacher = student, teacher

    def __call__(self, captions: list[str]) -> dict[str, Any]:
        return {
            "token_ids": self.student(captions),
            "teacher_token_ids": self.teacher(captions),
        }


def train(
    config: DistillConfig,
    data: str,
    output: Path,
    resume: bool = False,
    extend: bool = False,
    validation_data: str | None = None,
    leave_out: tuple[str, ...] = (),
    initial_weights: str | None = None,
    workers: int = 0,
    start_timeout: float = START_TIMEOUT,
    save_every: int = 100,
    evaluate_every: int = 250,
    progress: bool = True,
) -> PECore:
    """Distils a student; arguments and output as in `recipes.contrastive.train`."""
    of_student = config.student
    check_config(of_student)
    with all_devices(of_student.sharding, lambda: build_model(of_student).variables):
        keras.utils.set_random_seed(of_student.seed)
        teacher = PECore.from_preset(config.teacher, dtype=of_student.precision)
        student = build_model(of_student)
        if initial_weights is not None:
            load_initial_weights(student, initial_weights)
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
        tokenizer = build_tokenizer(of_student)
        both = BothTokenizers(tokenizer, PETokenizer.from_preset(config.teacher))
        check_tokenizer(both.student, student)
        check_tokenizer(both.teacher, teacher)
        run = TrainingRun(
            trainer,
            output,
            plan_stages(of_student.stages, of_student.batch_size),
            of_student.batch_size,
            make_batches(of_student, data, both, leave_out, workers, start_timeout),
            configuration={
                **dataclasses.asdict(config),
                "leave_out": list(leave_out),
                "initial_weights": initial_weights,
                **describe_data(of_student, data),
            },
            save_every=save_every,
            evaluate=validation_scores(
                of_student, data, validation_data, student, tokenizer
            ),
            evaluate_every=evaluate_every,
            progress=progress,
            complete=completed,
        )
        run.train(resume, extend)
        finish_run(student, output, tokenizer)
        return student


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.distill",
        usage="%(prog)s --config NAME --data DATA --output FOLDER [options]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config(parser, CONFIGS)
    parser.add_argument(
        "--teacher", metavar="PRESET", help="in the place of the configuration's"
    )
    add_run_arguments(parser)
    add_overrides(parser)
    return parser.parse_args(arguments)


def configured(config: DistillConfig, options: argparse.Namespace) -> DistillConfig:
    """Returns a configuration with what the command line changes.

    The student's settings need no prefix: `batch_size` is `student.batch_size`.
    """
    student = with_weights_architecture(config.student, options)
    own = {field.name for field in dataclasses.fields(config)}
    flags = [] if options.teacher is None else [f"teacher={options.teacher}"]
    settings = [
        setting
        if setting.partition("=")[0].partition(".")[0].strip() in own
        else f"student.{setting}"
        for setting in (*flag_settings(options), *flags, *options.settings)
    ]
    config = with_settings(dataclasses.replace(config, student=student), settings)
    return dataclasses.replace(config, student=with_samples(config.student, options))


def main() -> None:
    """Distils."""
    options = parse()
    with said_plainly():
        config = configured(CONFIGS[options.config], options)
        if options.list_settings:
            print_settings(config)
            return
        arguments = start_run(options, config.student)
    with said_plainly(OF_A_RUN, AFTER_STOP):
        train(config, **arguments)


if __name__ == "__main__":
    main()
