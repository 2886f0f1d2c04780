"""Random access to samples in ArrayRecord files, and how to write them.

A record is one sample: the four bytes `KPE1`, the length of a header as a 32-bit
little-endian number, the header as JSON (`{"key": "000123", "files": [["webp", 1200],
["json", 300]]}`), then the files one after the other. ArrayRecord itself holds the
index and a checksum of every record, so this is the format for very large sets.

Grain's `ArrayRecordDataSource` takes files that it cannot read for empty ones, names
none in its errors, and its readers do not survive a fork.
"""

import functools
import json
import os
import struct
import threading
from collections.abc import Iterable
from typing import Any, SupportsIndex

import numpy as np

from keras_pe.data.shard_files import (
    NumberedSamples,
    Paths,
    Sample,
    expand_paths,
    joined_digest,
    open_shard_file,
    spots_digest,
)
from keras_pe.files import file_aside

_MAGIC = b"KPE1"
_HEAD = struct.Struct("<4sI")
# Records are found by number, so each has to be a chunk of its own.
_WRITER_OPTIONS = "group_size:1"
_READER_OPTIONS = "readahead_buffer_size:0"
_READER_BUFFER = 32_768


class ArrayRecordError(ValueError):
    """An ArrayRecord file that cannot be used, or a record that is not a sample.

    Example:
        >>> try:
        ...     shards = ArrayRecordShards("missing.array_record")
        ... except ArrayRecordError as error:
        ...     print("missing.array_record" in str(error))
        True
    """


class ArrayRecordShards(NumberedSamples):
    """The samples of ArrayRecord files, by number, in the order of the files.

    The same interface as `TarShards`; only counts are held in memory.

    Args:
        paths: local paths, globs and brace ranges: see `expand_paths`.

    Raises:
        ArrayRecordError: if a file is missing, truncated or something else.
        ImportError: without the package `array_record`.

    Source: https://github.com/google/array_record

    Example:
        >>> said = ((0, b"an owl"), (1, b"a fox"))
        >>> samples = [{"__key__": f"{n}", "txt": text} for n, text in said]
        >>> _ = write_array_record("two.arrayrecord", samples)
        >>> ArrayRecordShards("two.arrayrecord")[1]["txt"]
        b'a fox'
    """

    _files_are = "files"

    def __init__(self, paths: Paths) -> None:
        self.paths = expand_paths(paths)
        self._reset()
        counts = [self._reader(shard).num_records() for shard in range(len(self.paths))]
        self._starts = np.cumsum([0, *counts])
        if not len(self):
            raise ArrayRecordError(f"{self.paths}: no record in them.")

    def __getitem__(self, number: SupportsIndex) -> Sample:
        """Reads one sample.

        Args:
            number: its position, 0 to `len(self) - 1`.

        Returns:
            `__key__`, `__shard__`, and for each extension the bytes of the file.
        """
        shard, row = self._locate(number)
        path = self.paths[shard]
        try:
            record = self._reader(shard).read([row])[0]
        except RuntimeError as error:
            raise ArrayRecordError(
                f"{path}, record {row}: {error}. Copy or write the file again."
            ) from error
        try:
            return {**unpack_sample(record), "__shard__": path}
        except ArrayRecordError as error:
            raise ArrayRecordError(f"{path}, record {row}: {error}") from None

    @functools.cached_property
    def digest(self) -> str:
        """Tells these data from others of the same names and counts.

        From sizes, the files' ends, where ArrayRecord keeps what it knows of every
        record, and spots of 1,024 bytes: a change in place between them is not seen.
        """
        return joined_digest(spots_digest(open_shard_file(path)) for path in self.paths)

    def describe(self, number: SupportsIndex) -> str:
        """Names a sample for messages, without reading it.

        Args:
            number: its position.

        Returns:
            Record and file.
        """
        shard, row = self._locate(number)
        return f"record {row} in {self.paths[shard]}"

    def __getstate__(self) -> dict[str, Any]:
        return {"paths": self.paths, "_starts": self._starts}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def _reset(self) -> None:
        self._readers: dict[int, Any] = {}
        self._lock = threading.Lock()
        self._process = os.getpid()

    def _reader(self, shard: int) -> Any:
        if self._process != os.getpid():  # its threads did not survive the fork
            self._reset()
        with self._lock:
            if shard not in self._readers:
                self._readers[shard] = _open(self.paths[shard])
            return self._readers[shard]


