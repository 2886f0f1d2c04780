"""Builds and updates image indexes, in parts, so that a build can go on."""

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_pe.arrays import check_finite
from keras_pe.evaluation.hashes import weights_hash
from keras_pe.files import (
    check_directory_target,
    new_directory,
    only_writer,
    parts_of,
)
from keras_pe.models.compiled import no_gradient
from keras_pe.models.core import PECore
from keras_pe.models.embedding import embed_images
from keras_pe.preprocessing.batches import load_batches
from keras_pe.preprocessing.image import PEImageConverter
from keras_pe.preprocessing.image_errors import ImageError, SkipReport
from keras_pe.replaced_folders import would_be_lost
from keras_pe.search.index_files import (
    INDEX,
    OWN,
    is_index,
    read_index,
    write_index,
)
from keras_pe.search.unfinished_build import Part, Parts

# A part is written after so many images or seconds: what a kill costs at most.
PART_IMAGES, PART_SECONDS = 1024, 30.0


class BuildReport(NamedTuple):
    """What a build did.

    Attributes:
        skipped: the images that could not be read.
        unchanged: how many vectors came from the index that was updated.
        resumed: how many came from a build that was interrupted.
    """

    skipped: SkipReport
    unchanged: int
    resumed: int


def build_index(
    model: PECore,
    paths: Sequence[Path],
    directory: str | os.PathLike[str],
    image_converter: PEImageConverter | None = None,
    batch_size: int = 32,
    max_skipped_share: float = 0.1,
    progress: bool = False,
    preset: str | None = None,
    update: bool = False,
) -> BuildReport:
    """Embeds images and writes an index, whole or not at all.

    Args:
        model: makes the vectors.
        paths: the images.
        directory: where the index is written; an index there is replaced.
        image_converter: prepares images; None makes one of the model's size.
        batch_size: images a forward pass.
        max_skipped_share: share of unreadable images that stops the run.
        progress: whether a progress bar is shown.
        preset: handle of the model, for whoever searches.
        update: whether images that the index has, with the same size and time of
            change, keep their vectors.

    Returns:
        `BuildReport`.

    Raises:
        ValueError: if the directory holds anything but an index, no image can be read,
            or the index to be updated is damaged or of another model.
        NonFiniteError: if the model gives NaN or infinity.
        ImageError: if too many images can't be read.
        TargetBusyError: if another process builds this index.
        OSError: if it can't be written there; found before any image is embedded.
    """
    check_directory_target(directory)
    directory = Path(directory)
    _check_replaceable(directory)
    if not 0 <= max_skipped_share <= 1:
        raise ValueError(
            f"max_skipped_share={max_skipped_share!r}: expected a share from 0 (none) "
            f"to 1 (all)."
        )
    converter = image_converter or PEImageConverter(model.vision_encoder.image_size)
    made_by = {
        "fingerprint": [float(x) for x in fingerprint(model)],
        "weights_sha256": weights_hash(model),
        "image_converter": converter.get_config(),
        "preset": preset,
    }
    with only_writer(directory):
        stamps = [_stamp(path) for path in paths]
        old = _Old(directory, made_by) if update and is_index(directory) else None
        pairs = zip(paths, stamps, strict=True)
        known = [None if old is None else old.row(*pair) for pair in pairs]
        wanted = [place for place, row in enumerate(known) if row is None]
        parts = Parts(
            parts_of(directory),
            {
                "weights_sha256": made_by["weights_sha256"],
                "image_converter": made_by["image_converter"],
                "pictures_sha256": _images_hash(paths, stamps, wanted),
            },
            len(wanted),
            model.output_dim,
        )
        try:
            resumed = _embed(
                model,
                [paths[place] for place in wanted],
                converter,
                batch_size,
                max_skipped_share * len(paths),
                progress,
                parts,
            )
            report, done = SkipReport(len(paths)), 0
            good = set(np.flatnonzero([row is not None for row in known]).tolist())
            for part in parts:
                done = part.stop
                good.update(wanted[place] for place in part.places.tolist())
                report.skipped += [
                    _moved(skipped, wanted[skipped.index]) for skipped in part.skipped
                ]
            if done != len(wanted):
                raise OSError(f"{parts.directory} lost what was written to it.")
            if not good:
                raise ValueError(f"None of the images could be read. {report}.")
        except (ImageError, ValueError):
            parts.clear()  # to begin again would end the same way
            raise
        except BaseException:
            parts.clear_if_empty()
            raise
        kept = sorted(good)
        with new_directory(directory) as aside:
            write_index(
                aside,
                [str(paths[place]) for place in kept],
                [stamps[place] for place in kept],
                _rows(kept, known, old, parts),
                model.output_dim,
                made_by,
            )
        parts.clear()
    return BuildReport(report, sum(row is not None for row in known), resumed)


