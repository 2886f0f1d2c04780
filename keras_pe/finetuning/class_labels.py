"""Labels of any kind to the numbers of classes."""

import itertools
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np

from keras_pe.arrays import is_whole
from keras_pe.preprocessing.given_images import to_array


def class_numbers(
    labels: Any, class_names: Sequence[str], count: int | None = None
) -> np.ndarray:
    """Returns labels as places in the list of classes.

    Args:
        labels: names of classes, or their places in `class_names`, or rows with a one
            in the place of the class and zeros elsewhere.
        class_names: the classes.
        count: how many there should be: of an iterator, which may have no end, no more
            than one beyond are taken. None takes all.

    Returns:
        int64 `(labels,)`.

    Raises:
        ValueError: naming the first label that is none of these.
        TypeError: if it is no list of labels, or one without an order.

    Example:
        >>> names = ["cat", "dog"]
        >>> class_numbers(["dog", "cat"], names).tolist()
        [1, 0]
        >>> class_numbers([1, 0], names).tolist()
        [1, 0]
        >>> class_numbers(np.eye(2), names).tolist()
        [0, 1]
    """
    array = _as_array(labels, class_names, count)
    if array.dtype.kind in "OSTU" and array.ndim == 1:
        return _from_names(array, class_names)
    if array.ndim == 2 and array.dtype.kind not in "OSTU":
        return _from_rows(array, len(class_names))
    if array.ndim != 1:
        raise ValueError(
            f"labels have shape {array.shape}, expected one label an image, or rows "
            f"(images, {len(class_names)}) with one 1 each."
        )
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise ValueError(
            f"labels[{int(np.isnan(array).argmax())}] is nan: that image has no label. "
            f"Leave out the images without one."
        )
    if array.dtype.kind not in "iu":
        raise ValueError(
            f"labels are {array.dtype}, expected names of classes, or whole numbers "
            f"from 0: use labels.astype('int64') if that is what they are."
        )
    wrong = np.flatnonzero((array < 0) | (array >= len(class_names)))
    if len(wrong):
        raise ValueError(
            f"labels[{wrong[0]}] is {array[wrong[0]]}, expected 0 to "
            f"{len(class_names) - 1}: the places in class_names."
        )
    return array.astype("int64")


def _as_array(labels: Any, class_names: Sequence[str], count: int | None) -> np.ndarray:
    """Returns labels as an array: of whole numbers if they all are, in any box."""
    if hasattr(labels, "__array__"):
        array = to_array(labels, "labels")
    else:
        no_list = isinstance(labels, str | bytes | Set | Mapping)
        if no_list or not hasattr(labels, "__iter__"):
            raise TypeError(
                f"labels are {labels!r:.80} ({type(labels).__name__}), expected one "
                f"label an image in the order of the images, such as "
                f"{list(class_names[:2])!r:.80}."
            )
        if isinstance(labels, Iterator) and count is not None:
            labels = itertools.islice(labels, count + 1)
        items = list(labels) or np.zeros(0, "int64")
        try:
            array = np.array(items)
        except ValueError as error:  # rows of several lengths
            raise ValueError(
                f"labels such as {items[0]!r:.80} differ in length, expected one label "
                f"an image: a name, its place in class_names, or a row of "
                f"{len(class_names)} numbers."
            ) from error
    if array.dtype == object and array.ndim == 1 and all(map(is_whole, array)):
        array = np.array(array.tolist() or np.zeros(0, "int64"))
    return array


def _from_names(names: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    places = {name: place for place, name in enumerate(class_names)}
    found = np.empty(len(names), "int64")
    for row, name in enumerate(names.tolist()):
        name = name.decode() if isinstance(name, bytes) else name
        place = places.get(name) if isinstance(name, str) else None
        if place is None:
            raise ValueError(
                f"labels[{row}] is {name!r:.80}, which is none of the class_names: "
                f"{', '.join(map(repr, list(class_names)[:8]))}"
                f"{', ...' if len(class_names) > 8 else ''}."
            )
        found[row] = place
    return found


def _from_rows(rows: np.ndarray, num_classes: int) -> np.ndarray:
    right = rows.shape[1] == num_classes
    if right:
        ones, zeros = (rows == 1).sum(axis=1), (rows == 0).sum(axis=1)
        right = bool(((ones == 1) & (zeros == num_classes - 1)).all())
    if not right:
        raise ValueError(
            f"labels have shape {rows.shape}, expected one label an image, or rows of "
            f"{num_classes} numbers, one of them 1 and all others 0. An image that is "
            f"of several classes is none for this classifier."
        )
    return np.asarray(rows.argmax(axis=1)).astype("int64")


def check_every_class(labels: np.ndarray, class_names: Sequence[str]) -> None:
    """Refuses training data in which a class has no image.

    Raises:
        ValueError: naming the classes.
    """
    counts = np.bincount(labels, minlength=len(class_names))
    missing = [
        name for name, count in zip(class_names, counts, strict=True) if not count
    ]
    if missing:
        raise ValueError(
            f"No training image shows {', '.join(map(repr, missing[:5]))}"
            f"{' and others' if len(missing) > 5 else ''}, so that can't be learned. "
            f"Add images, or leave the class out of class_names."
        )


def stratified_rows(
    labels: np.ndarray, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows to train on and rows to keep back, a share of each class.

    Args:
        labels: int64 `(rows,)`.
        share: of each class that is kept back, rounded; never all of it.
        seed: of the choice.

    Returns:
        Two ascending int64 arrays, which together are all rows.

    Example:
        >>> train, kept = stratified_rows(np.array([0, 1] * 10), 0.2, seed=0)
        >>> len(train), np.bincount(np.array([0, 1] * 10)[kept]).tolist()
        (16, [2, 2])
    """
    rng = np.random.default_rng(seed)
    kept: list[np.ndarray] = []
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        kept.append(rows[: min(round(len(rows) * share), len(rows) - 1)])
    held = np.sort(np.concatenate(kept)).astype("int64")
    return np.setdiff1d(np.arange(len(labels)), held), held
