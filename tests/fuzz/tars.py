"""Damaged and crafted tar shards: an error that names the byte, or Python's answer."""

import io
import tarfile
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.fuzz.campaign import Campaign, refused
from tests.fuzz.mutations import byte_edits, edited

BLOCK = 512
FORMATS = {
    "ustar": tarfile.USTAR_FORMAT,
    "gnu": tarfile.GNU_FORMAT,
    "pax": tarfile.PAX_FORMAT,
}
# Where in a header, bytes. Of the fields that nobody here needs, such as the mode,
# Python wants numbers: it ends in silence where it finds none.
FIELDS = {
    "name": (0, 100),
    "size": (124, 12),
    "type": (156, 1),
    "magic": (257, 8),
    "prefix": (345, 155),
}
VALUES = (
    b"",
    b"0",
    b"77777777777",
    b"00000000001",
    b"-1",
    b"\x80" + b"\xff" * 11,
    b"\x80" + bytes(7) + b"\x01\0\0\0",
    b"0" * 11,
    b"1",
    b"2",
    b"5",
    b"x",
    b"g",
    b"L",
    b"S",
    b"../x.txt",
    b"/etc/x.txt",
    b"a\0b.txt",
    b"caf\xe9.txt",
    b"0001.png",
    b"._0001.png",
    b"x" * 100,
    b"ustar  \0",
)


