"""The members of a tar shard, from its headers alone and without trusting them.

Nothing is ever unpacked: names are only keys. Still, whatever a data shard has no use
for is refused, so that no later tool meets it: links, devices, sparse files, absolute
names and names with `..`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from keras_pe.data.shard_files import ShardFile

BLOCK = 512
# Extended headers carry long names; nobody needs longer ones.
MAX_EXTENDED_BYTES = 65_536
# Most members of most shards are smaller than this: one read finds several headers.
LOCAL_WINDOW, REMOTE_WINDOW = 16_384, 8 << 20

_ZEROS = bytes(BLOCK)
_REGULAR = (b"0", b"\0", b"7")
_DIRECTORY = b"5"
_REFUSED = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a named pipe",
    b"K": "a link with a long name",
    b"S": "a sparse file",
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class TarShardError(ValueError):
    """A tar shard that cannot be used.

    Args:
        shard: its path.
        offset: the byte at which the fault was found.
        problem: what was found, what was expected and what to do.

    Example:
        >>> print(TarShardError("a.tar", 512, "A hard link: expected a file."))
        a.tar, byte 512: A hard link: expected a file.
    """

    def __init__(self, shard: str, offset: int, problem: str) -> None:
        super().__init__(f"{shard}, byte {offset}: {problem}")
        self.shard = shard
        self.offset = offset
        self.problem = problem

    def __reduce__(self) -> tuple[type[Self], tuple[str, int, str]]:
        # It travels between processes, and the default would lose the arguments.
        return type(self), (self.shard, self.offset, self.problem)


@dataclass(frozen=True)
class Member:
    """One file in a tar archive.

    Args:
        name: its path in the archive, without a leading `./`.
        offset: first byte of its content in the archive.
        size: bytes of its content.
    """

    name: str
    offset: int
    size: int


def read_members(file: ShardFile, max_member_bytes: int) -> Iterator[Member]:
    """Yields the regular files of a tar archive, in their order.

    Args:
        file: the archive: ustar, pax or GNU tar, not compressed.
        max_member_bytes: a larger member is an error.

    Yields:
        The members; directories are passed over.

    Raises:
        TarShardError: for anything that a sound data shard does not have.

    Source: POSIX.1-2001, pax format; the GNU tar manual, "Basic Tar Format".

    Example:
        >>> from keras_pe.data.shard_files import open_shard_file
        >>> file = open_shard_file("train-00000.tar")               # doctest: +SKIP
        >>> next(read_members(file, 1 << 28)).name                  # doctest: +SKIP
        '000000.jpg'
    """
    window = _Window(file)
    _check_start(window)
    offset = 0
    extended: dict[str, bytes] = {}  # what a header before says about the next member
    awaited = False  # ... which must come
    while True:
        if offset + BLOCK > file.size:
            raise TarShardError(
                file.path,
                min(offset, file.size),
                f"The shard ends here (it has {file.size} bytes) without an "
                "end-of-archive mark: it is truncated. Copy or write it again.",
            )
        block = window.read(offset, BLOCK)
        if block == _ZEROS:
            if awaited:
                raise TarShardError(
                    file.path,
                    offset,
                    "The shard ends behind an extended header: the member that it is "
                    "of is missing. Copy or write the shard again.",
                )
            _check_end(window, offset)
            return
        _check_sum(block, file.path, offset)
        size = _number(block[124:136])
        if size is None:
            raise TarShardError(
                file.path,
                offset,
                f"A size of {block[124:136]!r}: expected an octal number. Copy or "
                "write the shard again.",
            )
        kind = block[156:157]
        content = offset + BLOCK
        if kind in (b"x", b"g", b"L"):
            if extended and kind != b"g":
                raise TarShardError(
                    file.path,
                    offset,
                    "Two extended headers in a row: the member of the first one is "
                    "missing. Copy or write the shard again.",
                )
            extended.update(_extended_header(window, kind, content, size))
            awaited = awaited or kind != b"g"
            offset = _next_header(content, size)
            continue
        name = _text(extended.get("path", _name_bytes(block)), file.path, offset)
        if "size" in extended:
            size = _decimal(extended["size"], file.path, offset)
        extended, awaited = {}, False
        if kind in _REGULAR and not name.endswith("/"):
            _check_size(name, content, size, file, max_member_bytes)
            yield Member(_safe_name(name, file.path, offset), content, size)
        elif kind not in (*_REGULAR, _DIRECTORY) or size:
            raise TarShardError(
                file.path,
                offset,
                f"{name!r} is {_REFUSED.get(kind, f'of type {kind!r}')}: expected "
                "regular files only. Write the shard again without it.",
            )
        else:
            _safe_name(name, file.path, offset)
        offset = _next_header(content, size)


class _Window:
    """Reads blocks of a file, a larger piece at a time."""

    def __init__(self, file: ShardFile) -> None:
        self.file = file
        self._size = REMOTE_WINDOW if "://" in file.path else LOCAL_WINDOW
        self._start = 0
        self._bytes = b""

    def read(self, offset: int, size: int) -> bytes:
        begin = offset - self._start
        if not 0 <= begin <= len(self._bytes) - size:
            self._bytes = self.file.read(offset, max(size, self._size))
            self._start, begin = offset, 0
        piece = self._bytes[begin : begin + size]
        if len(piece) < size:
            raise TarShardError(
                self.file.path,
                offset,
                f"Only {len(piece)} of {size} bytes could be read: the shard is "
                "truncated or was cut while it was read. Copy or write it again.",
            )
        return piece


def _next_header(content: int, size: int) -> int:
    return content + -(-size // BLOCK) * BLOCK


def _check_end(window: _Window, offset: int) -> None:
    """Makes sure that only zeros follow the end-of-archive mark."""
    size = window.file.size
    while offset < size:
        piece = window.file.read(offset, min(1 << 20, size - offset))
        if not piece or piece.strip(b"\0"):
            raise TarShardError(
                window.file.path,
                offset,
                "There is more after the end-of-archive mark, which no reader would "
                "see: shards joined with `cat`? Keep them as separate files.",
            )
        offset += len(piece)


def _check_sum(block: bytes, path: str, offset: int) -> None:
    if not _sum_is_right(block):
        raise TarShardError(
            path,
            offset,
            f"There is no tar header here, it starts with {block[:12]!r}: this is no "
            "tar file, or it is damaged. Copy or write it again.",
        )


def _sum_is_right(block: bytes) -> bool:
    expected = _number(block[148:156])
    spaces = 8 * 32  # the checksum's own field counts as spaces
    if sum(block) - sum(block[148:156]) + spaces == expected:
        return True
    # Some old writers summed signed bytes.
    signed = sum(byte - 256 if byte > 127 else byte for byte in block)
    field = sum(byte - 256 if byte > 127 else byte for byte in block[148:156])
    return signed - field + spaces == expected


def _check_start(window: _Window) -> None:
    """Names what is no tar file, before its bytes are taken for headers."""
    size = window.file.size
    head = window.read(0, min(size, BLOCK)) if size else b""
    if len(head) == BLOCK and _sum_is_right(head):
        return  # a member's name may start like anything
    problem = problem_with_start(head)
    if problem is not None:
        raise TarShardError(window.file.path, 0, problem)


def _number(field: bytes) -> int | None:
    """Reads an octal number, or GNU tar's binary one for large sizes."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    return int(digits or b"0", 8) if re.fullmatch(rb"[0-7]*", digits) else None


