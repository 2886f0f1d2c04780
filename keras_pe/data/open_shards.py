"""Opens the shards of a pattern, whichever of two kinds they are."""

import functools

from keras_pe.data.array_record_shards import ArrayRecordShards
from keras_pe.data.shard_files import expand_paths
from keras_pe.data.tar_shards import TarShards

ARRAY_RECORD_ENDINGS = (".arrayrecord", ".array_record")


@functools.lru_cache(maxsize=4)
def open_shards(data: str) -> TarShards | ArrayRecordShards:
    """Opens tar shards, or ArrayRecord files if they are called `*.arrayrecord`.

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
    return ArrayRecordShards(paths) if records else TarShards(paths)
