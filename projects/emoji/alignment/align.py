"""The bundled encoder, aligned on artwork with exact masks.

Run:      python -m projects.emoji.alignment.align --config both --data data/emoji \\
              --probing data/probing --output runs/spatial
Go on:    the same with --resume.
Expect:   what `recipes.align_spatial` leaves; seven minutes on one core.

The configurations are the paper's ablation: both teachers, each alone, and what it
leaves open. `experiment.py` compares their layers.
"""

import argparse
import dataclasses
from pathlib import Path

from keras_pe.training.run.align import align_spatial
from keras_pe.training.run.options import (
    add_run_arguments,
    aligned_settings,
    recipe_parser,
)
from keras_pe.training.run.spatial_config import SpatialConfig, check_spatial
from keras_pe.training.run.start import run_recipe
from keras_pe.training.run.training_config import stages_of
from projects.emoji.alignment.artwork import ArtworkConfig, ArtworkData
from projects.emoji.drawings_data import check_drawings

# Batches of 16, not of thousands: a higher rate, and LayerScale far slower than what
# LAMB adapts, or it would move by half a per cent a step.
BOTH = ArtworkConfig(
    encoder="pe_core_emoji_patch8_64",
    stages=stages_of(6_400, (96,), (1,)),
    batch_size=16,
    learning_rate=1e-3,
    warmup_steps=20,
    unadapted_rate=0.1,
    drop_path=0.1,
)

CONFIGS: dict[str, ArtworkConfig] = {
    "both": BOTH,
    "features": dataclasses.replace(BOTH, mask_teacher="none"),
    "masks": dataclasses.replace(BOTH, teacher="none"),
    "masks-of-another": dataclasses.replace(
        BOTH, teacher="none", mask_source="another"
    ),
    "both-of-another": dataclasses.replace(BOTH, mask_source="another"),
    "masks-heavier": dataclasses.replace(BOTH, correspondence_weight=4.0),
    "background-apart": dataclasses.replace(BOTH, background_weight=0.1),
    "not-rescaled": dataclasses.replace(BOTH, rescale=False),
    "layer-4": dataclasses.replace(BOTH, teacher_layer=4),
    "half-masked": dataclasses.replace(BOTH, mask_ratio=0.5),
    "unmasked": dataclasses.replace(BOTH, mask_ratio=0.0),
    "distances": dataclasses.replace(BOTH, mask_kind="distance"),
}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = recipe_parser("projects.emoji.alignment.align", __doc__, CONFIGS)
    parser.add_argument("--encoder", metavar="PRESET", help="what is aligned")
    parser.add_argument("--teacher", metavar="PRESET", help="whose tokens are matched")
    group = parser.add_argument_group("data")
    group.add_argument("--data", metavar="FOLDER", help="of the drawings")
    group.add_argument(
        "--probing", type=Path, metavar="FOLDER", help="of the people in parts"
    )
    add_run_arguments(parser)
    return parser.parse_args(arguments)


def artwork(options: argparse.Namespace) -> ArtworkData:
    """Returns the artwork of a command line."""
    if options.probing is None:
        raise ValueError("--probing is needed: see projects/emoji/probing/DATA.md.")
    return ArtworkData(Path(options.data), options.probing)


def main() -> None:
    """Aligns."""
    options = parse()

    def configured() -> SpatialConfig:
        return aligned_settings(CONFIGS[options.config], options)

    run_recipe(
        options, configured, align_spatial, check_drawings, artwork, check_spatial
    )


if __name__ == "__main__":
    main()
