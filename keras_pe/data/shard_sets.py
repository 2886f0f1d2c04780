"""Sets of tar shards that take each other's place as a whole."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from keras_pe.data.tar_index import INDEX_SUFFIX
from keras_pe.files import new_directory, only_writer, sync


def shard_name(name: str, number: int) -> str:
    """Returns what a shard of a set is called.

    Example:
        >>> shard_name("train", 2)
        'train-00002.tar'
    """
    return f"{name}-{number:05d}.tar"


@contextlib.contextmanager
def new_shards(folder: Path, name: str) -> Iterator[Path]:
    """Yields an empty folder for the shards of a set; puts them in place at the end.

    They stand aside, in a folder `.NAME.shards`, until all of them are whole; then
    those of an earlier writing go, and the new ones take their places. So old and new
    are never mixed; both need room on the disk. After an error nothing has changed;
    what a kill between the renames leaves are some of the new ones alone.

    Args:
        folder: of the set; made if it is missing.
        name: what the shards' names begin with.

    Raises:
        TargetBusyError: if another process writes shards of this name there.

    Example:
        >>> with new_shards(Path("data"), "train") as aside:        # doctest: +SKIP
        ...     (aside / shard_name("train", 0)).write_bytes(b"...")
    """
    whole = folder / f".{name}.shards"
    with only_writer(whole):
        with new_directory(whole) as aside:
            yield aside
        earlier = re.compile(rf"{re.escape(name)}-[0-9]{{5,}}\.tar")
        for path in list(folder.iterdir()):
            if earlier.fullmatch(path.name.removesuffix(INDEX_SUFFIX)):
                path.unlink()
        for path in sorted(whole.iterdir()):
            path.replace(folder / path.name)
        whole.rmdir()
        sync(folder)
