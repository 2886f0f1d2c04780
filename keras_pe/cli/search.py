"""Search an index by a text or by an image."""

import argparse

from keras_pe.cli.common import add_json, add_preset, load, path, positive, tell, text
from keras_pe.cli.output import print_json, printable

HELP = "search an index by text or image"
EPILOG = """examples:
  keras-pe search photos.index --text "a red car"
  keras-pe search photos.index --image car.jpg --top-k 3
  keras-pe search photos.index --text "a red car" --html found.html
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
    parser.add_argument(
        "--html",
        type=path,
        metavar="FILE",
        help="write a page with thumbnails too, one file that needs no other and no "
        "network",
    )
    add_json(parser, "one object an image")
    add_preset(parser, "the one that made the index")


def run(options: argparse.Namespace) -> int:
    """Searches and prints; returns the exit code."""
    from keras_pe.files import check_file_target, write_atomically
    from keras_pe.search import ImageIndex, result_page

    if options.html is not None:
        check_file_target(options.html)
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
    matches = index.search(query, options.top_k)
    for match in matches:
        if options.json:
            print_json({"image": str(match.path), "similarity": match.similarity})
        else:
            print(f"{match.similarity:6.3f}  {printable(match.path)}")
    if options.html is not None:
        page = result_page(
            options.image.name if options.text is None else options.text,
            matches,
            options.image,
            f"{printable(options.index)}, {len(index):,} images, by {preset}",
        )
        write_atomically(options.html, page)
        tell(f"wrote {printable(options.html)}")
    return 0
