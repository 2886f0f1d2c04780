"""Labels of any kind to the numbers of classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_pe.preprocessing.given_images import to_array


def class_numbers(labels: Any, class_names: Sequence[str]) -> np.ndarray:
    """Returns labels as places in the list of classes.

    Args:
        labels: names of classes, or their places in `class_names`, or rows with a one
            in the place of the class and zeros elsewhere.
        class_names: the classes.

    Returns:
        int64 `(count,)`.

    Raises:
        ValueError: naming the first label that is none of these.

    Example:
        >>> names = ["cat", "dog"]
        >>> class_numbers(["dog", "cat"], names).tolist()
        [1, 0]
        >>> class_numbers([1, 0], names).tolist()
        [1, 0]
        >>> class_numbers(np.eye(2), names).tolist()
        [0, 1]
    """
    array = to_array(labels, "labels") if hasattr(labels, "__array__") else None
    if array is None:
        array = np.array(list(labels) or np.zeros(0, "int64"))
    if array.dtype.kind in "OSTU":
        return _from_names(array, class_names)
    if array.ndim == 2:
        return _from_rows(array, len(class_names))
    if array.ndim != 1:
        raise ValueError(
            f"labels have shape {array.shape}, expected one label an image, or rows "
            f"(images, {len(class_names)}) with one 1 each."
        )
    if array.dtype.kind not in "iu":
        raise ValueError(
            f"labels are {array.dtype}, expected names of classes, or whole numbers "
            f"from 0: use labels.astype('int64') if that is what they are."
        )
    numbers = array.astype("int64")
    wrong = np.flatnonzero((numbers < 0) | (numbers >= len(class_names)))
    if len(wrong):
        raise ValueError(
            f"labels[{wrong[0]}] is {numbers[wrong[0]]}, expected 0 to "
            f"{len(class_names) - 1}: the places in class_names."
        )
    return numbers


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
