"""Arguments and steps that several commands share."""

import argparse
import sys
from typing import Any, NamedTuple

from keras_pe.models.core import PECore
from keras_pe.preprocessing.image import PEImageConverter
from keras_pe.preprocessing.skip_report import SkipReport
from keras_pe.preprocessing.tokenizer import PETokenizer

BUNDLED_PRESET = "pe_core_emoji_patch8_64"
SOME_SKIPPED = 3  # exit code


class Loaded(NamedTuple):
    """A dual encoder and what prepares its inputs."""

    model: PECore
    tokenizer: PETokenizer
    image_converter: PEImageConverter
    metadata: dict[str, Any]


def add_preset(parser: argparse.ArgumentParser) -> None:
    """Adds `--preset`."""
    parser.add_argument(
        "--preset",
        default=BUNDLED_PRESET,
        metavar="NAME",
        help="preset name, directory, hf://owner/repo[@revision] or kaggle://... "
        "(default: the small one inside the package)",
    )


def add_batch_size(parser: argparse.ArgumentParser) -> None:
    """Adds `--batch-size`."""
    parser.add_argument(
        "--batch-size",
        type=positive,
        default=32,
        metavar="N",
        help="pictures a forward pass (default: 32)",
    )


def positive(text: str) -> int:
    """Parses a positive whole number."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {number}")
    return number


def load(preset: str) -> Loaded:
    """Loads a dual encoder with its tokenizer, converter and metadata."""
    from keras_pe.checkpoints.checksums import read_metadata
    from keras_pe.checkpoints.hub import resolve

    model = PECore.from_preset(preset)
    directory = resolve(preset, need="config").directory  # None for other formats
    return Loaded(
        model,
        PETokenizer.from_preset(preset),
        PEImageConverter.from_preset(preset),
        {} if directory is None else read_metadata(directory),
    )


def show_progress() -> bool:
    """Whether someone is watching: no progress bars in files and pipes."""
    return sys.stderr.isatty()


def say_skipped(report: SkipReport) -> int:
    """Names what was skipped on standard error; returns the exit code."""
    for picture in report.skipped:
        print(f"skipped {picture.name}: {picture.reason}", file=sys.stderr)
    return SOME_SKIPPED if report.skipped else 0
