"""Random access to the samples of WebDataset-style tar shards, and how shards open."""

import functools
import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any, SupportsIndex

import numpy as np

from keras_pe.data.array_record_shards import ArrayRecordShards
from keras_pe.data.shard_files import (
    IMAGE_EXTENSIONS,
    NumberedSamples,
    Paths,
    Sample,
    ShardFile,
    expand_paths,
    is_url,
    joined_digest,
    open_shard_file,
)
from keras_pe.data.tar_headers import TarShardError
from keras_pe.data.tar_index import TarIndex, collapsed_pairs, load_or_build_index

MAX_OPEN_SHARDS = 64
# Files of a sample lie side by side; a gap this small is read rather than skipped.
_MAX_GAP = 65_536


class TarShards(NumberedSamples):
    """The samples of tar shards, by number, in the order of the shards.

    A sample is the files with a common key: `000123.webp` with `000123.json` or
    `000123.txt`. The headers of each shard are read once; where its samples lie is kept
    beside it (`<shard>.index.json`), so that the next start takes milliseconds. Memory
    is about 16 bytes a file and the key of a sample; beyond some 100 million samples a
    process use `ArrayRecordShards`.

    Can be pickled, forked and used from several threads. Nothing is unpacked.

    Args:
        paths: paths, globs, brace ranges and URLs: see `expand_paths`.
        extensions: read only these files of each sample; `None` reads all.
        max_member_bytes: a file larger than this makes its shard an error.
        cache_index: keep indexes beside the shards, where that can be written.
        num_threads: shards to look at side by side at the start.

    Attributes:
        paths: the shards.
        digest: tells these data from others of the same names and counts, see
            `keras_pe.data.tar_index.shard_digest`.

    Raises:
        TarShardError: for a shard that is truncated, compressed, damaged, or holds
            links, devices, unsafe or repeated names; it names shard and byte.
        FileNotFoundError: if a shard is missing or a pattern matches nothing.

    Source: https://github.com/webdataset/webdataset, "The WebDataset Format".

    Example:
        >>> import io, tarfile
        >>> from PIL import Image
        >>> stream = io.BytesIO()
        >>> Image.new("RGB", (8, 8)).save(stream, "PNG")
        >>> with tarfile.open("owls.tar", "w") as tar:
        ...     for name, data in (("0.png", stream.getvalue()), ("0.txt", b"an owl")):
        ...         member = tarfile.TarInfo(name)
        ...         member.size = len(data)
        ...         tar.addfile(member, io.BytesIO(data))
        >>> shards = TarShards("owls.tar")
        >>> len(shards), sorted(shards[0])
        (1, ['__key__', '__shard__', 'png', 'txt'])
    """

    def __init__(
        self,
        paths: Paths,
        *,
        extensions: Collection[str] | None = None,
        max_member_bytes: int = 256 << 20,
        cache_index: bool = True,
        num_threads: int = 16,
    ) -> None:
        if isinstance(extensions, str):
            raise ValueError(f"extensions={extensions!r}: expected a list of them.")
        self.paths = expand_paths(paths)
        self.extensions = None if extensions is None else frozenset(extensions)
        self.max_member_bytes = int(max_member_bytes)
        self.cache_index = cache_index
        with ThreadPoolExecutor(min(num_threads, len(self.paths))) as pool:
            found = list(pool.map(self._open_and_index, self.paths))
        self._fingerprints = [file.fingerprint for file, _ in found]
        self._indexes: list[TarIndex | None] = [index for _, index in found]
        self._starts = np.cumsum([0, *(len(index) for _, index in found)])
        self._check_extensions([index for _, index in found])
        self._warn_of_dots([index for _, index in found])
        self.digest = joined_digest(index.digest for _, index in found)
        self._reset()

    def __getitem__(self, number: SupportsIndex) -> Sample:
        """Reads one sample.

        Args:
            number: its position, 0 to `len(self) - 1`.

        Returns:
            `__key__`, `__shard__`, and for each extension the bytes of the file.
        """
        shard, row = self._locate(number)
        index = self._index(shard)
        files = {
            extension: place
            for extension, place in index.files(row).items()
            if self.extensions is None or extension in self.extensions
        }
        sample: Sample = {"__key__": index.key(row), "__shard__": self.paths[shard]}
        sample.update(_read_files(self._file(shard), files))
        return sample

    def describe(self, number: SupportsIndex) -> str:
        """Names a sample for messages, without reading it.

        Args:
            number: its position.

        Returns:
            Key and shard.
        """
        shard, row = self._locate(number)
        return f"{self._index(shard).key(row)} in {self.paths[shard]}"

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        for name in ("_files", "_lock", "_process"):
            del state[name]
        if self.cache_index:  # cheaper to load again than to send to every process
            state["_indexes"] = [None] * len(self.paths)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def _reset(self) -> None:
        """Starts without open files: they belong to one process."""
        self._files: OrderedDict[int, ShardFile] = OrderedDict()
        self._lock = threading.Lock()
        self._process = os.getpid()

    def _open_and_index(self, path: str) -> tuple[ShardFile, TarIndex]:
        file = open_shard_file(path)
        return file, load_or_build_index(file, self.max_member_bytes, self.cache_index)

    def _index(self, shard: int) -> TarIndex:
        index = self._indexes[shard]
        if index is None:  # another process made it: this one loads what it needs
            file = self._file(shard)
            index = load_or_build_index(file, self.max_member_bytes, self.cache_index)
            self._indexes[shard] = index
        return index

    def _file(self, shard: int) -> ShardFile:
        """Returns the open shard of this process; the longest unused is closed."""
        if self._process != os.getpid():  # after a fork
            self._reset()
        with self._lock:
            file = self._files.get(shard)
            if file is not None:
                self._files.move_to_end(shard)
                return file
        file = open_shard_file(self.paths[shard])
        if file.fingerprint != self._fingerprints[shard]:
            raise TarShardError(
                file.path,
                0,
                f"The shard changed while in use: it was ({self._fingerprints[shard]})"
                f" and is ({file.fingerprint}). Start again.",
            )
        with self._lock:
            self._files[shard] = file
            # Dropped, not closed: another thread may be reading from it.
            while len(self._files) > MAX_OPEN_SHARDS:
                self._files.popitem(last=False)
        return file

    def _check_extensions(self, indexes: list[TarIndex]) -> None:
        there = {extension for index in indexes for extension in index.extensions}
        missing = sorted((self.extensions or set()) - there)
        if missing:
            raise ValueError(
                f"extensions={sorted(self.extensions or ())}: no sample has {missing};"
                f" these shards hold {sorted(there)}."
            )

    def _warn_of_dots(self, indexes: list[TarIndex]) -> None:
        """Warns once, of the first shard, however many are alike."""
        for path, index in zip(self.paths, indexes, strict=True):
            said = collapsed_pairs(index, IMAGE_EXTENSIONS)
            if said is not None:
                warnings.warn(f"{path}: {said}", stacklevel=3)
                return


