"""Arguments and steps that several commands share."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from keras_pe.cli.output import printable
from keras_pe.models.preset_parts import PresetParts as PresetParts
from keras_pe.models.preset_parts import load_parts

if TYPE_CHECKING:
    from keras_pe.preprocessing.image_errors import SkipReport

BUNDLED_PRESET = "pe_core_emoji_patch8_64"
BUNDLED_CAPTIONER = "pe_captioner_emoji_patch8_64"
FAILED, SOME_SKIPPED = 1, 3  # exit codes
load = load_parts


# === Arguments ===
def add_preset(
    parser: argparse.ArgumentParser,
    otherwise: str = "the small one inside the package, trained on drawings",
) -> None:
    """Adds `--preset`."""
    parser.add_argument(
        "--preset",
        type=text,
        metavar="NAME",
        help="preset name, directory, hf://owner/repo[@revision] or kaggle://... "
        f"(default: {otherwise})",
    )


def add_images(parser: argparse.ArgumentParser, nargs: str = "+") -> None:
    """Adds the images."""
    parser.add_argument(
        "images",
        nargs=nargs,
        type=path,
        metavar="IMAGE",
        help="file, or folder with all below it",
    )


def add_batch_size(parser: argparse.ArgumentParser) -> None:
    """Adds `--batch-size`."""
    parser.add_argument(
        "--batch-size",
        type=positive,
        default=32,
        metavar="N",
        help="images a forward pass (default: 32)",
    )


def add_json(parser: argparse.ArgumentParser, what: str) -> None:
    """Adds `--json`."""
    parser.add_argument("--json", action="store_true", help=f"print {what} as JSON")


def positive(text: str) -> int:
    """Parses a positive whole number."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {number}")
    return number


def path(text: str) -> Path:
    """Parses a path: `Path("")` would be the working directory."""
    if not text:
        raise argparse.ArgumentTypeError("empty path")
    return Path(text)


def text(text: str) -> str:
    """Parses a text that is not empty."""
    if not text:
        raise argparse.ArgumentTypeError("empty text")
    return text


# === Steps ===
def chosen_preset(given: str | None) -> str:
    """Returns the preset that was asked for, or the bundled one, saying which it is.

    Args:
        given: what `--preset` says; None without it. A model of drawings names any
            photograph too, and wrongly: whoever did not choose it should know.
    """
    if given is not None:
        return given
    tell(
        f"model: {BUNDLED_PRESET}, in the package and trained on drawings; for "
        f"photographs: --preset pe_core_base_patch16_224"
    )
    return BUNDLED_PRESET


def find_all(given: Sequence[Path]) -> list[Path]:
    """Returns the images of files and folders."""
    from keras_pe.search.image_index import find_images

    return [found for one in given for found in find_images(one)]


def lasting_handle(preset: str) -> str:
    """Returns a handle that means the same in another working directory."""
    return os.path.abspath(preset) if os.path.exists(preset) else preset


def show_progress() -> bool:
    """Whether someone is watching: no progress bars in files and pipes."""
    return sys.stderr.isatty()


def tell(line: str) -> None:
    """Says what is going on, on standard error, at once."""
    print(line, file=sys.stderr, flush=True)


def say_skipped(report: "SkipReport") -> int:
    """Names what was skipped on standard error; returns the exit code."""
    for image in report.skipped:
        tell(f"skipped {printable(image.name)}: {image.reason}")
    if not report.skipped:
        return 0
    if report.num_skipped == report.num_images:
        tell("keras-pe: none of the images could be read")
        return FAILED
    return SOME_SKIPPED
