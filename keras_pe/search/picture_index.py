"""An on-disk index of a folder's pictures, searched by text or by picture."""

import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from keras import ops

from keras_pe.evaluation.zero_shot import embed_images, embed_texts
from keras_pe.models.compiled import no_gradient
from keras_pe.models.core import PECore
from keras_pe.preprocessing.batches import load_batches
from keras_pe.preprocessing.image import PEImageConverter
from keras_pe.preprocessing.picture_files import PICTURE_SUFFIXES, list_files
from keras_pe.preprocessing.skip_report import SkipReport
from keras_pe.preprocessing.tokenizer import PETokenizer

FORMAT = 1
VECTORS, ENTRIES = "vectors.usearch", "index.json"
# Two runs of one model agree far better than this on any backend; two models do not.
SAME_MODEL_COSINE = 0.99


@dataclasses.dataclass(frozen=True)
class Match:
    """A picture that was found.

    Attributes:
        path: the picture.
        similarity: cosine with the query.
    """

    path: Path
    similarity: float


class PictureIndex:
    """Embeddings of many pictures in a directory, with their paths.

    The vectors lie in a usearch index, which searches millions of pictures in
    milliseconds; `index.json` holds the paths and says which model made them.

    Args:
        paths: the pictures, in the order of the vectors.
        vectors: the usearch index.
        fingerprint: the model's embedding of a fixed picture, to recognise it.

    Example:
        >>> index = PictureIndex.build(model, "photos", "photos.index")
        ... # doctest: +SKIP
        >>> index.search(index.query_text(model, tokenizer, "a red car"))
        ... # doctest: +SKIP
    """

    def __init__(
        self, paths: Sequence[Path], vectors: Any, fingerprint: np.ndarray
    ) -> None:
        self.paths = list(paths)
        self.vectors = vectors
        self.fingerprint = fingerprint
        self.report = SkipReport()

    def __len__(self) -> int:
        return len(self.paths)

    @classmethod
    def build(
        cls,
        model: PECore,
        pictures: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        directory: str | os.PathLike[str],
        image_converter: PEImageConverter | None = None,
        batch_size: int = 32,
        max_skipped_share: float = 0.1,
        progress: bool = False,
    ) -> Self:
        """Embeds pictures and writes the index, whole or not at all.

        Args:
            model: makes the embeddings.
            pictures: a folder, searched with all below it, or a list of files.
            directory: where the index is written; an index there is replaced.
            image_converter: prepares pictures; None makes one of the model's size.
            batch_size: pictures a forward pass.
            max_skipped_share: share of unreadable pictures that stops the run.
            progress: whether a progress bar is shown.

        Returns:
            The index; its `report` names the pictures that were skipped.

        Raises:
            ValueError: if there are no pictures, or the directory holds other things.
            PictureError: if too many pictures can't be read.
            ImportError: if usearch is not installed.
        """
        usearch_index = _usearch()
        directory = Path(directory)
        _check_replaceable(directory)
        paths = find_pictures(pictures)
        converter = image_converter or PEImageConverter(model.vision_encoder.image_size)
        vectors = usearch_index.Index(ndim=model.output_dim, metric="cos", dtype="f32")
        batches = load_batches(
            paths,
            converter,
            batch_size,
            max_skipped_share=max_skipped_share,
            progress=progress,
        )
        kept: list[Path] = []
        for indices, images in batches:
            embeddings = embed_images(model, images, batch_size)
            keys = np.arange(len(kept), len(kept) + len(embeddings), dtype="uint64")
            vectors.add(keys, embeddings)
            kept.extend(paths[i] for i in indices)
        if not kept:
            raise ValueError(f"None of the pictures could be read. {batches.report}.")
        index = cls(kept, vectors, fingerprint(model))
        index.report = batches.report
        index._write(directory)
        return index

    def _write(self, directory: Path) -> None:
        directory.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(
            tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent)
        )
        try:
            self.vectors.save(str(aside / VECTORS))
            entries = {
                "format": FORMAT,
                "count": len(self),
                "fingerprint": [float(x) for x in self.fingerprint],
                "paths": [str(path) for path in self.paths],
            }
            (aside / ENTRIES).write_text(json.dumps(entries))
            if directory.exists():
                shutil.rmtree(directory)
            aside.rename(directory)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise

    @classmethod
    def open(cls, directory: str | os.PathLike[str]) -> Self:
        """Opens an index; the vectors are mapped into memory, not read.

        Args:
            directory: what `build` wrote.

        Raises:
            ValueError: if it is no index, or damaged.
            ImportError: if usearch is not installed.
        """
        usearch_index = _usearch()
        directory = Path(directory)
        try:
            entries = json.loads((directory / ENTRIES).read_text())
            paths = [Path(path) for path in entries["paths"]]
            stored = np.asarray(entries["fingerprint"], "float32")
            if entries["format"] != FORMAT or entries["count"] != len(paths):
                raise ValueError(f"format {entries['format']}, expected {FORMAT}")
            vectors = usearch_index.Index.restore(str(directory / VECTORS), view=True)
            if vectors is None or len(vectors) != len(paths):
                raise ValueError("the vectors are missing or damaged")
        except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"{directory} is no picture index ({error}). Make one with "
                f"`keras-pe index FOLDER --output {directory}`."
            ) from error
        return cls(paths, vectors, stored)

    def check_model(self, model: PECore) -> None:
        """Raises ValueError if another model made this index."""
        ours = fingerprint(model)
        same = ours.shape == self.fingerprint.shape
        if not same or float(ours @ self.fingerprint) < SAME_MODEL_COSINE:
            raise ValueError(
                "This index was made by another model than the one given; their "
                "embeddings can't be compared. Use the same preset, or build anew."
            )

    def query_text(
        self, model: PECore, tokenizer: PETokenizer, text: str
    ) -> np.ndarray:
        """Returns the query vector of a text, `(output_dim,)`."""
        self.check_model(model)
        return embed_texts(model, tokenizer, [text], batch_size=1)[0]

    def query_picture(
        self,
        model: PECore,
        picture: Any,
        image_converter: PEImageConverter | None = None,
    ) -> np.ndarray:
        """Returns the query vector of a picture, `(output_dim,)`."""
        self.check_model(model)
        converter = image_converter or PEImageConverter(model.vision_encoder.image_size)
        return embed_images(model, converter(picture), batch_size=1)[0]

    def search(self, query: np.ndarray, top_k: int = 10) -> list[Match]:
        """Returns the nearest pictures, nearest first.

        Args:
            query: from `query_text` or `query_picture`, `(output_dim,)`.
            top_k: pictures to return.
        """
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {top_k}.")
        found = self.vectors.search(np.asarray(query, "float32"), min(top_k, len(self)))
        return [
            Match(self.paths[int(key)], 1.0 - float(distance))
            for key, distance in zip(found.keys, found.distances, strict=True)
        ]


