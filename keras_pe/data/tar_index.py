"""Which samples a tar shard holds and where: found once, kept beside the shard."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from keras_pe.data.shard_files import ShardFile, read_whole, write_whole
from keras_pe.data.tar_headers import BLOCK, TarShardError, read_members

INDEX_SUFFIX = ".index.json"
# No shard has as many kinds of files. The frames of a clip do count as kinds.
MAX_EXTENSIONS = 1024
_FORMAT = "keras_pe tar index 2"
_HEAD = b'{"checksum":"%s",'  # of all bytes that follow; with them, JSON
# Content that the digest looks at: so many files, and so many bytes at the end of each,
# for the beginnings of images from one program are alike.
_DIGEST_FILES, _DIGEST_BYTES = 16, 1024
FIRST_DOT = (
    "A sample's key ends at the first dot of the last part of a name, as in "
    "WebDataset: `img.v2.0.png` is the file `v2.0.png` of the sample `img`. Write the "
    "shard again with other signs in the place of the further dots (`img-v2-0.png`)"
)


@dataclass(frozen=True)
class TarIndex:
    """The samples of one shard; memory grows with its files, whatever they are called.

    Args:
        keys: their keys as UTF-8, bytes array (samples,).
        extensions: every extension in the shard, sorted.
        starts: int64 (samples + 1,): where each sample's files begin in what follows.
        columns: int16 (files,): which of the extensions each file has.
        offsets: int64 (files,): the first byte of each file.
        sizes: int64 (files,): bytes of each file.
        digest: of names, sizes and samples of the content: see `shard_digest`.
    """

    keys: np.ndarray
    extensions: tuple[str, ...]
    starts: np.ndarray
    columns: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray
    digest: str

    def __len__(self) -> int:
        return len(self.keys)

    def key(self, sample: int) -> str:
        """Returns the key of a sample."""
        return self.keys[sample].decode("utf-8")

    def files(self, sample: int) -> dict[str, tuple[int, int]]:
        """Returns `{extension: (offset, size)}` of a sample."""
        rows = range(int(self.starts[sample]), int(self.starts[sample + 1]))
        return {
            self.extensions[self.columns[row]]: (
                int(self.offsets[row]),
                int(self.sizes[row]),
            )
            for row in rows
        }


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
        if len(extensions) > MAX_EXTENSIONS:
            some = ", ".join(f"`{name:.40}`" for name in sorted(extensions)[:3])
            raise TarShardError(
                file.path,
                member.offset - BLOCK,
                f"{member.name!r} is of kind number {len(extensions)} ({some}, ...); "
                f"expected at most {MAX_EXTENSIONS} kinds of files. {FIRST_DOT}.",
            )
    if not samples:
        raise TarShardError(
            file.path,
            0,
            "It holds no sample: expected files such as `0001.jpg` and `0001.txt`.",
        )
    return _index(samples, tuple(sorted(extensions)), file)


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


def collapsed_pairs(index: TarIndex, images: Iterable[str]) -> str | None:
    """Says whether further dots in the names of a shard made samples disappear.

    Args:
        index: of the shard.
        images: extensions of images, such as `"png"`.

    Returns:
        A warning, or None. Frames (`1.000.jpg`, `1.001.jpg`, `1.json`) and masks
        (`1.jpg`, `1.seg.png`) are as they should be: an image with a text of its own
        (`1.v2.png`, `1.v2.txt`) is not, nor are samples of which no name is plain.
    """
    ends: dict[str, set[str]] = {}
    for extension in index.extensions:
        middle, _, end = extension.rpartition(".")
        ends.setdefault(middle, set()).add(end)
    plain = ends.pop("", set())
    known = set(images)
    pairs = [m for m, found in ends.items() if found & known and found - known]
    if not pairs and (plain or not ends):
        return None
    example = next(x for x in index.extensions if x.rpartition(".")[0] in ends)
    return (
        f"its {len(index.sizes)} files make {len(index)} samples, the first of them "
        f"with {int(index.starts[1])} files, such as `{index.key(0)}.{example}`. "
        f"{FIRST_DOT}, if that is not what was meant."
    )


def shard_digest(
    file: ShardFile,
    keys: Iterable[bytes],
    extensions: tuple[str, ...],
    columns: np.ndarray,
    offsets: np.ndarray,
    sizes: np.ndarray,
) -> str:
    """Returns what tells the content of a shard from another of the same name.

    The same for a copy, and for a shard written again with the same content, whatever
    times and owners its headers hold. Another name, order, size or number of files
    always gives another digest. Content of the very same sizes is looked at in the
    last 1,024 bytes of 16 files at even distances, so a change in place within the
    other files is *not* seen; more would mean to read all data before training.

    Args:
        file: the open shard.
        keys: of its samples, as UTF-8.
        extensions: of its files.
        columns: which of them each file has.
        offsets: first byte of each file.
        sizes: bytes of each file.

    Returns:
        A SHA-256 as hexadecimal digits.
    """
    digest = hashlib.sha256("\0".join(extensions).encode() + b"\0\0")
    for key in keys:
        digest.update(key + b"\0")
    digest.update(columns.astype("<i2").tobytes() + sizes.astype("<i8").tobytes())
    places = np.linspace(0, len(sizes) - 1, min(_DIGEST_FILES, len(sizes)))
    for row in places.round().astype(int):
        size = min(int(sizes[row]), _DIGEST_BYTES)
        digest.update(file.read(int(offsets[row] + sizes[row]) - size, size))
    return digest.hexdigest()


def _index(
    samples: dict[str, dict[str, tuple[int, int]]],
    extensions: tuple[str, ...],
    file: ShardFile,
) -> TarIndex:
    column = {extension: place for place, extension in enumerate(extensions)}
    counts = [len(files) for files in samples.values()]
    found = [item for files in samples.values() for item in files.items()]
    columns = np.array([column[extension] for extension, _ in found], np.int16)
    offsets = np.array([offset for _, (offset, _) in found], np.int64)
    sizes = np.array([size for _, (_, size) in found], np.int64)
    keys = _key_array(samples)
    return TarIndex(
        keys,
        extensions,
        np.cumsum([0, *counts], dtype=np.int64),
        columns,
        offsets,
        sizes,
        shard_digest(file, keys.tolist(), extensions, columns, offsets, sizes),
    )


def _key_array(keys: Iterable[str]) -> np.ndarray:
    # A tenth of the memory of a list of strings.
    return np.array([key.encode("utf-8") for key in keys])


def _to_json(index: TarIndex, file: ShardFile) -> bytes:
    content = {
        "format": _FORMAT,
        "shard": file.fingerprint,
        "digest": index.digest,
        "extensions": index.extensions,
        "keys": [key.decode("utf-8") for key in index.keys.tolist()],
        "counts": np.diff(index.starts).tolist(),
        "columns": index.columns.tolist(),
        "offsets": index.offsets.tolist(),
        "sizes": index.sizes.tolist(),
    }
    body = json.dumps(content, separators=(",", ":")).encode()[1:]
    return _HEAD % _checksum(body) + body


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()


def _from_json(stored: bytes, file: ShardFile) -> TarIndex | None:
    """Reads a stored index; None if it is of another file, damaged or implausible."""
    try:
        # A digit that changed on a disk would be an offset as good as any.
        length = len(_HEAD % _checksum(b""))
        if stored[:length] != _HEAD % _checksum(stored[length:]):
            return None
        content = json.loads(stored)
        if content["format"] != _FORMAT or content["shard"] != file.fingerprint:
            return None
        counts = np.array(content["counts"], np.int64)
        index = TarIndex(
            _key_array(content["keys"]),
            tuple(content["extensions"]),
            np.cumsum([0, *counts.tolist()], dtype=np.int64),
            np.array(content["columns"], np.int16),
            np.array(content["offsets"], np.int64),
            np.array(content["sizes"], np.int64),
            content["digest"],
        )
        return index if _is_sound(index, counts, file) else None
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError):
        return None
    except RecursionError:  # deep nesting
        return None


def _is_sound(index: TarIndex, counts: np.ndarray, file: ShardFile) -> bool:
    files = (int(index.starts[-1]),)
    if not (
        len(index) > 0
        and counts.shape == (len(index),)
        and counts.min() > 0
        and index.columns.shape == index.offsets.shape == index.sizes.shape == files
        and len(set(index.keys.tolist())) == len(index)
        and all(isinstance(extension, str) for extension in index.extensions)
        and isinstance(index.digest, str)
    ):
        return False
    rows = np.repeat(np.arange(len(index)), counts)
    distinct = {*zip(rows.tolist(), index.columns.tolist(), strict=True)}
    return bool(
        index.columns.min() >= 0
        and index.columns.max() < len(index.extensions) <= MAX_EXTENSIONS
        and len(distinct) == files[0]
        and index.sizes.min() >= 0
        and index.offsets.min() >= BLOCK
        # Whoever can write beside the shard must not reach bytes beyond it.
        and (index.offsets + index.sizes).max() <= file.size
    )
