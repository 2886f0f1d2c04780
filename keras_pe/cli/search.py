"""Search an index by a text or by an image."""

import argparse

from keras_pe.cli.common import add_json, add_preset, load, path, positive, text
from keras_pe.cli.output import print_json, printable

HELP = "search an index by text or image"
EPILOG = """examples:
  keras-pe search photos.index --text "a red car"
  keras-pe search photos.index --image car.jpg --top-k 3
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument("index", type=path, help="what `keras-pe index` wrote")
    query = parser.add_mutually_exclusive_group(required=True)
    query.add_argument("--text", type=text, help="what to look for, in words")
    query.add_argument("--image", type=path, help="what to look for, as an image")
    parser.add_argument(
        "--top-k",
        type=positive,
        default=10,
        metavar="N",
        help="how many images are shown (default: 10)",
    )
    add_json(parser, "one object an image")
    add_preset(parser, "the one that made the index")


def run(options: argparse.Namespace) -> int:
    """Searches and prints; returns the exit code."""
    from keras_pe.search import ImageIndex

    index = ImageIndex.open(options.index)
    preset = options.preset or index.preset
    if preset is None:
        raise ValueError(
            f"{options.index} was built in Python from a model without a name: say "
            f"which preset it was with --preset."
        )
    loaded = load(preset)
    if options.text is not None:
        query = index.query_text(loaded.model, loaded.tokenizer, options.text)
    else:
        query = index.query_image(loaded.model, options.image, loaded.image_converter)
    for match in index.search(query, options.top_k):
        if options.json:
            print_json({"image": str(match.path), "similarity": match.similarity})
        else:
            print(f"{match.similarity:6.3f}  {printable(match.path)}")
    return 0
