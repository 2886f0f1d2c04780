"""Robust contrastive pretraining: stage one of Perception Encoder, at any scale.

Run:      python -m recipes.pretrain --config paper-b16 \\
              --data 'data/{000..099}.tar' --output runs/b16
Go on:    the same with --resume, after any stop, a power cut included.
Look:     python -m recipes.plan prints what such a run needs, without starting it.
Expect:   checkpoints, steps.csv, scores.csv, TensorBoard events, curves.png and, at
          the end, model.weights.h5 and a preset.

The data are tar shards of images and captions, or a folder of them. To fine-tune a
published model on yours:

          python -m recipes.pretrain --config finetune --data shards \\
              --output runs/mine --initial-weights pe_core_emoji_patch8_64 \\
              --samples 20000 --batch-size 64 --learning-rate 1e-4

--settings prints every setting of a run, --set NAME=VALUE changes any of them.
The fastest backend on a CPU is PyTorch: KERAS_BACKEND=torch, and where the CPU has AMX
--precision mixed_bfloat16.
"""

import argparse

from keras_pe.training.run.config import RunConfig
from keras_pe.training.run.options import (
    add_run_arguments,
    add_shard_arguments,
    recipe_parser,
    with_overrides,
)
from keras_pe.training.run.start import run_recipe
from keras_pe.training.run.train import pretrain
from recipes.configs import CONFIGS


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = recipe_parser("recipes.pretrain", __doc__, CONFIGS)
    add_shard_arguments(parser)
    add_run_arguments(parser)
    return parser.parse_args(arguments)


def main() -> None:
    """Trains."""
    options = parse()

    def configured() -> RunConfig:
        return with_overrides(CONFIGS[options.config], options)

    run_recipe(options, configured, pretrain)


if __name__ == "__main__":
    main()
