"""The small bundled model: distilled from the larger one.

Run:      python -m projects.emoji.distill --config emoji --data data/emoji \\
              --output runs/emoji-distilled
Go on:    the same with --resume.
Expect:   what `recipes.pretrain` leaves, of the student.

The student starts as every other vision block of its teacher, with the whole text
tower.
"""

import argparse

from keras_pe.training.run.config import DistillConfig
from keras_pe.training.run.options import (
    add_run_arguments,
    distill_settings,
    recipe_parser,
)
from keras_pe.training.run.start import run_recipe
from keras_pe.training.run.train import distill
from projects.emoji.configs import DISTILLED
from projects.emoji.drawings_data import (
    add_drawings_arguments,
    check_drawings,
    drawings_data,
)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = recipe_parser("projects.emoji.distill", __doc__, DISTILLED)
    parser.add_argument(
        "--teacher", metavar="PRESET", help="in the place of the configuration's"
    )
    add_drawings_arguments(parser)
    add_run_arguments(parser)
    return parser.parse_args(arguments)


def main() -> None:
    """Distils."""
    options = parse()

    def configured() -> DistillConfig:
        return distill_settings(DISTILLED[options.config], options)

    run_recipe(options, configured, distill, check_drawings, drawings_data)


if __name__ == "__main__":
    main()
