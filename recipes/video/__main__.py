"""Video fine-tuning: the embeddings of a clip's frames, averaged, meet its caption.

Run:      python -m recipes.video --config cooldown-b16 --data images \\
              --initial-weights runs/pretrained/preset --output runs/cooldown
          python -m recipes.video --config paper-b16 --data clips \\
              --initial-weights runs/cooldown/preset --output runs/video
Go on:    the same with --resume.
Look:     python -m recipes.video --config paper-g14 --plan --devices 256
          prints what it needs, as recipes.plan does, without starting it.
Expect:   checkpoints, steps.csv, scores.csv, curves.png and a preset. With
          --validation-data also recall on clips, by the mean of their frames and by the
          first frame alone: if these are equal, the clips need no more than a frame. At
          the end both stand beside the scores of shuffled and of reversed frames, which
          are those of the mean: it has no order.

The paper's order: pretraining, a cool-down on images at the largest size, then eight
frames of a clip against its caption, at a small rate. A small model is distilled first.
The data of the second step are tar shards of clips, `000001.mp4` beside `000001.json`
with a "caption"; `projects.video_engine` makes such, and the PE Video Dataset has them:
--caption-key human_caption. On your own clips:

          python -m recipes.video --config finetune --data clips \\
              --initial-weights pe_core_emoji_patch8_64 --output runs/mine \\
              --samples 2000 --batch-size 16

There is no temporal layer: the order of frames is not seen.
"""

import argparse

from keras_pe.training.run.config import RunConfig
from keras_pe.training.run.options import (
    add_run_arguments,
    add_shard_arguments,
    add_weights_arguments,
    recipe_parser,
    with_overrides,
)
from keras_pe.training.run.start import run_recipe
from keras_pe.training.run.train import pretrain
from recipes.plan import add_plan_group, plans_instead
from recipes.video.configs import CONFIGS


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = recipe_parser("recipes.video", __doc__, CONFIGS)
    add_shard_arguments(parser)
    add_weights_arguments(parser)
    add_plan_group(parser)
    add_run_arguments(parser)
    return parser.parse_args(arguments)


def main() -> None:
    """Trains."""
    options = parse()

    def configured() -> RunConfig:
        return with_overrides(CONFIGS[options.config], options)

    if not plans_instead(options, configured):
        run_recipe(options, configured, pretrain)


if __name__ == "__main__":
    main()
