"""Write and read tar shards of ``key.webp`` and ``key.json`` pairs."""

import glob
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from keras_pe.data.shard_sets import new_shards, shard_name

Record = dict[str, Any]


def to_json_bytes(value: object, indent: int | None = None) -> bytes:
    """Serialises the same value to the same bytes every time."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, indent=indent)
    return text.encode("utf-8")


def _add_member(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    """Adds a member with fixed owner, mode and time, for equal checksums."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = 0o644
    archive.addfile(info, io.BytesIO(data))


def shard_bytes(samples: Iterable[tuple[Record, bytes]]) -> bytes:
    """Packs records and their WebP bytes into one tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for record, image in samples:
            _add_member(archive, f"{record['key']}.json", to_json_bytes(record))
            _add_member(archive, f"{record['key']}.webp", image)
    return buffer.getvalue()


def write_shards(
    directory: Path,
    split: str,
    samples: Sequence[tuple[Record, bytes]],
    per_shard: int = 2048,
) -> list[dict[str, Any]]:
    """Writes ``split-00000.tar`` and so on; returns name, count and checksum."""
    written = []
    with new_shards(directory, split) as aside:
        for number, start in enumerate(range(0, len(samples), per_shard)):
            part = samples[start : start + per_shard]
            data = shard_bytes(part)
            name = shard_name(split, number)
            (aside / name).write_bytes(data)
            written.append(
                {
                    "name": name,
                    "split": split,
                    "samples": len(part),
                    "bytes": len(data),
                    "sha256": hashlib.sha256(data).hexdigest(),
                }
            )
    return written


def read_shards(paths: Iterable[Path | str]) -> Iterator[tuple[Record, Image.Image]]:
    """Yields each record with its RGBA image, in the order of writing."""
    for path in paths:
        with tarfile.open(path, "r:") as archive:
            record: Record | None = None
            for member in archive:
                stream = archive.extractfile(member)
                if stream is None:
                    raise ValueError(f"{path}: {member.name!r} is not a file")
                data = stream.read()
                stem, _, kind = member.name.rpartition(".")
                if kind == "json":
                    record = json.loads(data)
                elif record is None or record["key"] != stem:
                    raise ValueError(f"{path}: no record before {member.name!r}")
                else:
                    with Image.open(io.BytesIO(data)) as image:
                        yield record, image.convert("RGBA")
                    record = None


def shard_paths(directory: Path | str, split: str) -> list[Path]:
    """Lists the shards of one split; an unknown split is an error."""
    paths = sorted(Path(directory).glob(f"{glob.escape(split)}-[0-9]*.tar"))
    if not paths:
        raise FileNotFoundError(f"no shards of split {split!r} in {directory}")
    return paths


def load_arrays(
    directory: Path | str, split: str
) -> tuple[npt.NDArray[np.uint8], list[Record]]:
    """Loads a whole split: uint8 ``(n, size, size, 4)`` and its records."""
    images, records = [], []
    for record, image in read_shards(shard_paths(directory, split)):
        images.append(np.asarray(image, dtype=np.uint8))
        records.append(record)
    return np.stack(images), records
