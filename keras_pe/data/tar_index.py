"""Which samples a tar shard holds and where: found once, kept beside the shard."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_pe.data.shard_files import ShardFile, read_whole, write_whole
from keras_pe.data.tar_headers import BLOCK, TarShardError, read_members

INDEX_SUFFIX = ".index.json"
_FORMAT = "keras_pe tar index 1"


@dataclass(frozen=True)
class TarIndex:
    """The samples of one shard.

    Args:
        keys: their keys as UTF-8, bytes array (samples,).
        extensions: every extension in the shard, sorted.
        offsets: int64 (samples, extensions): the first byte of each file, or -1
            where a sample has no such file.
        sizes: int64 (samples, extensions): bytes of each file.
    """

    keys: np.ndarray
    extensions: tuple[str, ...]
    offsets: np.ndarray
    sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)

    def key(self, sample: int) -> str:
        """Returns the key of a sample."""
        return self.keys[sample].decode("utf-8")


def load_or_build_index(
    file: ShardFile, max_member_bytes: int, cache: bool = True
) -> TarIndex:
    """Returns the index of a shard: the stored one if it is of this very file.

    Args:
        file: the open shard.
        max_member_bytes: a larger member is an error.
        cache: store a new index as `<shard>.index.json`, if that can be written.

    Returns:
        The index.

    Raises:
        TarShardError: if the shard cannot be used.

    Example:
        >>> from keras_pe.data.shard_files import open_shard_file
        >>> file = open_shard_file("train-00000.tar")               # doctest: +SKIP
        >>> len(load_or_build_index(file, max_member_bytes=1 << 28))  # doctest: +SKIP
        2048
    """
    path = file.path + INDEX_SUFFIX
    stored = read_whole(path) if cache else None
    if stored is not None:
        index = _from_json(stored, file)
        if index is not None and index.sizes.max(initial=0) <= max_member_bytes:
            return index
    index = build_index(file, max_member_bytes)
    if cache:
        write_whole(path, _to_json(index, file))
    return index


def build_index(file: ShardFile, max_member_bytes: int) -> TarIndex:
    """Reads the headers of a shard and groups its files to samples.

    As in WebDataset, the key of `images/0001.seg.png` is `images/0001` and its
    extension `seg.png`; files without either are no part of a sample.

    Args:
        file: the open shard.
        max_member_bytes: a larger member is an error.

    Returns:
        The index, with samples in the order of their first file.

    Raises:
        TarShardError: if the shard cannot be used.

    Source: https://github.com/webdataset/webdataset, "The WebDataset Format".

    Example:
        >>> from keras_pe.data.shard_files import open_shard_file
        >>> file = open_shard_file("train-00000.tar")               # doctest: +SKIP
        >>> build_index(file, 1 << 28).extensions                   # doctest: +SKIP
        ('json', 'webp')
    """
    samples: dict[str, dict[str, tuple[int, int]]] = {}
    extensions: set[str] = set()
    for member in read_members(file, max_member_bytes):
        key, extension = split_name(member.name)
        if not key or not extension:
            continue
        files = samples.setdefault(key, {})
        if extension in files or extension.startswith("__"):
            raise TarShardError(
                file.path,
                member.offset - BLOCK,
                f"{member.name!r} comes twice, or has a reserved extension: expected "
                "each name once. Write the shard again.",
            )
        files[extension] = (member.offset, member.size)
        extensions.add(extension)
    if not samples:
        raise TarShardError(
            file.path,
            0,
            "It holds no sample: expected files such as `0001.jpg` and `0001.txt`.",
        )
    return _index(samples, tuple(sorted(extensions)))


def split_name(name: str) -> tuple[str, str]:
    """Splits the name of a member into key and extension.

    Args:
        name: a path in the archive.

    Returns:
        The path up to the first dot of its last part, and what follows in lower
        case; one of them is empty if the file belongs to no sample.

    Example:
        >>> split_name("images/0001.seg.PNG")
        ('images/0001', 'seg.png')
    """
    folder, slash, last = name.rpartition("/")
    stem, _, extension = last.partition(".")
    return (folder + slash + stem if stem else ""), extension.lower()


def _index(
    samples: dict[str, dict[str, tuple[int, int]]], extensions: tuple[str, ...]
) -> TarIndex:
    column = {extension: place for place, extension in enumerate(extensions)}
    offsets = np.full((len(samples), len(extensions)), -1, np.int64)
    sizes = np.zeros_like(offsets)
    for row, files in enumerate(samples.values()):
        for extension, (offset, size) in files.items():
            offsets[row, column[extension]] = offset
            sizes[row, column[extension]] = size
    return TarIndex(_key_array(samples), extensions, offsets, sizes)


def _key_array(keys: Any) -> np.ndarray:
    # A tenth of the memory of a list of strings.
    return np.array([key.encode("utf-8") for key in keys])


def _to_json(index: TarIndex, file: ShardFile) -> bytes:
    content = {
        "format": _FORMAT,
        "shard": file.fingerprint,
        "extensions": index.extensions,
        "keys": [key.decode("utf-8") for key in index.keys.tolist()],
        "offsets": index.offsets.tolist(),
        "sizes": index.sizes.tolist(),
    }
    return json.dumps(content, separators=(",", ":")).encode()


def _from_json(stored: bytes, file: ShardFile) -> TarIndex | None:
    """Reads a stored index; None if it is of another file, damaged or implausible."""
    try:
        content = json.loads(stored)
        if content["format"] != _FORMAT or content["shard"] != file.fingerprint:
            return None
        index = TarIndex(
            _key_array(content["keys"]),
            tuple(content["extensions"]),
            np.array(content["offsets"], np.int64),
            np.array(content["sizes"], np.int64),
        )
        shape = (len(index.keys), len(index.extensions))
        present = index.offsets >= 0
        sound = (
            index.offsets.shape == index.sizes.shape == shape
            and len(index) > 0
            and len(set(content["keys"])) == len(index)
            and all(isinstance(extension, str) for extension in index.extensions)
            and index.sizes.min() >= 0
            # Whoever can write beside the shard must not reach bytes beyond it.
            and (index.offsets + index.sizes)[present].max(initial=0) <= file.size
            and present.any(axis=1).all()
        )
        return index if sound else None
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None
