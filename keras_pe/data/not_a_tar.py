"""What a file called `.tar` is when it is none: named by its first bytes."""

from __future__ import annotations

_COMPRESSED = (
    "It is compressed, so nothing in it can be found directly. Unpack it once (`gunzip "
    "shard.tar.gz`): pictures hardly compress any further."
)
_PAGE = (
    "It is {}, as servers send in the place of a file that they do not give: look at "
    "it with a text editor, then download the shard again."
)
_STARTS = (
    (b"\x1f\x8b", _COMPRESSED),  # gzip
    (b"BZh", _COMPRESSED),
    (b"\x28\xb5\x2f\xfd", _COMPRESSED),  # Zstandard
    (b"\xfd7zXZ\0", _COMPRESSED),
    (b"PK\x03\x04", "It is a ZIP archive: write its files as a tar shard."),
    (b"PAR1", "It is a Parquet table: write its rows as a tar shard."),
    (
        b"version https://git-lfs",
        "It is the pointer that Git leaves in the place of a large file: fetch the "
        "file itself (`git lfs pull`).",
    ),
    (b"<", _PAGE.format("a page of HTML or XML")),
    (b"{", _PAGE.format("a text of JSON")),
)


def problem_with_start(head: bytes) -> str | None:
    """Says what a file is that is no tar archive, as far as its start tells.

    Args:
        head: its first bytes, at most a block of tar, without a tar header's checksum.

    Returns:
        A sentence with what to do, or None where nothing is known.

    Example:
        >>> problem_with_start(b"<html>404</html>")[:27]
        'It is a page of HTML or XML'
    """
    if not head:
        return "It is empty (0 bytes). Copy or write the shard again."
    plain = head.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n")
    return next((said for start, said in _STARTS if plain.startswith(start)), None)
