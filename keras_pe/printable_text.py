"""Text that can be shown anywhere: in a terminal, in a file, in a page."""

import unicodedata

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
