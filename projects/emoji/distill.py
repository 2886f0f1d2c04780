"""The small bundled model: distilled from the larger one.

Run:      python -m projects.emoji.distill --config emoji --data data/emoji \\
              --output runs/emoji-distilled
Go on:    the same with --resume.
Expect:   what `recipes.pretrain` leaves, of the student.

The student starts as every other vision block of its teacher, with the whole text
tower.
"""

import argparse
import dataclasses

# Before Keras: takes a backend that is installed.
from keras_pe import PECore, PETokenizer

# isort: split
from keras_pe.preprocessing.tokenizer_check import check_tokenizer
from keras_pe.training.run.config import (
    DistillConfig,
    build_model,
    build_optimizer,
    build_tokenizer,
    freeze,
)
from keras_pe.training.run.initial_weights import (
    copy_spaced_blocks,
    load_initial_weights,
)
from keras_pe.training.run.options import (
    add_config,
    add_overrides,
    add_run_arguments,
    distill_settings,
    print_settings,
)
from keras_pe.training.run.stage_run import (
    BothTokenizers,
    RunData,
    RunOptions,
    run_stage,
)
from keras_pe.training.run.start import AFTER_STOP, OF_A_RUN, said_plainly, start_run
from keras_pe.training.stages.distillation import DistillationTrainer
from projects.emoji.configs import DISTILLED
from projects.emoji.drawings_data import (
    DrawingsData,
    add_drawings_arguments,
    check_drawings,
)


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
        prog="python -m projects.emoji.distill",
        usage="%(prog)s --config NAME --data DATA --output FOLDER [options]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config(parser, DISTILLED)
    parser.add_argument(
        "--teacher", metavar="PRESET", help="in the place of the configuration's"
    )
    add_drawings_arguments(parser)
    add_run_arguments(parser)
    add_overrides(parser)
    return parser.parse_args(arguments)


def main() -> None:
    """Distils."""
    options = parse()
    with said_plainly():
        config = distill_settings(DISTILLED[options.config], options)
        if options.list_settings:
            print_settings(config)
            return
        run = start_run(options, config.student, check_drawings)
        data = DrawingsData(options.data, tuple(options.leave_out))
    with said_plainly(OF_A_RUN, AFTER_STOP):
        train(config, data, run)


if __name__ == "__main__":
    main()
