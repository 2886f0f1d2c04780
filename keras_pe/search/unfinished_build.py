"""What a build of an index has done so far, beside the index, so that it can go on.

A part holds the vectors of a run of images, `part_000001024.npz` those from image
1,024 on. It is written whole or not at all, and its members carry the CRC-32 of the zip
format. `identity.json` says what the parts belong to: parts of other images, another
model or another converter are deleted, never used.
"""

import io
import json
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_pe.files import write_atomically
from keras_pe.preprocessing.image_errors import SkippedImage

IDENTITY = "identity.json"
DAMAGE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


class Part(NamedTuple):
    """Vectors of the images from `start` to `stop` that could be read.

    Attributes:
        start: place of the first image, counted over all that are embedded.
        stop: place after the last one.
        places: int64 `(count,)`, those that could be read, ascending.
        vectors: float32 `(count, output_dim)`.
        skipped: the others.
    """

    start: int
    stop: int
    places: np.ndarray
    vectors: np.ndarray
    skipped: list[SkippedImage]


class Parts:
    """The parts of one build.

    Args:
        directory: where they are, see `keras_pe.files.parts_of`; made if missing. To
            be used inside a block of `keras_pe.files.only_writer`.
        identity: what they depend on; JSON values. Parts of another identity are
            deleted.
        count: how many images there are to embed.
        output_dim: length of a vector.
    """

    def __init__(
        self, directory: Path, identity: Mapping[str, Any], count: int, output_dim: int
    ) -> None:
        self.directory = directory
        self.count = count
        self.output_dim = output_dim
        text = json.dumps(identity, sort_keys=True)
        if not self._belongs(text):
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
            write_atomically(directory / IDENTITY, text)

    def _belongs(self, text: str) -> bool:
        try:
            return (self.directory / IDENTITY).read_text(encoding="utf-8") == text
        except (OSError, ValueError):
            return False

    def __iter__(self) -> Iterator[Part]:
        """Yields the parts one after the other, up to the first that is missing."""
        start = 0
        while start < self.count and (part := self._read(start)) is not None:
            yield part
            start = part.stop

    def write(self, part: Part) -> None:
        """Writes a part, whole or not at all."""
        skipped = json.dumps([list(vars(s).values()) for s in part.skipped])
        buffer = io.BytesIO()
        np.savez(
            buffer,
            stop=np.int64(part.stop),
            places=np.asarray(part.places, "int64"),
            vectors=np.asarray(part.vectors, "float32"),
            skipped=np.frombuffer(skipped.encode("ascii"), "uint8"),
        )
        write_atomically(self._path(part.start), buffer.getvalue())

    def clear(self) -> None:
        """Deletes all parts."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def clear_if_empty(self) -> None:
        """Deletes the folder if nothing has been done yet."""
        if not self._path(0).is_file():
            self.clear()

    def _path(self, start: int) -> Path:
        return self.directory / f"part_{start:09d}.npz"

    def _read(self, start: int) -> Part | None:
        try:
            with np.load(self._path(start), allow_pickle=False) as file:
                stop = int(file["stop"])
                places, vectors = file["places"], file["vectors"]
                rows = json.loads(file["skipped"].tobytes())
        except DAMAGE:  # missing or damaged: it is made again
            return None
        shape = (len(places), self.output_dim)
        if not start < stop <= self.count or vectors.shape != shape:
            return None
        return Part(start, stop, places, vectors, [SkippedImage(*r) for r in rows])
