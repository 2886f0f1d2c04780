"""Batches of `tf.data`, PyTorch's and grain's loaders to what an encoder reads."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from keras_pe.finetuning.class_labels import class_numbers
from keras_pe.preprocessing.given_images import to_array
from keras_pe.preprocessing.image import PEImageConverter

IMAGE_KEYS = ("image", "images", "pixel_values")
LABEL_KEYS = ("label", "labels")
RANGES = ((0, 255), (0, 1), (-1, 1))
Range = tuple[int, int]


class ImageStream:
    """Images and labels from something that is iterated over, each epoch anew.

    Images are arrays or tensors, one or a batch of them, channels last or first; paths
    do too. Whole numbers are 0 to 255. What floating-point numbers span is told by the
    first batch: one above 1 means 0 to 255, as Keras' readers give, one below 0 means
    -1 to 1, else it is 0 to 1; a later batch that contradicts is an error.

    Args:
        source: can be iterated over again and again, or is a function that returns
            something to iterate over.
        class_names: the classes.
        value_range: what floating-point numbers span, `(0, 255)`, `(0, 1)` or
            `(-1, 1)`; None has the first batch tell.

    Raises:
        TypeError: if it is no such thing, or can be used once only.
    """

    def __init__(
        self,
        source: Iterable[Any] | Callable[[], Iterable[Any]],
        class_names: Sequence[str],
        value_range: Range | None = None,
    ) -> None:
        if isinstance(source, Iterator):
            raise TypeError(
                f"A {type(source).__name__} gives its batches once, and each epoch "
                f"needs them. Give the function that makes it: lambda: batches()."
            )
        if not callable(source) and not hasattr(source, "__iter__"):
            raise TypeError(
                f"Got a {type(source).__name__}, expected (images, labels), a folder, "
                f"a DataFrame, or a data set or loader that yields (images, labels)."
            )
        if value_range is not None and not _is_range(value_range):
            raise ValueError(f"value_range={value_range!r}: expected one of {RANGES}.")
        self.source, self.class_names = source, class_names
        self.value_range = value_range and (value_range[0], value_range[1])

    def batches(
        self, converter: PEImageConverter, batch_size: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields prepared images and class numbers, `batch_size` at a time."""
        images: list[np.ndarray] = []
        labels: list[int] = []
        is_function = callable(self.source) and not isinstance(self.source, Iterable)
        source = self.source() if is_function else self.source  # type: ignore[operator]
        if not isinstance(source, Iterable) and not hasattr(source, "__getitem__"):
            raise TypeError(
                f"The function that was given returned {source!r:.80} "
                f"({type(source).__name__}), expected something that yields (images, "
                f"labels)."
            )
        cardinality = getattr(source, "cardinality", None)  # of tf.data
        if callable(cardinality) and int(cardinality()) == -1:
            raise ValueError(
                "The data set has no end. Leave out `repeat()`: each epoch reads it "
                "anew."
            )
        for number, batch in enumerate(source):  # type: ignore[arg-type]
            found, given = _pair(batch, number)
            some, some_labels = self._prepared(found, given, converter, number)
            images += list(some)
            labels += some_labels.tolist()
            while len(images) >= batch_size:
                yield np.stack(images[:batch_size]), np.array(labels[:batch_size])
                images, labels = images[batch_size:], labels[batch_size:]
        if images:
            yield np.stack(images), np.array(labels)

    def _prepared(
        self, images: Any, labels: Any, converter: PEImageConverter, number: int
    ) -> tuple[np.ndarray, np.ndarray]:
        if not hasattr(images, "__array__"):
            prepared = converter(images)
            return prepared, self._labels(labels, len(prepared), number)
        array = to_array(images, f"images of batch {number}")
        if array.dtype.kind in "OSTU":
            paths = [p.decode() if isinstance(p, bytes) else p for p in array.ravel()]
            return converter(paths), self._labels(labels, len(paths), number)
        if array.ndim == 3:  # one sample
            array = array[None]
            if np.ndim(labels) < 2:
                labels = np.asarray(to_array(labels, "label")).reshape(1, -1)
                labels = labels[:, 0] if labels.shape[1] == 1 else labels
        if (
            array.ndim == 4
            and array.shape[1] in (1, 3)
            and array.shape[3] not in (1, 3, 4)
        ):
            array = np.moveaxis(array, 1, -1)
        classes = self._labels(labels, len(array), number)
        return self._converted(array, converter, number), classes

    def _labels(self, labels: Any, count: int, number: int) -> np.ndarray:
        if isinstance(labels, str | bytes) or np.ndim(labels) == 0:
            labels = [labels]
        try:
            found = class_numbers(labels, self.class_names)
        except ValueError as error:
            raise ValueError(f"Batch {number}: {error}") from error
        if len(found) != count:
            raise ValueError(
                f"Batch {number} has {count} images and {len(found)} labels."
            )
        return found

    def _converted(
        self, array: np.ndarray, converter: PEImageConverter, number: int
    ) -> np.ndarray:
        if array.dtype.kind in "iu" and array.dtype != np.uint8:
            if array.size and not (array.min() >= 0 and array.max() <= 255):
                raise ValueError(
                    f"Batch {number} has images of {array.dtype} from {array.min()} to "
                    f"{array.max()}, expected 0 to 255."
                )
            array = array.astype("uint8")
        if array.dtype.kind != "f" or not array.size:  # what is empty spans nothing
            return converter(list(array))
        low, high = self._range(array, number)
        if (low, high) == (0, 255):
            return converter(list(np.rint(array).astype("uint8")))
        if (low, high) == (0, 1):
            return converter(list(array))
        if array.shape[1:] == (*converter.image_size, 3):
            return array.astype("float32")  # prepared already
        return converter(list((array + 1) / 2))

    def _range(self, array: np.ndarray, number: int) -> Range:
        least, most = float(array.min()), float(array.max())
        if self.value_range is None:
            wide, negative = most > 1, least < 0
            self.value_range = (0, 255) if wide else (-1, 1) if negative else (0, 1)
        low, high = self.value_range
        if not (low <= least and most <= high):  # NaN ends here too
            raise ValueError(
                f"Batch {number} has images from {least:g} to {most:g}, where {low} to "
                f"{high} were expected. Say what they span with value_range=, one of "
                f"{RANGES}, or give uint8."
            )
        return low, high


def _is_range(given: Any) -> bool:
    return isinstance(given, list | tuple) and tuple(given) in RANGES


def _pair(batch: Any, number: int) -> tuple[Any, Any]:
    """Returns the images and the labels of a batch."""
    if isinstance(batch, Mapping):
        images = [key for key in IMAGE_KEYS if key in batch]
        labels = [key for key in LABEL_KEYS if key in batch]
        if len(images) == len(labels) == 1:
            return batch[images[0]], batch[labels[0]]
        raise ValueError(
            f"Batch {number} has {', '.join(map(str, batch))}, expected one of "
            f"{', '.join(IMAGE_KEYS)} and one of {', '.join(LABEL_KEYS)}."
        )
    if isinstance(batch, list | tuple) and len(batch) == 2:
        return batch[0], batch[1]
    raise ValueError(
        f"Batch {number} is a {type(batch).__name__}"
        f"{f' of {len(batch)}' if isinstance(batch, list | tuple) else ''}, expected "
        f"(images, labels)."
    )
