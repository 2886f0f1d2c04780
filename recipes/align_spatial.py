"""Spatial alignment: dense features from inside an encoder to its output.

Run:      python -m recipes.align_spatial --config paper-g14 \\
              --data 'data/{000..099}.tar' --output runs/spatial
Go on:    the same with --resume.
Look:     python -m recipes.align_spatial --config paper-g14 --plan --devices 256
          prints what it needs, as recipes.plan does, without starting it.
Expect:   checkpoints, steps.csv, TensorBoard events, curves.png and, at the end,
          model.weights.h5 and a preset that PESpatial.from_preset loads.

The encoder is trained to give at its last layer the tokens of an inner one, before
training (--set teacher_layer=41), while three quarters of its patches are masked; and
to find those patches alike that a mask teacher does. --encoder takes any preset, a
name, a directory or a handle. The data are tar shards of images; captions are not read.

Who says which patches belong together (--set mask_teacher=...):
    masks            the samples: beside 0001.jpg a PNG 0001.seg.png of its size, with
                     the number of the instance that each pixel shows, 0 for none
    sam:PRESET       SAM by KerasHub, such as sam:sam_huge_sa1b, or a folder; its 1,024
                     masks of an image are made before each step
    teacher, none    the teacher's own tokens; nothing

What is lost: an aligned encoder has no zero-shot head.
"""

import argparse
import dataclasses

from keras_pe.files import check_directory_target
from keras_pe.training.run.align import align_spatial, check_alignment
from keras_pe.training.run.image_data import ImageData
from keras_pe.training.run.options import (
    add_run_arguments,
    add_shard_arguments,
    aligned_settings,
    recipe_parser,
)
from keras_pe.training.run.spatial_config import SpatialConfig
from keras_pe.training.run.start import run_recipe
from keras_pe.training.run.training_config import stages_of
from recipes.plan import add_plan_group, plans_instead

# Table 21: 24,000 steps of 12,288 images at 448 px.
PAPER_G14 = SpatialConfig(
    encoder="pe_core_gigantic_patch14_448",
    teacher_layer=41,
    stages=stages_of(24_000 * 12_288, (448,), (1,)),
    remat=True,
    precision="mixed_bfloat16",
    sharding="parameters",
    mask_teacher="sam:sam_huge_sa1b",  # the paper's is SAM 2.1, which Keras has not
)


def small_student(encoder: str, image_size: int) -> SpatialConfig:
    """Returns the alignment of a smaller core model: PE spatial G is both teachers.

    Source: Perception Encoder, appendix E.3, which prints neither batch nor steps;
    those of G are taken. No LayerScale, as in the released models.
    """
    return dataclasses.replace(
        PAPER_G14,
        encoder=encoder,
        teacher="pe_spatial_gigantic_patch14_448",
        teacher_layer=50,
        mask_teacher="teacher",
        sharpness=None,
        layer_scale=None,
        stages=stages_of(24_000 * 12_288, (image_size,), (1,)),
    )


CONFIGS: dict[str, SpatialConfig] = {
    "paper-g14": PAPER_G14,
    "paper-l14": small_student("pe_core_large_patch14_336", 448),
    "paper-b16": small_student("pe_core_base_patch16_224", 512),
    "paper-s16": small_student("pe_core_small_patch16_384", 512),
    "paper-t16": small_student("pe_core_tiny_patch16_384", 512),
    # Minutes on one core, with any shards; for trying things out.
    "smoke": SpatialConfig(
        encoder="pe_core_emoji_patch8_64",
        stages=stages_of(96, (64,), (1,)),
        batch_size=32,
        mask_teacher="teacher",
        sharpness=None,
        drop_path=0.1,
    ),
}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = recipe_parser("recipes.align_spatial", __doc__, CONFIGS)
    parser.add_argument(
        "--encoder", metavar="PRESET", help="what is aligned, of the configuration"
    )
    parser.add_argument(
        "--teacher", metavar="PRESET", help="whose tokens are matched; self, or none"
    )
    parser.add_argument(
        "--mask-cache",
        metavar="FOLDER",
        help="keeps SAM's masks, where images come again as they were (augment=false)",
    )
    add_shard_arguments(parser)
    add_plan_group(parser)
    add_run_arguments(parser)
    return parser.parse_args(arguments)


def image_data(options: argparse.Namespace) -> ImageData:
    """Returns the images of a command line."""
    if options.mask_cache is not None:
        check_directory_target(options.mask_cache)
    return ImageData(
        options.data, options.workers, options.start_timeout, options.mask_cache
    )


def main() -> None:
    """Aligns."""
    options = parse()

    def configured() -> SpatialConfig:
        return aligned_settings(CONFIGS[options.config], options)

    if plans_instead(options, configured):
        return
    run_recipe(
        options, configured, align_spatial, make_data=image_data, check=check_alignment
    )


if __name__ == "__main__":
    main()
