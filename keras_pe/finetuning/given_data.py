"""What a classifier learns from: lists, folders, tables, data sets and loaders."""

import dataclasses
import functools
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_pe.evaluation.datasets import read_image_folder
from keras_pe.finetuning.class_labels import class_numbers
from keras_pe.finetuning.image_streams import ImageStream, Range
from keras_pe.preprocessing.batches import load_batches
from keras_pe.preprocessing.given_images import as_sequence
from keras_pe.preprocessing.image import PEImageConverter

IMAGE_COLUMNS = ("image", "path", "image_path", "file", "filename", "file_name")
LABEL_COLUMNS = ("label", "class", "class_name", "target", "category")


@dataclasses.dataclass(frozen=True)
class ImageList:
    """Images, read when they are needed, and their labels.

    Attributes:
        images: of any kind that a `PEImageConverter` takes.
        labels: int64 `(images,)`.
    """

    images: Sequence[Any]
    labels: np.ndarray

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise ValueError(
                f"Got {len(self.images)} images and {len(self.labels)} labels. Each "
                f"image needs one label, in the same order."
            )
        if not len(self.images):
            raise ValueError("There are no images.")

    def batches(
        self, converter: PEImageConverter, batch_size: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields prepared images and class numbers, in order.

        Raises:
            ImageError: if an image can't be read: none is left out in silence.
        """
        loaded = load_batches(self.images, converter, batch_size, on_error="raise")
        for rows, images in loaded:
            yield images, self.labels[rows]

    def rows(self, rows: np.ndarray) -> "ImageList":
        """Returns some of the images."""
        return ImageList([self.images[row] for row in rows], self.labels[rows])


GivenData = ImageList | ImageStream


def read_given(
    data: Any,
    labels: Any,
    class_names: Sequence[str],
    columns: tuple[str, str] | None = None,
    value_range: Range | None = None,
) -> GivenData:
    """Returns images and their class numbers, whatever they come in.

    Args:
        data: images, or `(images, labels)`; a folder with one folder a class; a pandas
            DataFrame; or what yields batches: `tf.data`, a PyTorch `DataLoader`, a
            grain loader, a `keras.utils.PyDataset`, any iterable, or a function that
            returns one.
        labels: of the images, if `data` are images alone.
        class_names: the classes.
        columns: names of a table's columns of images and labels; None looks for usual
            ones.
        value_range: as of `ImageStream`.

    Raises:
        ValueError: if numbers, names or columns do not fit together.
        FileNotFoundError: if there is no such folder.
        TypeError: if it is nothing of the kind.
    """
    is_table = hasattr(data, "columns") and hasattr(data, "iloc")
    if labels is not None and is_table:
        raise TypeError(
            "A table came with labels beside it. Give the table alone, with the column "
            'that holds them in columns=("path", "label"), or a column of images: '
            'fit(table["path"], labels).'
        )
    if labels is not None:
        return _listed(data, labels, class_names)
    if isinstance(data, tuple) and len(data) == 2:
        return _listed(*data, class_names)
    if isinstance(data, str | os.PathLike):
        return _read_folder(data, class_names)
    if is_table:
        return _read_table(data, class_names, columns)
    if isinstance(data, keras.utils.PyDataset):
        return ImageStream(functools.partial(_of_epoch, data), class_names, value_range)
    pairs = isinstance(data, list) and data and isinstance(data[0], tuple | Mapping)
    if hasattr(data, "dtype") or (isinstance(data, list) and not pairs):
        raise TypeError(
            "Images came without labels: give (images, labels), each with one entry an "
            "image."
        )
    return ImageStream(data, class_names, value_range)


def _listed(images: Any, labels: Any, class_names: Sequence[str]) -> ImageList:
    found = as_sequence(images)
    return ImageList(found, class_numbers(labels, class_names, len(found)))


def _of_epoch(dataset: Any) -> Iterator[Any]:
    if dataset.num_batches is None:
        raise ValueError(
            "The PyDataset does not say how many batches it has. Give it a __len__."
        )
    dataset.on_epoch_begin()
    for number in range(dataset.num_batches):
        yield dataset[number]
    dataset.on_epoch_end()


def _read_folder(root: Any, class_names: Sequence[str]) -> ImageList:
    found = read_image_folder(root)
    # The reader writes spaces for the underscores of folders; names may have either.
    spaced = [name.replace("_", " ") for name in class_names]
    places = {name: place for place, name in enumerate(spaced)}
    unknown = [name for name in found.class_names if name not in places]
    if unknown:
        raise ValueError(
            f"{root} has a folder for {unknown[0]!r}, which is none of the class_names "
            f"({', '.join(map(repr, list(class_names)[:8]))}). Name the classes as the "
            f"folders are named, or move others elsewhere."
        )
    for name, times in (Counter(spaced) | Counter(found.class_names)).items():
        if times > 1:
            raise ValueError(
                f"{root}: spaces and underscores in names of folders are the same, so "
                f"that {name!r} would be two classes. Rename one of them."
            )
    numbers = np.array([places[name] for name in found.class_names], "int64")
    return ImageList(found.samples, numbers[np.array(found.labels)])


def _read_table(
    table: Any, class_names: Sequence[str], columns: tuple[str, str] | None
) -> ImageList:
    known = list(table.columns)
    shown = ", ".join(map(str, known))
    if columns is None:
        columns = (
            _column(known, IMAGE_COLUMNS, "images"),
            _column(known, LABEL_COLUMNS, "labels"),
        )
    if isinstance(columns, str) or len(columns) != 2:
        raise ValueError(
            f"columns={columns!r}: expected two names, of the images' column and of "
            f"the labels', of those that the table has: {shown}."
        )
    for name in columns:
        if known.count(name) != 1:
            raise ValueError(
                f"The table has {'no' if name not in known else 'more than one'} "
                f"column {name!r}. It has {shown}."
            )
    images, labels = (table[name].to_numpy() for name in columns)
    return ImageList(images.tolist(), class_numbers(labels, class_names))


def _column(known: Sequence[Any], usual: Sequence[str], what: str) -> str:
    found = [name for name in known if name in usual]
    if len(found) != 1:
        raise ValueError(
            f"Which column holds the {what}? The table has "
            f"{', '.join(map(str, known))}; of the "
            f"usual names ({', '.join(usual)}) {len(found)} are there. Say it with "
            f'columns=("path", "label").'
        )
    return found[0]