def find_pictures(
    pictures: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
) -> list[Path]:
    """Returns the picture files of a folder and all below it, or of a list.

    Of a folder, hidden files and what systems leave (`__MACOSX`, ...) are left out.

    Raises:
        ValueError: if there are none.
    """
    if isinstance(pictures, str | os.PathLike):
        root = Path(pictures)
        if root.is_dir():
            found = list_files(root, recursive=True)
            if not found:
                raise ValueError(
                    f"No pictures in {root}: looked for {', '.join(PICTURE_SUFFIXES)}, "
                    "hidden files and folders left out."
                )
            return [path.absolute() for path in found]
        pictures = [pictures]
    paths = [Path(path) for path in pictures]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing or not paths:
        raise ValueError(f"No such picture or folder: {', '.join(missing) or '(none)'}")
    return [path.absolute() for path in paths]


def fingerprint(model: PECore) -> np.ndarray:
    """Returns the model's unit-length embedding of a fixed colour gradient."""
    side = model.vision_encoder.image_size
    ramp = np.linspace(-1.0, 1.0, side, dtype="float32")
    rows, columns = np.meshgrid(ramp, ramp, indexing="ij")
    picture = np.stack([rows, columns, rows * columns], axis=-1)[None]
    with no_gradient():
        return np.asarray(ops.convert_to_numpy(model.encode_image(picture)))[0]


def _check_replaceable(directory: Path) -> None:
    if not directory.exists() or (directory / ENTRIES).is_file():
        return
    if not directory.is_dir() or any(directory.iterdir()):
        raise ValueError(
            f"{directory} exists and is no picture index, so it is not replaced. "
            f"Choose another directory."
        )


def _usearch() -> Any:
    try:
        import usearch.index
    except ImportError as error:
        raise ImportError(
            'Picture indexes need usearch: pip install "keras-pe[search]".'
        ) from error
    return usearch.index
