"""Where shards are: local paths, patterns and URLs, read in ranges of bytes."""

import glob
import hashlib
import io
import itertools
import operator
import os
import re
import stat
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Protocol, SupportsIndex

import numpy as np

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
Sample = dict[str, Any]  # bytes by the ending of their file

# In the order in which a sample's image is looked for.
IMAGE_EXTENSIONS = (
    *("jpg", "jpeg", "webp", "png", "gif", "bmp", "tif", "tiff", "ppm"),
    *("jpe", "jfif", "mpo", "apng", "dib", "pgm", "pbm", "pnm", "pfm"),
)

# What a storage service may say about a file's content, so that a change shows.
_FINGERPRINT_KEYS = (
    "etag",
    "md5hash",
    "crc32c",
    "generation",
    "mtime",
    "lastmodified",
    "last_modified",
    "updated",
    "modified",
    "created",
)
# What a folder of shards is looked through for; tar shards and ArrayRecord files.
SHARD_ENDINGS = (".tar", ".arrayrecord", ".array_record")
_DIGEST_SPOTS, _DIGEST_SPOT, _DIGEST_END = 64, 1024, 65_536  # bytes
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


class ShardFile(Protocol):
    """An open file that is read in ranges, from any thread.

    Attributes:
        path: what it was opened by.
        size: bytes in it.
        fingerprint: changes whenever its content does, as far as its storage tells.
    """

    path: str
    size: int
    fingerprint: str

    def read(self, offset: int, size: int) -> bytes:
        """Returns `size` bytes from `offset`; fewer only at the file's end."""


class NumberedSamples:
    """Samples numbered over all shards, one shard after the other.

    Attributes:
        paths: the shards.
    """

    paths: list[str]
    _files_are: ClassVar[str] = "shards"  # what `repr` calls them
    _starts: np.ndarray  # samples before each shard, and all of them at the end

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def counts(self) -> list[int]:
        """How many samples each shard has."""
        return [int(count) for count in np.diff(self._starts)]

    def __repr__(self) -> str:
        # Short and the same in every run: grain writes it into its checkpoints.
        names = "\n".join([*self.paths, *map(str, self._starts)])
        digest = hashlib.sha256(names.encode()).hexdigest()[:12]
        kind, files = type(self).__name__, len(self.paths)
        return f"{kind}({files} {self._files_are}, {len(self)} samples, {digest})"

    def _locate(self, number: SupportsIndex) -> tuple[int, int]:
        position = operator.index(number)
        if not 0 <= position < len(self):
            raise IndexError(f"Sample {position}: expected 0 to {len(self) - 1}.")
        shard = int(np.searchsorted(self._starts, position, side="right")) - 1
        return shard, position - int(self._starts[shard])


