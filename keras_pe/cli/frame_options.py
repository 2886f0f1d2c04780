"""Options of commands that score videos: which frames, how averaged, which seed."""

import argparse

from keras_pe.cli.common import positive


def _seed(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"expected 0 or more, got {number}")
    return number


def add_frame_options(
    parser: argparse.ArgumentParser,
    least: int = 1,
    average: str | None = None,
    average_help: str = "raw in classification, normalized in retrieval, as upstream",
) -> None:
    """Adds `--num-frames`, `--frame-rule`, `--frame-average` and `--seed`.

    Args:
        parser: of a command.
        least: frames that the command can do with, for the help.
        average: default of `--frame-average`; None leaves it to the command.
        average_help: what the default is, in words.
    """
    few = f", at least {least}" if least > 1 else ""
    parser.add_argument(
        "--num-frames",
        type=positive,
        default=8,
        metavar="N",
        help=f"frames of each video{few} (default: 8)",
    )
    parser.add_argument(
        "--frame-rule",
        choices=("benchmark", "notebook", "time"),
        default="benchmark",
        help="which frames: as upstream's benchmark (default) or its notebook, or by "
        "their time",
    )
    parser.add_argument(
        "--frame-average",
        choices=("raw", "normalized"),
        default=average,
        help=f"how they are averaged (default: {average_help})",
    )
    parser.add_argument(
        "--seed",
        type=_seed,
        default=0,
        metavar="N",
        help="of what is drawn, as for intervals (default: 0)",
    )
