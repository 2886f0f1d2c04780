"""Name images with classes of your choice, without training."""

import argparse
from typing import Any

from keras_pe.cli.common import (
    PresetParts,
    add_batch_size,
    add_images,
    add_json,
    add_preset,
    chosen_preset,
    find_all,
    load,
    path,
    positive,
    say_skipped,
    show_progress,
    text,
)
from keras_pe.cli.output import print_json, printable

HELP = "name images with classes of your choice"
EPILOG = """examples:
  keras-pe classify cat.jpg --classes "a cat" "a dog"
  keras-pe classify photos --classes-file classes.txt --top-k 1 --json
  keras-pe classify icon.png         (the bundled preset knows its own classes)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    add_images(parser)
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--classes",
        nargs="+",
        type=text,
        metavar="NAME",
        help="class names, two or more (default: those the preset knows)",
    )
    group.add_argument(
        "--classes-file", type=path, metavar="FILE", help="text file, one name a line"
    )
    parser.add_argument(
        "--template",
        action="append",
        metavar="TEXT",
        help='prompt with {} for the name, such as "a photo of a {}."; repeatable',
    )
    parser.add_argument(
        "--top-k",
        type=positive,
        default=5,
        metavar="N",
        help="how many classes are shown of each image (default: 5)",
    )
    add_json(parser, "one object an image")
    add_preset(parser)
    add_batch_size(parser)


def named_classes(options: argparse.Namespace) -> list[str] | None:
    """Returns the classes that the options name, or None.

    Raises:
        ValueError: if there are none, or one alone, or the file is no UTF-8 text.
    """
    if options.classes:
        names = list(options.classes)
    elif options.classes_file:
        try:
            lines = options.classes_file.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{options.classes_file} is no UTF-8 text ({error}). Save it as UTF-8."
            ) from error
        names = [line.strip() for line in lines if line.strip()]
        if not names:
            raise ValueError(f"{options.classes_file} holds no class names.")
    else:
        return None
    if len(names) == 1:
        raise ValueError(
            f"One class alone is always 100 %, whatever the image shows: give "
            f'others to compare with, such as "{names[0]}" "something else".'
        )
    return names


def run(options: argparse.Namespace) -> int:
    """Classifies and prints; returns the exit code."""
    from keras_pe.preprocessing.batches import load_batches

    names = named_classes(options)
    paths = find_all(options.images)
    preset = chosen_preset(options.preset)
    loaded = load(preset)
    size = min(options.batch_size, len(paths))
    classifier = make_classifier(loaded, names, options.template, size, preset)
    batches = load_batches(
        paths,
        loaded.image_converter,
        classifier.batch_size,
        max_skipped_share=1.0,
        progress=show_progress() and len(paths) > options.batch_size,
    )
    for place, best in classifier.predict_batches(batches, options.top_k):
        if options.json:
            found = [{"class": p.name, "probability": p.probability} for p in best]
            print_json({"image": str(paths[place]), "classes": found})
            continue
        print(printable(paths[place]))
        for prediction in best:
            print(f"  {prediction.probability:6.1%}  {printable(prediction.name)}")
    return say_skipped(batches.report)


def make_classifier(
    loaded: PresetParts,
    names: list[str] | None,
    templates: list[str] | None,
    batch_size: int,
    preset: str,
) -> Any:
    """Returns a classifier of these classes, or of those that the preset knows.

    Raises:
        ValueError: if neither names any classes.
    """
    from keras_pe.evaluation.zero_shot import ZeroShotClassifier
    from keras_pe.preprocessing.prompts import known_classes

    known = known_classes(loaded.metadata, preset)
    matrix = None
    if names is None:
        if known is None:
            raise ValueError(
                f"{preset} has no classes of its own: name some with --classes or "
                f"--classes-file."
            )
        names = known[0]
        loaded.tokenizer.on_truncation = "ignore"  # a few long names, known classes
        if templates is None:
            matrix = loaded.class_matrix
    return ZeroShotClassifier(
        loaded.model,
        loaded.tokenizer,
        names,
        templates or (None if known is None else known[1]),
        loaded.image_converter,
        batch_size,
        class_matrix=matrix,
    )
