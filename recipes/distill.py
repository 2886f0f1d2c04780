"""Distillation: a small Perception Encoder from a large one.

Run:      python -m recipes.distill --config paper-b16 \\
              --data 'data/{000..099}.tar' --output runs/b16
Go on:    the same with --resume.
Expect:   what `recipes.pretrain` leaves, of the student.

The student learns how the teacher ranks the images and texts of each batch: the KL
divergence of two softmaxes, the teacher's with a fixed scale of 200. Any preset can
teach: --teacher takes a name, a directory or a handle. The paper starts from a student
that has been pretrained (--initial-weights) and so needs a learning rate of 1e-6 only;
with --set start=blocks a student as wide as its teacher starts as some of its blocks,
with the whole text tower.
"""

import argparse
import dataclasses

from keras_pe.training.run.config import (
    DistillConfig,
    RunConfig,
    small_towers,
    stages_of,
)
from keras_pe.training.run.options import (
    add_run_arguments,
    add_shard_arguments,
    distill_settings,
    recipe_parser,
)
from keras_pe.training.run.start import run_recipe
from keras_pe.training.run.train import distill
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


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = recipe_parser("recipes.distill", __doc__, CONFIGS)
    parser.add_argument(
        "--teacher", metavar="PRESET", help="in the place of the configuration's"
    )
    add_shard_arguments(parser)
    add_run_arguments(parser)
    return parser.parse_args(arguments)


def main() -> None:
    """Distils."""
    options = parse()

    def configured() -> DistillConfig:
        return distill_settings(CONFIGS[options.config], options)

    run_recipe(options, configured, distill)


if __name__ == "__main__":
    main()
