"""Vectors of images, texts and videos by one call."""

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from keras_pe.arrays import (
    check_finite,
    check_sizes,
    check_switches,
    checked_embeddings,
)
from keras_pe.models.compiled import padded_batch
from keras_pe.models.core import PECore
from keras_pe.models.preset_parts import load_parts
from keras_pe.preprocessing.batches import load_batches
from keras_pe.preprocessing.given_images import as_sequence
from keras_pe.preprocessing.given_media import KINDS, Kind, as_items, kind_of
from keras_pe.preprocessing.given_texts import as_texts, check_tokenizer
from keras_pe.preprocessing.image import PEImageConverter
from keras_pe.preprocessing.tokenizer import PETokenizer
from keras_pe.preprocessing.video import PEVideoConverter, as_videos, is_frame

Parts = Iterator[tuple[int, np.ndarray]]  # (place, frames) of a long video
# (rows of the batch, its prepared inputs)
Batch = tuple[np.ndarray, np.ndarray | Parts]


class Embedder:
    """Turns images, texts or videos of any kind into NumPy vectors.

    Images and texts meet in one space: the product of their vectors is their
    similarity. What can't be read is an error, for rows must line up with what was
    given.

    Args:
        model: a `PECore`.
        tokenizer: the model's; None if there are no texts.
        image_converter: how images become model input; None makes one of the model's
            size.
        video_converter: as well for videos; None makes one that prepares frames as
            images are prepared, and takes 8.
        batch_size: images or texts in a forward pass; of videos as many frames.

    Raises:
        TypeError: if the model is no `PECore`.
        ValueError: if the tokenizer is that of another model.

    Example:
        >>> from importlib.resources import files
        >>> embedder = Embedder.from_preset("pe_core_emoji_small_patch8_64")
        >>> folder = files("keras_pe") / "cli" / "demo_images"
        >>> images = embedder.encode([folder / "owl.png", folder / "guitar.png"])
        >>> images.shape
        (2, 192)
        >>> embedder.similarity(images, ["owl", "guitar"]).argmax(axis=1).tolist()
        [0, 1]
    """

    def __init__(
        self,
        model: PECore,
        tokenizer: PETokenizer | None = None,
        image_converter: PEImageConverter | None = None,
        video_converter: PEVideoConverter | None = None,
        batch_size: int = 32,
    ) -> None:
        if not isinstance(model, PECore):
            raise TypeError(
                f"model must be a PECore, got {type(model).__name__}. From the name of "
                f"a preset: Embedder.from_preset(name)."
            )
        if tokenizer is not None:
            check_tokenizer(tokenizer, model)
        check_sizes(batch_size=batch_size)
        self.model, self.tokenizer = model, tokenizer
        self.image_converter = image_converter or PEImageConverter(
            image_size=model.vision_encoder.image_size
        )
        self.video_converter = video_converter or PEVideoConverter(
            **self.image_converter.get_config()
        )
        self.batch_size = batch_size

    @classmethod
    def from_preset(
        cls,
        preset: str | os.PathLike[str],
        *,
        dtype: Any = None,
        image_size: int | None = None,
        batch_size: int = 32,
    ) -> Self:
        """Loads a dual encoder with its tokenizer and converters.

        Args:
            preset: as of `PECore.from_preset`.
            dtype: as there.
            image_size: as there.
            batch_size: as of this class.

        Raises:
            CheckpointError: as `PECore.from_preset`; if the preset is no dual encoder.
        """
        parts = load_parts(preset, dtype, image_size)
        size = {} if image_size is None else {"image_size": image_size}
        return cls(
            parts.model,
            parts.tokenizer,
            parts.image_converter,
            PEVideoConverter.from_preset(preset, **size),
            batch_size=batch_size,
        )

    def __repr__(self) -> str:
        return f"Embedder({self.model.name}, {self.model.output_dim} numbers)"

    def encode(
        self,
        inputs: Any,
        *,
        kind: Kind | None = None,
        normalize: bool = True,
        batch_size: int | None = None,
        progress: bool | None = None,
    ) -> np.ndarray:
        """Returns one vector for each image, text or video.

        Args:
            inputs: one or many, all of a kind. Images and videos as a
                `PEImageConverter` and a `PEVideoConverter` take them. A string that
                ends like the file of an image or video is its path, any other a text;
                an address is opened by nothing here, and refused.
                Videos, with `kind="video"`, may come from an iterator of any length:
                a batch of them is held at a time.
            kind: "image", "text" or "video" where that can't be told, as of an
                animation, a folder of frames or an empty list; None finds out.
            normalize: whether vectors get unit length.
            batch_size: another than the embedder's.
            progress: whether a progress bar is shown; None shows one where there is
                more than one batch.

        Returns:
            float32 `(count, output_dim)`, in the order given.

        Raises:
            ValueError: if there is a mixture, it can't be told of what, or `normalize`
                is neither True nor False.
            TypeError: if something is no text.
            ImageError: naming the first image or video that can't be read.
            NonFiniteError: naming the first of which the model gives NaN.
        """
        size = self.batch_size if batch_size is None else batch_size
        check_sizes(batch_size=size)
        check_switches(normalize=normalize)
        if kind == "video" and isinstance(inputs, Iterator):
            return self._stream(inputs, size, normalize, progress)
        inputs = as_items(inputs)
        if kind is None:
            kind = kind_of(inputs)
        elif kind not in KINDS:
            raise ValueError(f"kind={kind!r}: expected one of {KINDS} or None.")
        items, batches = self._batches(kind, inputs, size)
        encode: Callable[..., Any] = getattr(self.model, f"encode_{kind}")
        vectors = np.empty((len(items), self.model.output_dim), "float32")
        show = len(items) > size if progress is None else progress
        bar = keras.utils.Progbar(len(items), unit_name=kind) if show else None
        for rows, prepared in batches:
            if isinstance(prepared, np.ndarray):
                full = size if kind != "video" else self._videos_at_once(size)
                found = ops.convert_to_numpy(
                    encode(padded_batch(prepared, full), normalize=normalize)
                )[: len(rows)]
            else:
                found = self._long_video(prepared, size, normalize)
            names = [items[row] if kind == "text" else f"inputs[{row}]" for row in rows]
            what = f"{kind} embeddings of {self.model.name}"
            vectors[rows] = check_finite(found.astype("float32"), what, kind, names)
            if bar is not None:
                bar.add(len(rows))
        return vectors

    def similarity(
        self, first: Any, second: Any, *, progress: bool | None = None
    ) -> np.ndarray:
        """Returns the cosine of each of the first with each of the second.

        Args:
            first: vectors from `encode`, `(count, output_dim)`, or what `encode` takes.
            second: as well.
            progress: as of `encode`.

        Returns:
            float32 `(first, second)`.

        Raises:
            ValueError: as `encode`; if a vector has no length.
        """
        left = self._unit_vectors(first, progress)
        right = self._unit_vectors(second, progress)
        return np.asarray(left @ right.T)

    # === Parts ===
    def _batches(
        self, kind: Kind, inputs: Any, size: int
    ) -> tuple[Sequence[Any], Iterator[Batch] | Any]:
        """Returns all items, and what prepares them batch by batch."""
        if kind == "text":
            if self.tokenizer is None:
                raise ValueError(
                    "Texts were given, and the embedder has no tokenizer. Make it with "
                    "Embedder.from_preset(name), or Embedder(model, tokenizer)."
                )
            texts = as_texts(inputs)
            return texts, _slices(self.tokenizer(texts), size)
        if kind == "image":
            images = as_sequence(inputs)
            converter = self.image_converter
            return images, load_batches(images, converter, size, on_error="raise")
        videos = as_videos(inputs)
        return videos, self._video_batches(videos, size)

    def _videos_at_once(self, size: int) -> int:
        return max(1, size // self.video_converter.num_frames)

    def _video_batches(self, videos: Sequence[Any], size: int) -> Iterator[Batch]:
        at_once = self._videos_at_once(size)
        converter = self.video_converter
        for start in range(0, len(videos), at_once):
            some = videos[start : start + at_once]
            rows = start + np.arange(len(some))
            if converter.num_frames > size:
                yield rows, converter.convert_parts(some[0], size)
            else:
                yield rows, np.stack([converter.convert(video) for video in some])

    def _long_video(self, parts: Parts, size: int, normalize: bool) -> np.ndarray:
        """Averages the frames of one video that come in parts, `(1, output_dim)`."""
        total = np.zeros(self.model.output_dim, "float64")
        for place, frames in parts:
            if not place:  # also where a file that was shorter than it said starts anew
                total[:] = 0
            found = self.model.encode_image(padded_batch(frames, size))
            found = np.asarray(ops.convert_to_numpy(found))[: len(frames)]
            total += found.sum(axis=0, dtype="float64")
        mean = total / self.video_converter.num_frames
        if normalize:
            mean /= max(float(np.linalg.norm(mean)), 1e-12)
        return mean[None]

    def _stream(
        self, videos: Iterator[Any], size: int, normalize: bool, progress: bool | None
    ) -> np.ndarray:
        """Embeds what an iterator gives, of which never more than a batch is held."""
        first = next(videos, None)
        if first is None or is_frame(first):  # nothing, or the frames of one video
            given = [] if first is None else [first, *videos]
            return self.encode(
                given,
                kind="video",
                normalize=normalize,
                batch_size=size,
                progress=progress,
            )
        bar = keras.utils.Progbar(None, unit_name="video") if progress else None
        found: list[np.ndarray] = []
        some = [first]
        while some:
            some += itertools.islice(videos, self._videos_at_once(size) - len(some))
            try:
                vectors = self.encode(
                    some,
                    kind="video",
                    normalize=normalize,
                    batch_size=size,
                    progress=False,
                )
            except Exception as error:
                done = sum(len(vectors) for vectors in found)
                error.add_note(f"That was after {done} videos: inputs[0] is [{done}].")
                raise
            found.append(vectors)
            if bar is not None:
                bar.add(len(some))
            some = list(itertools.islice(videos, 1))
        return np.concatenate(found)

    def _unit_vectors(self, given: Any, progress: bool | None) -> np.ndarray:
        shape = tuple(getattr(given, "shape", ()))
        whole = "int" in str(getattr(given, "dtype", "int"))
        if whole or len(shape) != 2 or shape[1] != self.model.output_dim:
            return self.encode(given, progress=progress)
        vectors = checked_embeddings(given, "embeddings")
        # Squares of float32 overflow, and vanish, long before its numbers do.
        lengths = np.linalg.norm(vectors.astype("float64"), axis=1, keepdims=True)
        if not lengths.all():
            raise ValueError(
                f"Row {int(lengths[:, 0].argmin())} of the embeddings is all zeros, "
                f"which is similar to nothing. Leave it out."
            )
        return np.asarray(vectors / lengths).astype("float32")


def _slices(ids: np.ndarray, size: int) -> Iterator[Batch]:
    for start in range(0, len(ids), size):
        some = ids[start : start + size]
        yield start + np.arange(len(some)), some
