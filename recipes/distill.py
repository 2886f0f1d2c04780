"""Distillation: a small Perception Encoder from a large one.

Run:      python -m recipes.distill --config paper-b16 \\
              --data 'data/{000..099}.tar' --output runs/b16
Go on:    the same with --resume.
Expect:   what `recipes.pretrain` leaves, of the student.

The student learns how the teacher ranks the pictures and texts of each batch: the KL
divergence of two softmaxes, the teacher's with a fixed scale of 200. Any preset can
teach: --teacher takes a name, a directory or a handle. The paper starts from a student
that has been pretrained (--initial-weights) and so needs a learning rate of 1e-6 only;
with --set start=blocks a student as wide as its teacher starts as some of its blocks,
with the whole text tower.
"""

import argparse
import dataclasses

# Before Keras: takes a backend that is installed.
from keras_pe import PECore, PETokenizer

# isort: split
from keras_pe.preprocessing.tokenizer_check import check_tokenizer
from keras_pe.training.run.config import (
    DistillConfig,
    RunConfig,
    build_model,
    build_optimizer,
    build_tokenizer,
    freeze,
    small_towers,
    stages_of,
)
from keras_pe.training.run.initial_weights import (
    copy_spaced_blocks,
    load_initial_weights,
)
from keras_pe.training.run.options import (
    add_config,
    add_overrides,
    add_run_arguments,
    add_shard_arguments,
    distill_settings,
    print_settings,
)
from keras_pe.training.run.stage_run import (
    BothTokenizers,
    RunData,
    RunOptions,
    run_stage,
)
from keras_pe.training.run.start import (
    AFTER_STOP,
    OF_A_RUN,
    said_plainly,
    shard_data,
    start_run,
)
from keras_pe.training.stages.distillation import DistillationTrainer
from recipes.configs import paper


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
    "paper-b16": paper_student("PE-Core-B16-224"),
    "paper-l14": paper_student("PE-Core-L14-336"),
    # Minutes on one core, with any shards; for trying things out.
    "smoke": DistillConfig(
        RunConfig(
            **small_towers(64, width=32, layers=2, text_layers=1),
            stages=stages_of(96, (64,), (1,)),
            batch_size=32,
            warmup_steps=2,
            mask_weight=0.0,
        ),
        teacher="pe_core_emoji_patch8_64",
    ),
}


def train(config: DistillConfig, data: RunData, options: RunOptions) -> PECore:
    """Distils a student; arguments and output as in `recipes.pretrain.train`."""
    of_student = config.student
    teacher = PETokenizer.from_preset(config.teacher)
    captions = BothTokenizers(build_tokenizer(of_student), teacher)

    def build() -> DistillationTrainer:
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
        return trainer

    settings = dataclasses.asdict(config)
    return run_stage(of_student, build, data, options, settings, captions)


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
    add_shard_arguments(parser)
    add_run_arguments(parser)
    add_overrides(parser)
    return parser.parse_args(arguments)


def main() -> None:
    """Distils."""
    options = parse()
    with said_plainly():
        config = distill_settings(CONFIGS[options.config], options)
        if options.list_settings:
            print_settings(config)
            return
        run = start_run(options, config.student)
        data = shard_data(options)
    with said_plainly(OF_A_RUN, AFTER_STOP):
        train(config, data, run)


if __name__ == "__main__":
    main()
