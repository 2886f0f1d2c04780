"""The three files of an image index, with checksums; nothing in them is executed.

    index.json      what the index is, which model made it, checksums of all three
    pictures.json   paths, sizes and times of change of the images
    vectors.npy     float32 (images, output_dim), rows of unit length

A vector file is mapped into memory only after its SHA-256 was compared, through the
same open file.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_pe.folder_reading import read_directory

FORMAT = 2
INDEX, IMAGES, VECTORS = "index.json", "pictures.json", "vectors.npy"
OWN = {INDEX, IMAGES, VECTORS, "vectors.usearch"}  # the last is of format 1
MAX_INDEX_BYTES = 16 * 2**20


class DamagedIndexError(ValueError):
    """A file of an image index is missing, changed or of another format."""


@dataclasses.dataclass(frozen=True)
class IndexContent:
    """What an index holds.

    Attributes:
        paths: the images, in the order of the vectors.
        stamps: (size in bytes, time of change in nanoseconds) of each.
        vectors: float32 `(images, output_dim)`, mapped from the disk.
        made_by: what is known about the model: `fingerprint`, `weights_sha256`,
            `image_converter` and `preset`.
    """

    paths: list[str]
    stamps: list[tuple[int, int]]
    vectors: np.ndarray
    made_by: dict[str, Any]


def write_index(
    directory: Path,
    paths: Sequence[str],
    stamps: Sequence[tuple[int, int]],
    rows: Iterable[np.ndarray],
    output_dim: int,
    made_by: Mapping[str, Any],
) -> None:
    """Writes the files of an index, the vectors piece by piece.

    Args:
        directory: an empty folder.
        paths: the images.
        stamps: their sizes and times of change.
        rows: their vectors in this order, arrays `(any, output_dim)`.
        output_dim: length of a vector.
        made_by: see `IndexContent`; JSON values.

    Raises:
        ValueError: if there are not as many vectors as images.
        OSError: if a file can't be written.
    """
    sums = {
        VECTORS: _write_vectors(directory / VECTORS, rows, len(paths), output_dim),
        IMAGES: _write_images(directory / IMAGES, paths, stamps),
    }
    content = {
        "format": FORMAT,
        "count": len(paths),
        "output_dim": output_dim,
        "made_by": dict(made_by),
        "sha256_of_files": sums,
    }
    text = json.dumps({"sha256": _sha256_of(content), **content}, indent=1)
    (directory / INDEX).write_text(text, encoding="ascii")


def _write_vectors(
    path: Path, rows: Iterable[np.ndarray], count: int, output_dim: int
) -> str:
    digest, written = hashlib.sha256(), 0
    with path.open("w+b") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (count, output_dim)}
        np.lib.format.write_array_header_1_0(file, header)
        file.seek(0)
        digest.update(file.read())
        for block in rows:
            data = np.ascontiguousarray(block, "<f4").tobytes()
            file.write(data)
            digest.update(data)
            written += len(block)
    if written != count:
        raise ValueError(f"Got {written} vectors for {count} images.")
    return digest.hexdigest()


def _write_images(
    path: Path, paths: Sequence[str], stamps: Sequence[tuple[int, int]]
) -> str:
    # ASCII: a path that is no UTF-8 holds lone surrogates, which have no bytes.
    data = json.dumps({"paths": list(paths), "stamps": list(stamps)}).encode("ascii")
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def is_index(directory: Path) -> bool:
    """Whether a folder looks like an image index, of this or an older format."""
    return (directory / INDEX).is_file()


def read_index(directory: str | os.PathLike[str]) -> IndexContent:
    """Reads an index after comparing all checksums; the vectors are mapped.

    Args:
        directory: what `write_index` filled.

    Raises:
        DamagedIndexError: if it is no index, damaged, or of another format.
        TargetBusyError: if it is replaced all the time.
    """
    return read_directory(directory, _read, (DamagedIndexError,))


def _read(directory: Path) -> IndexContent:
    advice = f"Make it again: keras-pe index FOLDER --output {directory}"
    if not is_index(directory):
        raise DamagedIndexError(f"{directory} is no image index. {advice}")
    try:
        content = _read_json(directory / INDEX, MAX_INDEX_BYTES)
        if "format" in content and content["format"] != FORMAT:
            raise DamagedIndexError(
                f"{directory} is an image index of format {content['format']}, and "
                f"this keras_pe reads {FORMAT}, whose checksums tell damaged files. "
                f"{advice}"
            )
        checksum = content.pop("sha256", None)
        if checksum != _sha256_of(content):
            raise ValueError(f"the checksum of {INDEX} does not fit")
        sums = content["sha256_of_files"]
        images = _read_json(directory / IMAGES, None, sums[IMAGES])
        paths, stamps = images["paths"], [(a, b) for a, b in images["stamps"]]
        vectors = _map_vectors(directory / VECTORS, sums[VECTORS])
        count, output_dim = content["count"], content["output_dim"]
        if not all(isinstance(path, str) for path in paths):
            raise ValueError(f"{IMAGES} holds paths that are no text")
        if vectors.shape != (count, output_dim) or not (
            len(paths) == len(stamps) == count
        ):
            raise ValueError(
                f"{len(paths)} images, vectors of shape {vectors.shape}, and "
                f"{INDEX} says ({count}, {output_dim})"
            )
        return IndexContent(paths, stamps, vectors, dict(content["made_by"]))
    except DamagedIndexError:
        raise
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise DamagedIndexError(
            f"The image index {directory} is damaged ({what}). {advice}"
        ) from error


def _read_json(
    path: Path, most_bytes: int | None, checksum: str | None = None
) -> dict[str, Any]:
    if most_bytes is not None and path.stat().st_size > most_bytes:
        raise ValueError(f"{path.name} has more than {most_bytes:,} bytes")
    data = path.read_bytes()
    if checksum is not None and hashlib.sha256(data).hexdigest() != checksum:
        raise ValueError(f"the checksum of {path.name} does not fit")
    content = json.loads(data)
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} holds no JSON object")
    return content


def _map_vectors(path: Path, checksum: str) -> np.ndarray:
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != checksum:
            raise ValueError(f"the checksum of {path.name} does not fit")
        file.seek(0)
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"{path.name} has .npy version {version}")
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
        plain = len(shape) == 2 and min(shape) >= 0 and not fortran_order
        if not plain or dtype != np.dtype("<f4"):
            raise ValueError(f"{path.name} holds {dtype} of shape {shape}")
        # mmap needs no fewer bytes than this, or it would fail when they are read.
        if os.fstat(file.fileno()).st_size != file.tell() + 4 * shape[0] * shape[1]:
            raise ValueError(f"{path.name} is too short or too long")
        if 0 in shape:
            return np.empty(shape, "float32")
        return np.memmap(file, dtype, "r", file.tell(), shape)


def _sha256_of(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
