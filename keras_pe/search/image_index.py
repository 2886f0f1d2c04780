"""An on-disk index of a folder's images, searched by text or by image."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from keras_pe.arrays import check_finite, checked_embeddings
from keras_pe.models.core import PECore
from keras_pe.models.embedding import embed_images, embed_texts
from keras_pe.preprocessing.given_images import as_sequence, image_name, to_array
from keras_pe.preprocessing.image import PEImageConverter
from keras_pe.preprocessing.image_errors import SkipReport
from keras_pe.preprocessing.media_folders import IMAGE_SUFFIXES, list_files
from keras_pe.preprocessing.tokenizer import PETokenizer
from keras_pe.search.build import build_index, fingerprint
from keras_pe.search.index_files import read_index

# Two runs of one model agree far better than this on any backend; two models do not.
SAME_MODEL_COSINE = 0.99
ROWS_AT_ONCE = 1 << 16
UNIT_LENGTH_SLACK = 0.01  # more than half precision needs


@dataclasses.dataclass(frozen=True)
class Match:
    """An image that was found.

    Attributes:
        path: the image.
        similarity: cosine with the query.

    Example:
        >>> found = Match(Path("photos/car.jpg"), similarity=0.31)
        >>> found.path.name
        'car.jpg'
    """

    path: Path
    similarity: float


class ImageIndex:
    """Embeddings of many images in a directory, with their paths.

    Search is exact: a query is compared with every vector, which takes 0.4 s for a
    million vectors of 512 numbers on one core. They are mapped from the disk, not
    copied into memory. `index.vectors` is an ordinary array, should a library for
    approximate search be wanted on top.

    Args:
        paths: the images, in the order of the vectors.
        vectors: float32 `(images, output_dim)`, rows of unit length.
        fingerprint: the model's embedding of a fixed image, to recognise it.
        preset: handle that the model was loaded from, if it is known.

    Raises:
        ValueError: if there is not one vector of floating-point numbers a path, or one
            is not of unit length.
        NonFiniteError: naming the first image whose vector is NaN or infinite.

    Attributes:
        report: after `build`, which images were skipped.
        num_unchanged: after `build`, how many vectors came from the updated index.
        num_resumed: after `build`, how many came from an interrupted build.

    Example:
        >>> from importlib.resources import files
        >>> from keras_pe import PECore, PETokenizer
        >>> preset = "pe_core_emoji_small_patch8_64"
        >>> model = PECore.from_preset(preset)
        >>> tokenizer = PETokenizer.from_preset(preset)
        >>> photos = files("keras_pe") / "cli" / "demo_images"
        >>> index = ImageIndex.build(model, photos, "photos.index", progress=False)
        >>> found = index.search(index.query_text(model, tokenizer, "an owl"))
        >>> found[0].path.name
        'owl.png'
    """

    def __init__(
        self,
        paths: Sequence[Path],
        vectors: np.ndarray,
        fingerprint: np.ndarray,
        preset: str | None = None,
    ) -> None:
        self.paths = list(paths)
        self.vectors = _checked_vectors(vectors, self.paths)
        self.fingerprint = fingerprint
        self.preset = preset
        self.report = SkipReport()
        self.num_unchanged = 0
        self.num_resumed = 0

    def __len__(self) -> int:
        return len(self.paths)

    @classmethod
    def build(
        cls,
        model: PECore,
        images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        directory: str | os.PathLike[str],
        image_converter: PEImageConverter | None = None,
        batch_size: int = 32,
        max_skipped_share: float = 0.1,
        progress: bool = False,
        preset: str | None = None,
        update: bool = False,
    ) -> Self:
        """Embeds images and writes the index, whole or not at all.

        A build that is killed goes on where it was when it is started again with the
        same images, model and converter: what is done lies beside the directory
        until then, under its name with a dot before and `.parts` behind it.

        Args:
            model: makes the embeddings.
            images: a folder, searched with all below it, or a list of files.
            directory: where the index is written; an index there is replaced.
            image_converter: prepares images; None makes one of the model's size.
            batch_size: images a forward pass.
            max_skipped_share: share of unreadable images that stops the run.
            progress: whether a progress bar is shown.
            preset: handle that the model was loaded from; `index.preset` remembers
                it for whoever searches.
            update: whether images that an index in this directory has, with the same
                size and time of change, keep their vectors. New and changed ones are
                embedded, removed ones leave. Without an index there all are new.

        Returns:
            The index; its `report` names the images that were skipped.

        Raises:
            ValueError: if there are no images, the directory holds other things, or
                an index to be updated is of another model.
            NonFiniteError: if the model gives NaN or infinity.
            ImageError: if too many images can't be read.
            OSError: if the directory can't be written, which is found before any
                image is embedded, or another process writes it.
        """
        built = build_index(
            model,
            find_images(images),
            directory,
            image_converter,
            batch_size,
            max_skipped_share,
            progress,
            preset,
            update,
        )
        index = cls.open(directory)
        index.report = built.skipped
        index.num_unchanged, index.num_resumed = built.unchanged, built.resumed
        return index

    @classmethod
    def open(cls, directory: str | os.PathLike[str]) -> Self:
        """Opens an index after comparing its checksums; the vectors are mapped.

        That reads all of it: 2.7 s of CPU time for 2 GB of vectors, 0.3 of them to look
        for NaN, if the system still has them in memory.

        Args:
            directory: what `build` wrote.

        Raises:
            ValueError: if it is no index, of an older format, or damaged.
        """
        content = read_index(directory)
        stored = np.asarray(content.made_by.get("fingerprint"), "float32")
        paths = [Path(path) for path in content.paths]
        return cls(paths, content.vectors, stored, content.made_by.get("preset"))

    def check_model(self, model: PECore) -> None:
        """Raises ValueError if another model made this index, or one gives NaN."""
        ours = fingerprint(model)
        same = ours.shape == self.fingerprint.shape
        # Comparisons with NaN are false: what counts as the same has to be proved.
        if not (same and float(ours @ self.fingerprint) >= SAME_MODEL_COSINE):
            made_by = f" ({self.preset})" if self.preset else ""
            raise ValueError(
                f"This index was made by another model{made_by} than the one given; "
                f"their embeddings can't be compared. Use the same preset, or build "
                f"anew."
            )

    def query_text(
        self, model: PECore, tokenizer: PETokenizer, text: str
    ) -> np.ndarray:
        """Returns the query vector of a text, `(output_dim,)`."""
        self.check_model(model)
        return embed_texts(model, tokenizer, [text], batch_size=1)[0]

    def query_image(
        self,
        model: PECore,
        image: Any,
        image_converter: PEImageConverter | None = None,
    ) -> np.ndarray:
        """Returns the query vector of an image, `(output_dim,)`.

        Raises:
            ValueError: if it is not one image, or another model made the index.
            ImageError: if it can't be read.
        """
        self.check_model(model)
        converter = image_converter or PEImageConverter(model.vision_encoder.image_size)
        images = as_sequence(image)
        if len(images) != 1:
            raise ValueError(
                f"A query is one image, got {len(images)}. Search for each alone."
            )
        prepared = converter.convert(images[0], image_name(images[0]))
        return embed_images(model, prepared[None], batch_size=1)[0]

    def search(self, query: np.ndarray, top_k: int = 10) -> list[Match]:
        """Returns the nearest images, nearest first.

        Args:
            query: from `query_text` or `query_image`, `(output_dim,)`.
            top_k: images to return.

        Raises:
            ValueError: if the query has another length or is zero, or `top_k` is no
                whole number from 1 on.
            NonFiniteError: if the query holds NaN or infinity.
        """
        whole = isinstance(top_k, int | np.integer) and not isinstance(top_k, bool)
        if not whole or top_k < 1:
            raise ValueError(
                f"top_k must be at least 1, and a whole number, got {top_k!r}."
            )
        if hasattr(query, "dtype"):  # of any library, with a gradient or without
            query = to_array(query, "query")
        query = check_finite(np.asarray(query, "float64"), "query")
        if query.shape != self.vectors.shape[1:]:
            raise ValueError(
                f"Expected a query of shape {self.vectors.shape[1:]}, got "
                f"{query.shape}. query_text and query_image make one."
            )
        largest = float(np.abs(query).max())
        if not largest:
            raise ValueError(
                "The query is zero everywhere, which is as near to any image as to "
                "any other. query_text and query_image make one that is not."
            )
        query = query / largest  # first, or squares overflow
        query = (query / np.linalg.norm(query)).astype("float32")
        similarities = self.vectors @ query
        best = np.argsort(-similarities, kind="stable")[:top_k]
        return [Match(self.paths[row], float(similarities[row])) for row in best]


def _checked_vectors(vectors: np.ndarray, paths: list[Path]) -> np.ndarray:
    """Returns float32 `(images, output_dim)`, mapped from the disk if it was."""
    if np.shape(vectors)[:1] != (len(paths),) or np.ndim(vectors) != 2:
        raise ValueError(
            f"Got vectors of shape {np.shape(vectors)} for {len(paths)} paths; "
            "expected (images, output_dim), one vector a path."
        )
    for start in range(0, len(paths), ROWS_AT_ONCE):  # not all of the disk at once
        rows = slice(start, start + ROWS_AT_ONCE)
        what = f"vectors from {start} on"
        checked = checked_embeddings(vectors[rows], what, "image", paths[rows])
        if not isinstance(vectors, np.memmap):  # an index has checksums
            _check_lengths(checked, paths[rows])
    if getattr(vectors, "dtype", None) == np.dtype("float32"):
        return vectors
    return np.asarray(vectors, "float32")


def _check_lengths(vectors: np.ndarray, paths: list[Path]) -> None:
    lengths = np.linalg.norm(vectors, axis=1)
    wrong = np.flatnonzero(np.abs(lengths - 1.0) > UNIT_LENGTH_SLACK)
    if wrong.size:
        raise ValueError(
            f"The vector of {paths[wrong[0]]} has length {lengths[wrong[0]]:g}; "
            "expected 1, else similarities are no cosines. Divide each by its length."
        )


def find_images(
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
) -> list[Path]:
    """Returns the image files of a folder and all below it, or of a list.

    Of a folder, hidden files and what systems leave (`__MACOSX`, ...) are left out.

    Raises:
        ValueError: if there are none.
    """
    if isinstance(images, str | os.PathLike):
        root = _named(images)
        if root.is_dir():
            found = list_files(root, recursive=True)
            if not found:
                raise ValueError(
                    f"No images in {root}: looked for {', '.join(IMAGE_SUFFIXES)}, "
                    "hidden files and folders left out."
                )
            return [path.absolute() for path in found]
        images = [images]
    paths = [_named(path) for path in images]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing or not paths:
        raise ValueError(f"No such image or folder: {', '.join(missing) or '(none)'}")
    return [path.absolute() for path in paths]


def _named(path: str | os.PathLike[str]) -> Path:
    if not os.fspath(path):  # Path("") would be the working directory
        raise ValueError("The path of an image or folder is empty: name one.")
    return Path(path)
