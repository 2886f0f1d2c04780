"""Say what a set of clips asks of a model: one frame, several, or their order."""

import argparse

from keras_pe.cli.common import (
    SOME_SKIPPED,
    add_batch_size,
    add_json,
    add_preset,
    chosen_preset,
    load,
    path,
    show_progress,
    tell,
)
from keras_pe.cli.frame_options import add_frame_options
from keras_pe.cli.output import print_json, printable

HELP = "say whether clips need several frames, and their order"
EPILOG = """examples:
  keras-pe video-card clips                    (one folder a class)
  keras-pe video-card clips.csv                (columns video and class)
  keras-pe video-card kinetics/val --preset pe_core_base_patch16_224 --output card.json

The clips are classified by the first frame alone, by all frames, by these shuffled and
reversed, and by the middle frame repeated. Perception Encoder averages frames, which
no order can change; so whether order matters is asked of a linear head that sees the
frames in order, against the same head on their average. Intervals are of 95 %, of
differences clip by clip.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument(
        "clips", type=path, metavar="CLIPS", help="one folder a class, or a CSV file"
    )
    add_frame_options(
        parser, 3, average="raw", average_help="raw, as upstream in classification"
    )
    parser.add_argument(
        "--templates",
        nargs="+",
        metavar="PROMPT",
        help='prompts with {} for the class (default: 28 such as "a video of {}.")',
    )
    parser.add_argument(
        "--output", type=path, metavar="FILE", help="JSON file of everything"
    )
    add_json(parser, "everything --output would write")
    add_preset(parser)
    add_batch_size(parser)


def run(options: argparse.Namespace) -> int:
    """Makes the card, prints it and writes the file asked for."""
    from keras_pe.evaluation import video_card
    from keras_pe.evaluation.datasets import read_video_classes, read_video_folder
    from keras_pe.files import check_file_target

    if options.output is not None:
        check_file_target(options.output)  # before hours of decoding
    if not options.clips.exists():
        raise FileNotFoundError(
            f"No {options.clips}: expected a folder with one folder a class, or a "
            f"table with columns video and class."
        )
    read = read_video_folder if options.clips.is_dir() else read_video_classes
    data = read(options.clips)
    parts = load(chosen_preset(options.preset))
    if parts.tokenizer is None:
        raise ValueError("The preset has no tokenizer, so classes have no vectors.")
    card = video_card(
        parts.model,
        parts.tokenizer,
        data.samples,
        data.labels,
        data.class_names,
        options.templates or "kinetics",
        parts.image_converter,
        options.num_frames,
        options.frame_rule,
        options.frame_average,
        options.batch_size,
        options.seed,
        progress=show_progress(),
    )
    for video in card.skipped:
        tell(f"skipped {printable(video.name)}: {video.reason}")
    if options.json:
        print_json(card.to_dict(), indent=2)
    else:
        print(card)
    if options.output is not None:
        card.to_json(options.output)
        tell(f"wrote {printable(options.output)}")
    return SOME_SKIPPED if card.skipped else 0