def expand_paths(paths: Paths) -> list[str]:
    """Lists the files that paths, patterns and URLs stand for, in their order.

    Args:
        paths: one or several of: a local path; a URL that fsspec opens (`gs://`,
            `s3://`, `hf://`, `memory://`, ...); either with brace ranges
            (`shard-{000000..000099}.tar`, `{train,val}.tar`) or with the wildcards
            of `glob`, whose matches are sorted. A local folder stands for the shards
            directly in it, sorted.

    Returns:
        The paths. Only patterns and folders are looked up; a plain path need not exist
        yet.

    Raises:
        FileNotFoundError: if a pattern matches nothing, or a folder has no shards.
        ValueError: if there are no paths, one comes twice, or one is a command
            (`pipe:`), which is never run.

    Example:
        >>> expand_paths("gs://bucket/{train,extra}-{08..10}.tar")[2:4]
        ['gs://bucket/train-10.tar', 'gs://bucket/extra-08.tar']
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    for pattern in given:
        _refuse_command(os.fspath(pattern))
    expanded = [
        path
        for pattern in given
        for plain in _expand_braces(os.fspath(pattern))
        for path in _matches(plain)
    ]
    if not expanded:
        raise ValueError(f"paths={paths!r}: expected at least one path.")
    twice = [path for path, count in Counter(expanded).items() if count > 1]
    if twice:
        raise ValueError(
            f"{twice[0]!r} is listed twice ({len(twice)} such paths): its samples "
            "would come twice an epoch. List every shard once."
        )
    return expanded


def _refuse_command(path: str) -> None:
    if path.lstrip().lower().startswith("pipe:"):
        raise ValueError(
            f"{path!r} is a command of WebDataset: a path of data never starts a "
            "program here, and what a program writes can't be read at random. Give the "
            "URL itself (gs://, s3://, https://, whatever fsspec opens), or a copy."
        )


def open_shard_file(path: str) -> ShardFile:
    """Opens a local file or a URL for reading in ranges.

    Args:
        path: a local path, or a URL that fsspec opens.

    Returns:
        The open file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no regular file.

    Example:
        >>> file = open_shard_file("train-00000.tar")             # doctest: +SKIP
        >>> file.read(0, 512)                                     # doctest: +SKIP
    """
    return RemoteFile(path) if is_url(path) else LocalFile(path)


def is_url(path: str) -> bool:
    """Says whether a path names a file that fsspec has to open.

    Args:
        path: a path or URL.

    Returns:
        True with a scheme such as `gs://`.

    Example:
        >>> is_url("gs://bucket/a.tar"), is_url("/data/a.tar")
        (True, False)
    """
    return "://" in path


class LocalFile:
    """A file of this machine."""

    def __init__(self, path: str) -> None:
        self.path = path
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait
            raise ValueError(f"{path}: expected a regular file.")
        self._file = io.FileIO(path)
        info = os.fstat(self._file.fileno())
        self.size = info.st_size
        self.fingerprint = f"{info.st_size} bytes, mtime {info.st_mtime_ns}"
        self._lock = threading.Lock()

    def read(self, offset: int, size: int) -> bytes:
        parts = []
        while size > 0:
            part = self._read_once(offset, size)
            if not part:
                break
            parts.append(part)
            offset, size = offset + len(part), size - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read_once(self, offset: int, size: int) -> bytes:
        # No position is shared between threads or forked processes this way.
        if hasattr(os, "pread"):
            return os.pread(self._file.fileno(), size, offset)
        with self._lock:  # Windows
            self._file.seek(offset)
            return self._file.read(size) or b""


class RemoteFile:
    """A file behind a URL; every read is one request for a range."""

    def __init__(self, path: str) -> None:
        import fsspec

        self.path = path
        self._system, self._name = fsspec.core.url_to_fs(path)
        info = self._system.info(self._name)
        if info.get("type") != "file" or info.get("size") is None:
            raise ValueError(f"{path}: expected a file of known size, found {info}.")
        self.size = int(info["size"])
        self.fingerprint = f"{self.size} bytes, {_remote_fingerprint(info)}"

    def read(self, offset: int, size: int) -> bytes:
        end = min(offset + size, self.size)
        if end <= offset:
            return b""
        return bytes(self._system.cat_file(self._name, start=offset, end=end))


def spots_digest(file: ShardFile) -> str:
    """Returns what tells a file from another without reading all of it.

    Args:
        file: the open file.

    Returns:
        A SHA-256, as hexadecimal digits, of its size, its last 65,536 bytes and 1,024
        bytes at each of 64 places at even distances.

    Example:
        >>> file = open_shard_file("train-00000.arrayrecord")     # doctest: +SKIP
        >>> spots_digest(file)[:6]                                # doctest: +SKIP
        '9c1f4e'
    """
    digest = hashlib.sha256(str(file.size).encode())
    last = max(file.size - _DIGEST_END, 0)
    digest.update(file.read(last, file.size - last))
    for place in range(_DIGEST_SPOTS):
        digest.update(file.read(last * place // _DIGEST_SPOTS, _DIGEST_SPOT))
    return digest.hexdigest()


def joined_digest(digests: Iterable[str]) -> str:
    """Returns one digest of several, which depends on their order.

    Args:
        digests: hexadecimal digits.

    Returns:
        A SHA-256 as hexadecimal digits.

    Example:
        >>> joined_digest(["00", "01"]) == joined_digest(["01", "00"])
        False
    """
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def read_whole(path: str) -> bytes | None:
    """Returns the content of a small file, or None if it cannot be read.

    Args:
        path: a local path or URL.

    Returns:
        Its bytes.

    Example:
        >>> read_whole("no such file") is None
        True
    """
    try:
        file = open_shard_file(path)
        return file.read(0, file.size)
    except Exception:  # storage services raise anything; a missing file is no news
        return None


def write_whole(path: str, content: bytes) -> bool:
    """Writes a small file so that readers see all of it or nothing.

    Args:
        path: a local path or URL.
        content: its bytes.

    Returns:
        Whether it could be written.

    Example:
        >>> write_whole("/no such folder/a.json", b"{}")
        False
    """
    if is_url(path):
        try:
            import fsspec

            system, name = fsspec.core.url_to_fs(path)
            system.pipe_file(name, content)
        except Exception:  # no permission, read-only protocol, no network
            return False
        return True
    folder, name = os.path.split(path)
    aside = os.path.join(folder, f".{name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        with open(aside, "wb") as stream:
            stream.write(content)
        os.replace(aside, path)
    except OSError:
        _remove(aside)
        return False
    except BaseException:
        _remove(aside)
        raise
    return True


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return


def _expand_braces(pattern: str) -> Iterator[str]:
    pieces = _BRACES.split(pattern)  # text, inside of braces, text, ...
    choices = [
        _choices(piece) if place % 2 else [piece] for place, piece in enumerate(pieces)
    ]
    for combination in itertools.product(*choices):
        yield "".join(combination)


def _choices(inside: str) -> list[str]:
    """Lists what `{inside}` stands for; text that is no pattern stays as it is."""
    numbers = _RANGE.fullmatch(inside)
    if numbers:
        first, last = numbers.groups()
        if int(last) < int(first):
            raise ValueError(f"{{{inside}}} counts down: expected {{first..last}}.")
        return [str(n).zfill(len(first)) for n in range(int(first), int(last) + 1)]
    return inside.split(",") if "," in inside else ["{" + inside + "}"]


def _matches(path: str) -> list[str]:
    if is_url(path):
        if not any(sign in path for sign in "*["):  # "?" begins a URL's query
            return [path]
        import fsspec

        system, name = fsspec.core.url_to_fs(path)
        found = sorted(system.unstrip_protocol(match) for match in system.glob(name))
    elif os.path.isdir(path):
        return _shards_of(path)
    elif glob.has_magic(path) and not os.path.exists(path):
        found = sorted(glob.glob(path, recursive=True))
    else:
        return [path]
    if not found:
        raise FileNotFoundError(f"No file matches {path!r}: check the pattern.")
    return found


def _shards_of(folder: str) -> list[str]:
    """Lists the shards directly in a local folder; hidden ones are no shards."""
    names = sorted(name for name in os.listdir(folder) if name[0] != ".")
    shards = [name for name in names if name.lower().endswith(SHARD_ENDINGS)]
    if not shards:
        kinds = Counter(os.path.splitext(name)[1].lower() for name in names)
        held = ", ".join(f"{n} {kind or 'of no ending'}" for kind, n in kinds.items())
        raise FileNotFoundError(
            f"The folder {folder!r} holds no shard ({held or 'nothing'}): expected "
            f"files that end in {', '.join(SHARD_ENDINGS)}. Compressed ones have to be "
            f"unpacked; those in folders below are '{os.path.join(folder, '**/*.tar')}'"
            "."
        )
    return [os.path.join(folder, name) for name in shards]


def _remote_fingerprint(info: dict[str, Any]) -> str:
    said = {key.lower(): value for key, value in info.items()}
    known = [f"{key} {said[key]}" for key in _FINGERPRINT_KEYS if said.get(key)]
    return ", ".join(known)
