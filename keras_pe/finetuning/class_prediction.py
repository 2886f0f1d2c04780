"""The classes of an image, best first."""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class ClassPrediction:
    """One class for one image.

    Attributes:
        name: the class.
        index: its place in `class_names`.
        probability: of all classes; they sum to 1.

    Example:
        >>> best = ClassPrediction("tulip", index=2, probability=0.9)
        >>> f"{best.name} ({best.probability:.0%})"
        'tulip (90%)'
    """

    name: str
    index: int
    probability: float


def best_classes(
    probabilities: np.ndarray, class_names: Sequence[str], top_k: int
) -> list[list[ClassPrediction]]:
    """Returns the best classes of each image, best first, of equals the first.

    Args:
        probabilities: `(images, classes)`.
        class_names: names of the classes.
        top_k: at most so many of each image.

    Example:
        >>> [[best]] = best_classes(np.array([[0.25, 0.75]]), ["cat", "dog"], 1)
        >>> best
        ClassPrediction(name='dog', index=1, probability=0.75)
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
    return [
        [
            ClassPrediction(
                class_names[index], int(index), float(probabilities[row, index])
            )
            for index in best
        ]
        for row, best in enumerate(order)
    ]