def _embed(
    model: PECore,
    paths: Sequence[Path],
    converter: PEImageConverter,
    batch_size: int,
    most_skipped: float,
    progress: bool,
    parts: Parts,
) -> int:
    """Embeds what is not in the parts yet; returns how many were."""
    start = skipped = resumed = 0
    for part in parts:
        start, skipped = part.stop, skipped + len(part.skipped)
        resumed += len(part.places)
    remaining = paths[start:]
    if not remaining:
        return resumed
    allowed = most_skipped - skipped
    batches = load_batches(
        remaining,
        converter,
        batch_size,
        max_skipped_share=min(max(allowed / len(remaining), 0.0), 1.0),
        progress=progress,
    )
    pending = _Pending(start, model.output_dim)
    for indices, images in batches:
        places = start + indices
        names = [paths[place] for place in places]
        vectors = check_finite(
            embed_images(model, images, batch_size),
            "image embeddings",
            "image",
            names,
            "An index of them would find nothing: look at the model's weights.",
        )
        pending.add(places, vectors)
        if pending.is_due():
            parts.write(pending.close(int(places[-1]) + 1, start, batches.report))
    if pending.start < len(paths):
        parts.write(pending.close(len(paths), start, batches.report))
    return resumed


class _Pending:
    """Vectors that are in no part yet."""

    def __init__(self, start: int, output_dim: int) -> None:
        self.start = start
        self.output_dim = output_dim
        self.num_skipped = 0  # of the report, already in parts
        self._begin()

    def _begin(self) -> None:
        self.places: list[np.ndarray] = []
        self.vectors: list[np.ndarray] = []
        self.since = time.monotonic()

    def add(self, places: np.ndarray, vectors: np.ndarray) -> None:
        self.places.append(places)
        self.vectors.append(vectors)

    def is_due(self) -> bool:
        enough = sum(map(len, self.places)) >= PART_IMAGES
        return enough or time.monotonic() - self.since >= PART_SECONDS

    def close(self, stop: int, offset: int, report: SkipReport) -> Part:
        new = report.skipped[self.num_skipped :]
        part = Part(
            self.start,
            stop,
            np.concatenate([np.empty(0, "int64"), *self.places]),
            np.concatenate([np.empty((0, self.output_dim), "float32"), *self.vectors]),
            [_moved(skipped, offset + skipped.index) for skipped in new],
        )
        self.start, self.num_skipped = stop, len(report.skipped)
        self._begin()
        return part


class _Old:
    """The index that is updated."""

    def __init__(self, directory: Path, made_by: Mapping[str, Any]) -> None:
        content = read_index(directory)
        for name in ("weights_sha256", "image_converter"):
            if content.made_by.get(name) != made_by[name]:
                what = "model" if name == "weights_sha256" else "image converter"
                raise ValueError(
                    f"{directory} was made by another {what}, so its vectors can't be "
                    f"kept. Build it anew, without update."
                )
        self.vectors = content.vectors
        stamped = zip(content.paths, content.stamps, strict=True)
        self.rows = {key: row for row, key in enumerate(stamped)}

    def row(self, path: Path, stamp: tuple[int, int]) -> int | None:
        return self.rows.get((str(path), stamp))


def _rows(
    kept: Sequence[int], known: Sequence[int | None], old: _Old | None, parts: Parts
) -> Iterator[np.ndarray]:
    """Yields the vectors in the order of the images, about a part at a time."""
    new = (row for part in parts for row in part.vectors)
    for start in range(0, len(kept), PART_IMAGES):
        block = []
        for place in kept[start : start + PART_IMAGES]:
            row = known[place]
            block.append(next(new) if row is None or old is None else old.vectors[row])
        yield np.stack(block)


def _moved(skipped: Any, place: int) -> Any:
    return type(skipped)(place, skipped.name, skipped.reason, skipped.detail)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:  # it will be skipped, and named, when it is read
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _images_hash(
    paths: Sequence[Path], stamps: Sequence[tuple[int, int]], places: Sequence[int]
) -> str:
    digest = hashlib.sha256()
    for place in places:
        digest.update(json.dumps([str(paths[place]), *stamps[place]]).encode())
    return digest.hexdigest()


def _check_replaceable(directory: Path) -> None:
    others = would_be_lost(directory, OWN, INDEX)
    if others and not is_index(directory):
        raise ValueError(
            f"{directory} exists and is no image index, so it is not replaced. "
            f"Choose another directory."
        )
    if others:
        raise ValueError(
            f"{directory} holds {', '.join(others[:5])} beside {INDEX}, which would be "
            f"deleted. Move them, or choose another directory."
        )


def fingerprint(model: PECore) -> np.ndarray:
    """Returns the embedding of a fixed colour gradient, which tells models apart.

    Raises:
        NonFiniteError: if it holds NaN or infinity.
    """
    side = model.vision_encoder.image_size
    ramp = np.linspace(-1.0, 1.0, side, dtype="float32")
    rows, columns = np.meshgrid(ramp, ramp, indexing="ij")
    image = np.stack([rows, columns, rows * columns], axis=-1)[None]
    with no_gradient():
        embeddings = np.asarray(ops.convert_to_numpy(model.encode_image(image)))
    return check_finite(
        embeddings.astype("float32"),
        "this model's embedding of a test image",
        "image",
        hint="Look at its weights: training may have diverged.",
    )[0]
