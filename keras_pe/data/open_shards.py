"""Opens the shards of a pattern, whichever of two kinds they are."""

import functools
import os

from keras_pe.data.array_record_shards import ArrayRecordShards
from keras_pe.data.shard_files import expand_paths, is_url
from keras_pe.data.tar_shards import TarShards

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