def valid_shard(form: int, folder: str = "") -> bytes:
    """Returns a shard of four samples with three files each."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for number in range(4):
            for extension, size in (("png", 700), ("txt", 20), ("json", 512)):
                info = tarfile.TarInfo(f"{folder}{number:04d}.{extension}")
                content = bytes((number + i) % 251 for i in range(size))
                info.size = size
                archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def with_checksums(content: bytearray, offset: int) -> None:
    """Makes the checksum of a header right again."""
    block = content[offset : offset + BLOCK]
    block[148:156] = b" " * 8
    content[offset + 148 : offset + 156] = b"%06o\0 " % sum(block)


def plain(content: bytes) -> bytes:
    """Returns a shard whose headers have ordinary modes, owners and times.

    Python ends in silence at a header where these are no numbers; nobody needs them.
    """
    data = bytearray(content)
    for offset in range(0, len(data) - BLOCK + 1, BLOCK):
        block = data[offset : offset + BLOCK]
        if block[257:262] != b"ustar":
            continue
        spaces = sum(block) - sum(block[148:156]) + 8 * 32
        digits = bytes(block[148:156]).strip(b" \0")
        if digits.isdigit() and int(digits, 8) == spaces:
            data[offset + 100 : offset + 124] = b"0000644\0" * 3
            data[offset + 136 : offset + 148] = b"00000000000\0"
            data[offset + 329 : offset + 345] = b"0000000\0" * 2
            with_checksums(data, offset)
    return bytes(data)


def normal(name: str) -> str:
    """Returns a name with its extension, from the first dot on, in lower case."""
    folder, slash, last = name.rpartition("/")
    stem, dot, extension = last.partition(".")
    return folder + slash + stem + dot + extension.lower()


def many_extensions(count: int) -> bytes:
    """Returns a shard of empty members, each with an extension of its own."""
    blocks = [
        tarfile.TarInfo(f"{i}.e{i}").tobuf(tarfile.USTAR_FORMAT) for i in range(count)
    ]
    return b"".join(blocks) + bytes(2 * BLOCK)


class Tars(Campaign):
    """`TarShards` on damaged shards, and on shards with well-formed nonsense."""

    name = "tars"
    short = 120
    memory_mb = 200
    cpu_seconds = 5.0

    def prepare(self, folder: Path) -> None:
        from keras_pe.data import TarShardError, TarShards

        self.open, self.error = TarShards, TarShardError
        self.path = folder / "shard.tar"
        self.files = {
            **{name: valid_shard(form) for name, form in FORMATS.items()},
            "pax_long": valid_shard(tarfile.PAX_FORMAT, "kä" * 60 + "/"),
            "gnu_long": valid_shard(tarfile.GNU_FORMAT, "x" * 120 + "/"),
        }

    def cases(self) -> st.SearchStrategy[Any]:
        def of_file(name: str) -> st.SearchStrategy[Any]:
            size = len(self.files[name])
            header = st.tuples(
                st.integers(0, 20),
                st.sampled_from(sorted(FIELDS)),
                st.sampled_from(VALUES),
            )
            edit = st.tuples(st.just("edit"), st.just(name), byte_edits(size))
            headers = st.tuples(
                st.just("header"),
                st.just(name),
                st.lists(header, min_size=1, max_size=3),
            )
            if name.endswith("long"):  # of two long names Python takes the first
                return edit | headers
            block = st.integers(0, size // BLOCK)
            return (
                edit | headers | st.tuples(st.just("join"), st.just(name), block, block)
            )

        damaged = st.sampled_from(sorted(self.files)).flatmap(of_file)
        many = st.tuples(st.just("many"), st.sampled_from((10, 300, 3000)))
        return st.one_of(*[damaged] * 12, many)

    def material(self, case: Any) -> bytes:
        kind, *more = case
        if kind == "many":
            return many_extensions(more[0])
        name, *more = more
        content = self.files[name]
        if kind == "edit":
            return edited(content, more[0])
        if kind == "join":  # parts of two shards behind each other
            end, start = more
            return content[: end * BLOCK] + content[start * BLOCK :]
        data = bytearray(content)
        headers = [
            i for i in range(0, len(data), BLOCK) if data[i + 257 : i + 262] == b"ustar"
        ]
        for number, field, value in more[0]:
            offset = headers[number % len(headers)]
            if field == "type" and value == b"L" and name.endswith("long"):
                continue  # of two long names in a row Python takes the first
            if field == "size" and data[offset + 156 : offset + 157] in b"Lxg":
                continue  # of a long name: Python reads whole blocks all the same
            # Without the magic of POSIX, names have no prefix; Python reads one anyhow.
            if {"prefix", "magic"} <= {field for _, field, _ in more[0]}:
                continue
            if field == "prefix" and data[offset + 257 : offset + 263] != b"ustar\0":
                continue  # GNU tar keeps times there; Python takes them for a name
            place, size = FIELDS[field]
            data[offset + place : offset + place + size] = value[:size].ljust(
                size, b"\0"
            )
            with_checksums(data, offset)
        return bytes(data)

    def run(self, case: Any) -> str:
        content = self.material(case)
        self.path.write_bytes(content)
        for index in self.path.parent.glob("*.json"):
            index.unlink()
        try:
            shards = self.open(self.path)
            samples = [shards[i] for i in range(len(shards))]
            again = self.open(self.path)  # through the stored index
            assert [again[i] for i in range(len(again))] == samples, (
                "another answer through the stored index"
            )
        except self.error as error:
            return refused(error)
        self.compare(samples, content)
        return "read"

    def compare(self, samples: list[dict[str, Any]], content: bytes) -> None:
        """Every file of every sample must be what Python's tarfile finds there."""
        expected = {}
        with tarfile.open(fileobj=io.BytesIO(plain(content))) as archive:
            for member in archive.getmembers():
                if member.isreg():
                    # From the shard as it is: a file may hold what looks like a header.
                    end = member.offset_data + member.size
                    name = normal(member.name.removeprefix("./"))
                    expected[name] = content[member.offset_data : end]
        found = {
            f"{sample['__key__']}.{extension}": data
            for sample in samples
            for extension, data in sample.items()
            if not extension.startswith("__")
        }
        # Hidden files, and files without key or extension, are no part of a sample.
        lost = {
            name
            for name in set(expected) - set(found)
            if "." in name.split("/")[-1].lstrip(".")
            and not name.split("/")[-1].startswith(".")
        }
        assert not lost, f"silently without {sorted(lost)[:3]}"
        extra = set(found) - set(expected)
        assert not extra, f"files that Python does not find: {sorted(extra)[:3]}"
        other = [name for name in found if found[name] != expected[name]]
        assert not other, f"other content than Python finds: {other[:3]}"