def write_array_record(path: str | os.PathLike[str], samples: Iterable[Sample]) -> int:
    """Writes samples into one ArrayRecord file: all of it appears, or nothing.

    Args:
        path: the local file to write.
        samples: as `TarShards` gives them: `__key__`, and bytes for each extension.

    Returns:
        How many were written.

    Example:
        >>> said = ((0, b"an owl"), (1, b"a fox"))
        >>> samples = [{"__key__": f"{n}", "txt": text} for n, text in said]
        >>> write_array_record("animals.arrayrecord", samples)
        2
    """
    module = _module()
    count = 0
    with file_aside(path) as aside:
        writer = module.ArrayRecordWriter(str(aside), _WRITER_OPTIONS)
        try:
            for sample in samples:
                writer.write(pack_sample(sample))
                count += 1
        finally:
            writer.close()
    return count


def pack_sample(sample: Sample) -> bytes:
    """Makes a record of a sample.

    Args:
        sample: `__key__`, and bytes for each extension; other names that begin with
            two underscores are left out.

    Returns:
        The record.

    Example:
        >>> unpack_sample(pack_sample({"__key__": "7", "txt": b"a cat"}))
        {'__key__': '7', 'txt': b'a cat'}
    """
    files = {name: content for name, content in sample.items() if name[:2] != "__"}
    for name, content in files.items():
        if not isinstance(content, bytes | bytearray | memoryview):
            raise ValueError(
                f"{name!r} of sample {sample['__key__']!r} is a "
                f"{type(content).__name__}: expected bytes."
            )
    header = {
        "key": sample["__key__"],
        "files": [[name, len(content)] for name, content in files.items()],
    }
    encoded = json.dumps(header, ensure_ascii=False).encode()
    return b"".join([_HEAD.pack(_MAGIC, len(encoded)), encoded, *files.values()])


def unpack_sample(record: bytes) -> Sample:
    """Makes a sample of a record.

    Args:
        record: what `pack_sample` made.

    Returns:
        `__key__`, and bytes for each extension.

    Raises:
        ArrayRecordError: if it is anything else.

    Example:
        >>> unpack_sample(pack_sample({"__key__": "7"}))["__key__"]
        '7'
    """
    try:
        magic, length = _HEAD.unpack_from(record)
        if magic != _MAGIC:
            raise ValueError(f"it starts with {record[:4]!r}")
        position = _HEAD.size + length
        header = json.loads(record[_HEAD.size : position])
        sample: Sample = {"__key__": str(header["key"])}
        for name, size in header["files"]:
            if name[:2] == "__" or name in sample or size < 0:
                raise ValueError(f"it has a file {name!r} of {size} bytes")
            sample[name] = record[position : position + size]
            position += size
        if position != len(record):
            raise ValueError(f"it has {len(record)} bytes, not {position}")
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise ArrayRecordError(
            f"No sample ({error}): expected a record of `write_array_record`."
        ) from None
    return sample


def _open(path: str) -> Any:
    module = _module()
    if not os.path.isfile(path):
        raise ArrayRecordError(f"{path}: no such file; expected a local file.")
    reader = module.ArrayRecordReader(
        path, options=_READER_OPTIONS, file_reader_buffer_size=_READER_BUFFER
    )
    # The reader says nothing of a file it cannot read: it has no records, that is all.
    if not reader.ok():
        raise ArrayRecordError(
            f"{path}: not an ArrayRecord file, or truncated. Copy or write it again."
        )
    return reader


def _module() -> Any:
    try:
        from array_record.python import array_record_module
    except ImportError as error:
        raise ImportError(
            "ArrayRecord files need the package array_record, which `pip install "
            '"keras-pe[train]"` brings on Linux and macOS. Use TarShards without it.'
        ) from error
    return array_record_module