def _read_files(file: ShardFile, files: dict[str, tuple[int, int]]) -> dict[str, bytes]:
    """Reads the files of one sample, {name: (offset, size)}, in one go if near."""
    if not files:
        return {}
    start = min(offset for offset, _ in files.values())
    end = max(offset + size for offset, size in files.values())
    used = sum(size for _, size in files.values())
    if end - start - used > _MAX_GAP:
        return {
            name: _read(file, offset, size) for name, (offset, size) in files.items()
        }
    block = _read(file, start, end - start)
    return {
        name: block[offset - start : offset - start + size]
        for name, (offset, size) in files.items()
    }


def _read(file: ShardFile, offset: int, size: int) -> bytes:
    content = file.read(offset, size)
    if len(content) != size:
        raise TarShardError(
            file.path,
            offset,
            f"Only {len(content)} of {size} bytes could be read: the shard was cut "
            "short while in use. Copy or write it again.",
        )
    return content


# === Shards of either kind ===
ARRAY_RECORD_ENDINGS = (".arrayrecord", ".array_record")


def open_shards(data: str) -> TarShards | ArrayRecordShards:
    """Opens tar shards, or ArrayRecord files if they are called `*.arrayrecord`.

    Those that were opened before are not read again, unless the pattern now stands
    for others or a local file was changed since.

    Args:
        data: path, folder, glob, brace range or URL: see `keras_pe.data.TarShards`.

    Raises:
        ValueError: if both kinds are among them.
    """
    paths = expand_paths(data)
    records = [path for path in paths if path.endswith(ARRAY_RECORD_ENDINGS)]
    if records and len(records) < len(paths):
        other = next(path for path in paths if path not in records)
        raise ValueError(
            f"{data!r} is {records[0]} and {other}: expected tar shards or ArrayRecord "
            "files, not both in one run."
        )
    kind = ArrayRecordShards if records else TarShards
    return _opened(kind, tuple(paths), tuple(map(_state, paths)))


@functools.lru_cache(maxsize=4)
def _opened(
    kind: type[TarShards] | type[ArrayRecordShards],
    paths: tuple[str, ...],
    states: tuple[object, ...],
) -> TarShards | ArrayRecordShards:
    """Opens shards; `states` tell files apart that have one name after the other."""
    return kind(list(paths))


def _state(path: str) -> object:
    """Returns what differs once a local file is another one; None of a URL."""
    if is_url(path):
        return None
    try:
        info = os.stat(path)
    except OSError:
        return None  # who opens it says so
    return os.path.abspath(path), info.st_size, info.st_mtime_ns, info.st_ino
