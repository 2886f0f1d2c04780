"""Name pictures with classes of your choice, without training."""

import argparse
import json
from pathlib import Path

from keras_pe.cli.common import (
    Loaded,
    add_batch_size,
    add_preset,
    load,
    positive,
    say_skipped,
    show_progress,
)

HELP = "name pictures with classes of your choice"
EPILOG = """examples:
  keras-pe classify cat.jpg --classes "a cat" "a dog"
  keras-pe classify photos --classes-file classes.txt --top-k 1 --json
  keras-pe classify icon.png         (the bundled preset knows its own classes)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument("pictures", nargs="+", metavar="PICTURE", help="file or folder")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--classes", nargs="+", metavar="NAME", help="class names")
    group.add_argument(
        "--classes-file", type=Path, metavar="FILE", help="text file, one name a line"
    )
    parser.add_argument(
        "--template",
        action="append",
        metavar="TEXT",
        help='prompt with {} for the name, such as "a photo of a {}."; repeatable',
    )
    parser.add_argument("--top-k", type=positive, default=5, metavar="N")
    parser.add_argument("--json", action="store_true", help="one JSON object a picture")
    add_preset(parser)
    add_batch_size(parser)


def classes_and_templates(
    options: argparse.Namespace, loaded: Loaded
) -> tuple[list[str], list[str] | None]:
    """Returns what the options say, else what the preset knows.

    Raises:
        ValueError: if neither names any classes.
    """
    known = loaded.metadata.get("zero_shot", {})
    templates = options.template or known.get("templates")
    if options.classes:
        return options.classes, templates
    if options.classes_file:
        lines = options.classes_file.read_text(encoding="utf-8").splitlines()
        names = [line.strip() for line in lines if line.strip()]
        if not names:
            raise ValueError(f"{options.classes_file} holds no class names.")
        return names, templates
    if "class_names" in known:
        loaded.tokenizer.on_truncation = "ignore"  # a few long names, known classes
        return known["class_names"], templates
    raise ValueError(
        f"{options.preset} has no classes of its own: name some with --classes or "
        f"--classes-file."
    )


def run(options: argparse.Namespace) -> int:
    """Classifies and prints; returns the exit code."""
    from rich.console import Console
    from rich.markup import escape

    from keras_pe.evaluation.zero_shot import ZeroShotClassifier
    from keras_pe.preprocessing.batches import load_batches
    from keras_pe.search.picture_index import find_pictures

    paths = [p for given in options.pictures for p in find_pictures(given)]
    loaded = load(options.preset)
    names, templates = classes_and_templates(options, loaded)
    classifier = ZeroShotClassifier(
        loaded.model,
        loaded.tokenizer,
        names,
        templates,
        loaded.image_converter,
        min(options.batch_size, len(paths)),
    )
    batches = load_batches(
        paths,
        loaded.image_converter,
        classifier.batch_size,
        max_skipped_share=1.0,
        progress=show_progress() and len(paths) > options.batch_size,
    )
    console = Console()
    for place, best in classifier.predict_batches(batches, options.top_k):
        if options.json:
            found = [{"class": p.name, "probability": p.probability} for p in best]
            print(json.dumps({"picture": str(paths[place]), "classes": found}))
            continue
        console.print(f"[bold]{escape(str(paths[place]))}[/bold]", soft_wrap=True)
        for prediction in best:
            name = escape(prediction.name)
            console.print(f"  {prediction.probability:6.1%}  {name}")
    return say_skipped(batches.report)
