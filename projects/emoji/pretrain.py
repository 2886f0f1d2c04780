"""The bundled model: contrastive pretraining on drawings of emoji.

Run:      python -m projects.emoji.pretrain --config emoji --data data/emoji \\
              --output runs/emoji
Go on:    the same with --resume, after any stop, a power cut included.
Expect:   what `recipes.pretrain` leaves; the tables in projects/emoji/README.md.

`python -m projects.emoji.data.prepare --output data/emoji` makes the data. --settings
prints every setting of a run, --set NAME=VALUE changes any of them. The fastest backend
on a CPU is PyTorch: KERAS_BACKEND=torch, and where the CPU has AMX --precision
mixed_bfloat16.
"""

import argparse

from keras_pe.training.run.config import RunConfig
from keras_pe.training.run.options import (
    add_run_arguments,
    recipe_parser,
    with_overrides,
)
from keras_pe.training.run.start import run_recipe
from keras_pe.training.run.train import pretrain
from projects.emoji.configs import CONFIGS
from projects.emoji.drawings_data import (
    add_drawings_arguments,
    check_drawings,
    drawings_data,
)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = recipe_parser("projects.emoji.pretrain", __doc__, CONFIGS)
    add_drawings_arguments(parser)
    add_run_arguments(parser)
    return parser.parse_args(arguments)


def main() -> None:
    """Trains."""
    options = parse()

    def configured() -> RunConfig:
        return with_overrides(CONFIGS[options.config], options)

    run_recipe(options, configured, pretrain, check_drawings, drawings_data)


if __name__ == "__main__":
    main()
