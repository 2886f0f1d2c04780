"""Shards of clips and their captions: tar files as those of the PE Video Dataset."""

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_pe.data.shard_sets import new_shards, shard_name
from keras_pe.data_engine.clips import METADATA, SUFFIXES
from keras_pe.data_engine.stage import CONTENT, KEY, PATH, Row

NAME = "pairs"
SHARD_SIZE = 1000  # clips


def write_pair_shards(
    folder: Path, rows: Sequence[Row], shard_size: int = SHARD_SIZE
) -> list[Path]:
    """Writes `pairs-00000.tar` and so on, of equal rows to equal bytes.

    A sample is the clip's file and a JSON: `caption`, `video_id` (its key) and what
    else is known of it, but for its embedding and place. Samples are called by half of
    their content's hash: keys of paths would end at their first dot.

    Args:
        folder: where.
        rows: with `caption`.
        shard_size: clips a shard.

    Returns:
        The paths of the shards.

    Raises:
        OSError: if a clip can't be read, or a shard not written; nothing has changed.
        ValueError: if a clip is another one than before.
    """
    names: list[str] = []
    with new_shards(folder, NAME) as aside:
        for start in range(0, len(rows), shard_size):
            names.append(shard_name(NAME, len(names)))
            with tarfile.open(aside / names[-1], "w") as archive:
                for row in rows[start : start + shard_size]:
                    _add(archive, row)
    return [folder / name for name in names]


def _add(archive: tarfile.TarFile, row: Row) -> None:
    clip = Path(row[PATH]).read_bytes()
    if hashlib.sha256(clip).hexdigest() != row[CONTENT]:
        raise ValueError(f"{row[PATH]} has changed while the engine ran: run it again.")
    name = row[CONTENT][:32]
    hidden = (KEY, PATH, "embedding", "kept", METADATA)
    said: dict[str, Any] = {**row.get(METADATA, {}), "video_id": row[KEY]}
    said |= {field: value for field, value in row.items() if field not in hidden}
    member = json.dumps(said, sort_keys=True, ensure_ascii=False, allow_nan=False)
    ending = Path(row[PATH]).suffix.lower()
    ending = ending[1:] if ending in SUFFIXES else "mp4"  # readers go by it
    # A name that is no UTF-8 has half characters, which JSON writes as "\\udcff".
    encoded = member.encode("utf-8", "backslashreplace")
    for suffix, content in ((ending, clip), ("json", encoded)):
        info = tarfile.TarInfo(f"{name}.{suffix}")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
