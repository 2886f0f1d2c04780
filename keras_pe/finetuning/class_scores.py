"""How good logits of images are, whose classes are known."""

from collections.abc import Sequence

import numpy as np

from keras_pe.arrays import softmax
from keras_pe.evaluation.intervals import Score, mean_score


def class_scores(
    logits: np.ndarray, classes: np.ndarray, class_names: Sequence[str]
) -> dict[str, Score | float]:
    """Returns accuracy, loss, and the accuracy of each class.

    Args:
        logits: `(images, classes)`.
        classes: int `(images,)`, the right ones; at least one.
        class_names: names of the classes.

    Returns:
        `accuracy`, a `Score` with its 95 % interval over images; `loss`, the mean
        cross-entropy; and `"accuracy of cat"` of each class of which there are images.

    Example:
        >>> logits = np.array([[0.0, 9.0], [9.0, 0.0], [9.0, 0.0]])
        >>> found = class_scores(logits, np.array([1, 0, 1]), ["cat", "dog"])
        >>> round(found["accuracy"].value, 3), found["accuracy of dog"]
        (0.667, 0.5)
    """
    outputs = logits.astype("float64")
    hits = outputs.argmax(axis=1) == classes
    likely = softmax(outputs)[np.arange(len(classes)), classes]
    found: dict[str, Score | float] = {
        "accuracy": mean_score(hits),
        "loss": float(-np.log(np.maximum(likely, 1e-300)).mean()),
    }
    for number, name in enumerate(class_names):
        if (classes == number).any():
            found[f"accuracy of {name}"] = float(hits[classes == number].mean())
    return found
