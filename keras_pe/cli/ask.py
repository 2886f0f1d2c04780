"""Ask questions about images."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from keras_pe.cli.common import (
    BUNDLED_CAPTIONER,
    add_batch_size,
    add_images,
    add_json,
    find_all,
    positive,
    say_skipped,
    tell,
    text,
)
from keras_pe.cli.output import print_json, printable

HELP = "ask a question about images"
EPILOG = """examples:
  keras-pe ask drawing.png "What is this?"
  keras-pe ask photos "Is there a dog?" --preset runs/language/preset --json
  keras-pe ask cat.jpg "What is this?" --preset runs/llama/preset \\
      --decoder hub:llama3.2_instruct_1b
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    add_images(parser)
    parser.add_argument(
        "question", type=text, metavar="QUESTION", help="one, of any text; in quotes"
    )
    parser.add_argument(
        "--preset",
        type=text,
        metavar="NAME",
        help="name, directory or hf://owner/repo[@revision] of an encoder with a "
        "language model, such as recipes.align_language writes (default: the small one "
        "inside the package, trained on drawings and printed words)",
    )
    parser.add_argument(
        "--decoder",
        type=text,
        metavar="NAME",
        help="the language model that a preset was trained with and does not hold: "
        "hub:PRESET of KerasHub's, or gguf:FILE",
    )
    parser.add_argument(
        "--max-tokens",
        type=positive,
        default=32,
        metavar="N",
        help="most tokens of an answer (default: 32)",
    )
    add_json(parser, "one object an image")
    add_batch_size(parser)


def run(options: argparse.Namespace) -> int:
    """Asks and prints a line an image; returns the exit code.

    Raises:
        ValueError: if the preset has no language model, or there is no such image.
    """
    from keras_pe.language.vision_language_model import VisionLanguageModel
    from keras_pe.preprocessing.batches import load_batches

    check_order(options.images, options.question)
    paths = find_all(options.images)
    preset = options.preset or BUNDLED_CAPTIONER
    if options.preset is None:
        tell(
            f"model: {BUNDLED_CAPTIONER}, in the package; it knows drawings and "
            f"printed words only, and photographs not at all: give --preset for others"
        )
    model = VisionLanguageModel.from_preset(preset, options.decoder)
    size = min(options.batch_size, len(paths))
    batches = load_batches(paths, model.image_converter, size, max_skipped_share=1.0)
    for places, pixels in batches:
        answers = model.answer(pixels, options.question, options.max_tokens, size)
        for place, answer in zip(places, answers, strict=True):
            if options.json:
                print_json({"image": str(paths[place]), "answer": answer})
            else:
                print(f"{printable(paths[place])}: {printable(answer)}")
    return say_skipped(batches.report)


def check_order(images: Sequence[Path], question: str) -> None:
    """Says what was taken for what, if images and question are not where they belong.

    Args:
        images: all arguments but the last.
        question: the last one.

    Raises:
        ValueError: if the question is a file, or something in the place of an image is
            neither there nor named like one.
    """
    from keras_pe.preprocessing.media_folders import IMAGE_SUFFIXES, has_suffix

    if os.path.exists(question):
        raise ValueError(
            f"The last argument is the question, and {question} is a file or folder. "
            f'Ask behind the images: keras-pe ask IMAGE "What is this?"'
        )
    missing = [str(path) for path in images if not os.path.exists(path)]
    others = [name for name in missing if not has_suffix(name, IMAGE_SUFFIXES)]
    if others:
        shown = ", ".join(map(repr, missing))
        raise ValueError(
            f"No such image or folder: {shown}. Of {len(images) + 1} arguments the "
            f"last, {question!r}, is the question, and all before it are images. Put "
            f"a question of several words into quotes, and ask one a command: "
            f'keras-pe ask IMAGE "What is this?"'
        )