def _decimal(field: bytes, path: str, offset: int) -> int:
    if not re.fullmatch(rb"\d{1,19}", field):
        raise TarShardError(
            path, offset, f"A size of {field[:40]!r}: expected a decimal number."
        )
    return int(field)


def _name_bytes(block: bytes) -> bytes:
    name = block[:100].split(b"\0", 1)[0]
    if block[257:263] == b"ustar\0":  # GNU tar keeps times where POSIX has the prefix
        prefix = block[345:500].split(b"\0", 1)[0]
        name = prefix + b"/" + name if prefix else name
    return name


def _extended_header(
    window: _Window, kind: bytes, content: int, size: int
) -> dict[str, bytes]:
    """Reads a pax header (`x`, `g`) or a GNU long name (`L`)."""
    path = window.file.path
    if size > MAX_EXTENDED_BYTES:
        raise TarShardError(
            path,
            content - BLOCK,
            f"An extended header of {size} bytes; expected at most "
            f"{MAX_EXTENDED_BYTES}. Write the shard again with shorter names.",
        )
    data = window.read(content, size)
    if kind == b"L":
        return {"path": data.split(b"\0", 1)[0]}
    records = _pax_records(data, path, content)
    sparse = any(key.startswith("GNU.sparse") for key in records)
    if sparse or (kind == b"g" and records.keys() & {"path", "size"}):
        raise TarShardError(
            path,
            content - BLOCK,
            "A sparse file, or a global header that renames members: expected plain "
            "members. Write the shard again with ordinary settings.",
        )
    if kind == b"g":
        return {}
    return {key: records[key] for key in ("path", "size") if key in records}


def _pax_records(data: bytes, path: str, offset: int) -> dict[str, bytes]:
    """Splits `length key=value\\n` records."""
    records: dict[str, bytes] = {}
    position = 0
    while position < len(data):
        found = re.match(rb"(\d{1,5}) ([^=]+)=", data[position:])
        length = int(found[1]) if found else 0
        record = data[position : position + length]
        if not found or len(record) != length or not record.endswith(b"\n"):
            raise TarShardError(
                path, offset, "A damaged pax header. Copy or write the shard again."
            )
        records[found[2].decode("utf-8", "replace")] = record[found.end() : -1]
        position += length
    return records


def _text(name: bytes, path: str, offset: int) -> str:
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        raise TarShardError(
            path, offset, f"The name {name!r} is not UTF-8. Rename the member."
        ) from None


def _safe_name(name: str, path: str, offset: int) -> str:
    plain = name.removeprefix("./")
    parts = plain.split("/")
    unsafe = (
        plain.startswith("/")
        or ".." in parts
        or "\\" in plain
        or re.match(r"[A-Za-z]:", plain)
        or _CONTROL.search(plain)
    )
    if unsafe or (not plain and name != "./"):
        raise TarShardError(
            path,
            offset,
            f"The name {name!r} is empty, absolute, leaves its folder or has control "
            "characters: expected a relative path. Write the shard again.",
        )
    return plain


def _check_size(
    name: str, content: int, size: int, file: ShardFile, max_member_bytes: int
) -> None:
    if content + size > file.size:
        raise TarShardError(
            file.path,
            content,
            f"{name!r} declares {size} bytes, but the shard has only {file.size}: it "
            "is truncated or damaged. Copy or write it again.",
        )
    if size > max_member_bytes:
        raise TarShardError(
            file.path,
            content,
            f"{name!r} has {size} bytes; expected at most {max_member_bytes}. Raise "
            "`max_member_bytes` if that is right.",
        )


# === A file called `.tar` that is none, by its first bytes ===
_COMPRESSED = (
    "It is compressed, so nothing in it can be found directly. Unpack it once (`gunzip "
    "shard.tar.gz`): images hardly compress any further."
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
