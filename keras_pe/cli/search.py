"""Search an index by a text or by a picture."""

import argparse
import json
from pathlib import Path

from keras_pe.cli.common import add_preset, load, positive

HELP = "search an index by text or picture"
EPILOG = """examples:
  keras-pe search photos.index --text "a red car"
  keras-pe search photos.index --picture car.jpg --top-k 3
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument("index", type=Path, help="what `keras-pe index` wrote")
    query = parser.add_mutually_exclusive_group(required=True)
    query.add_argument("--text", help="what to look for, in words")
    query.add_argument("--picture", type=Path, help="what to look for, as a picture")
    parser.add_argument("--top-k", type=positive, default=10, metavar="N")
    parser.add_argument("--json", action="store_true", help="one JSON object a match")
    add_preset(parser)


def run(options: argparse.Namespace) -> int:
    """Searches and prints; returns the exit code."""
    from keras_pe.search import PictureIndex

    index = PictureIndex.open(options.index)
    loaded = load(options.preset)
    if options.text is not None:
        query = index.query_text(loaded.model, loaded.tokenizer, options.text)
    else:
        query = index.query_picture(
            loaded.model, options.picture, loaded.image_converter
        )
    for match in index.search(query, options.top_k):
        if options.json:
            found = {"picture": str(match.path), "similarity": match.similarity}
            print(json.dumps(found))
        else:
            print(f"{match.similarity:6.3f}  {match.path}")
    return 0
