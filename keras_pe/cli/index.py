"""Embed a folder of pictures into an index on disk that `keras-pe search` reads."""

import argparse
from pathlib import Path

from keras_pe.cli.common import (
    add_batch_size,
    add_preset,
    load,
    say_skipped,
    show_progress,
)

HELP = "index a folder of pictures for searching"
EPILOG = """example:
  keras-pe index photos --output photos.index
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument("folder", type=Path, help="searched with all below it")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIRECTORY", help="the index"
    )
    add_preset(parser)
    add_batch_size(parser)


def run(options: argparse.Namespace) -> int:
    """Builds the index; returns the exit code."""
    from keras_pe.search import PictureIndex

    if not options.folder.is_dir():
        raise ValueError(f"No such folder: {options.folder}")
    loaded = load(options.preset)
    index = PictureIndex.build(
        loaded.model,
        options.folder,
        options.output,
        loaded.image_converter,
        options.batch_size,
        max_skipped_share=1.0,
        progress=show_progress(),
    )
    print(f"{len(index)} pictures indexed: {options.output}")
    return say_skipped(index.report)
