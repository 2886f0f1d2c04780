"""What the commands print: safe for any terminal, pipe and file."""

import json
import os
import sys
import unicodedata
from typing import Any

BYTE_OF_A_NAME = range(0xDC80, 0xDD00)  # how Python keeps one that is no UTF-8


def printable(text: object) -> str:
    """Returns text without anything that a terminal would obey or can't show.

    File names hold any byte but two: line ends, escape sequences, bytes that are no
    UTF-8. They are written as in Python's strings.

    Args:
        text: a path or a text.

    Example:
        >>> print(printable("cat\\n\\x1b[31m.png"))
        cat\\n\\x1b[31m.png
    """
    return "".join(map(_shown, str(text)))


def _shown(letter: str) -> str:
    if letter.isprintable() or unicodedata.category(letter) == "Zs":
        return letter
    if ord(letter) in BYTE_OF_A_NAME:
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode("ascii")


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
