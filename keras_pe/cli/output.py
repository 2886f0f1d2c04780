"""What the commands print: safe for any terminal, pipe and file."""

import json
import os
import sys
from typing import Any

from keras_pe.printable_text import printable as printable


def print_json(value: Any, indent: int | None = None) -> None:
    """Prints a value as JSON, in ASCII, so that no path is lost on the way."""
    print(json.dumps(value, indent=indent, allow_nan=False))


def prepare_streams() -> None:
    """Lets every text be printed, whatever the encoding of the terminal.

    Raises:
        OSError: if standard output is closed.
    """
    if sys.stderr is None:  # print(file=None) would print to standard output
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    if sys.stdout is None:
        raise OSError(
            "standard output is closed, so there is no place for results. Redirect it "
            "to /dev/null if you do not need them"
        )


def discard_output() -> None:
    """Forgets what could not be printed: Python would try again at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
