"""Embed a folder of images into an index on disk that `keras-pe search` reads.

A run that is stopped goes on where it was when the same command is given again.
"""

import argparse

from keras_pe.cli.common import (
    add_batch_size,
    add_json,
    add_preset,
    chosen_preset,
    lasting_handle,
    load,
    path,
    say_skipped,
    show_progress,
    tell,
)
from keras_pe.cli.output import print_json, printable

HELP = "index a folder of images for searching"
EPILOG = """examples:
  keras-pe index photos --output photos.index
  keras-pe index photos --output photos.index --update   (new, changed, removed ones)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument(
        "folder", type=path, help="folder of images, searched with all below it"
    )
    parser.add_argument(
        "--output",
        type=path,
        required=True,
        metavar="DIRECTORY",
        help="the index to write; one that is there is replaced as a whole",
    )
    parser.add_argument(
        "--update",
        action="store_true",
        help="keep the vectors of images whose size and time of change are the same; "
        "with the preset that made the index",
    )
    add_json(parser, "the summary")
    add_preset(parser, "with --update the index's own, else the one inside the package")
    add_batch_size(parser)


def run(options: argparse.Namespace) -> int:
    """Builds the index; returns the exit code."""
    from keras_pe.files import check_directory_target
    from keras_pe.search import ImageIndex
    from keras_pe.search.index_files import is_index

    if not options.folder.is_dir():
        raise ValueError(f"No such folder: {options.folder}")
    check_directory_target(options.output)
    known = None
    if options.update and options.preset is None and is_index(options.output):
        known = ImageIndex.open(options.output).preset
    preset = lasting_handle(known or chosen_preset(options.preset))
    loaded = load(preset)
    try:
        index = ImageIndex.build(
            loaded.model,
            options.folder,
            options.output,
            loaded.image_converter,
            options.batch_size,
            max_skipped_share=1.0,
            progress=show_progress(),
            preset=preset,
            update=options.update,
        )
    except KeyboardInterrupt:
        tell("The same command goes on where this one stopped.")
        raise
    code = say_skipped(index.report)
    counts = {
        "images": len(index),
        "unchanged": index.num_unchanged,
        "resumed": index.num_resumed,
        "skipped": index.report.num_skipped,
    }
    if options.json:
        print_json({"output": str(options.output), "preset": preset, **counts})
        return code
    kept = "".join(
        f", {count} {what}"
        for count, what in (
            (index.num_unchanged, "unchanged"),
            (index.num_resumed, "from the run that was stopped"),
        )
        if count
    )
    print(f"{len(index)} images indexed{kept}: {printable(options.output)}")
    return code
