"""Boxes as text, `[x, y, x, y]` in thousandths of the image, and how well they fit."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_pe.arrays import check_finite
from keras_pe.evaluation.language.answer_scores import AnswerScores, checked_answers

THOUSANDTHS = 1000
LAST = THOUSANDTHS - 1
_BOX = re.compile(r"\[\s*" + r"\s*,\s*".join([r"([0-9]{1,3})"] * 4) + r"\s*\]")


def box_text(box: Sequence[float]) -> str:
    """Returns a box as a model is to write it.

    Args:
        box: left, top, right, bottom, as shares of the image's width and height.

    Raises:
        ValueError: if it is no box inside the image.

    Source: Perception Encoder, section 5 (coordinates of 000 to 999).

    Example:
        >>> box_text((0.0, 0.25, 0.5, 1.0))
        '[000, 250, 500, 999]'
    """
    shares = _checked_boxes([box])[0]
    places = [min(int(share * THOUSANDTHS), LAST) for share in shares]
    for near in (0, 1):  # a side of less than a thousandth would be no box
        if places[near] == places[near + 2]:
            places[near] = min(places[near], LAST - 1)
            places[near + 2] = places[near] + 1
    return f"[{', '.join(f'{place:03d}' for place in places)}]"


def parse_box(text: str) -> tuple[float, float, float, float] | None:
    """Returns the box that a text is, as shares of the image; None if it is none.

    It must be the whole text, with sides in order.

    Example:
        >>> parse_box("[000, 250, 500, 999]")
        (0.0, 0.25, 0.5, 0.999)
        >>> parse_box("[500, 250, 000, 999]") is None
        True
    """
    found = _BOX.fullmatch(text.strip())
    if found is None:
        return None
    left, top, right, bottom = (int(number) / THOUSANDTHS for number in found.groups())
    if right <= left or bottom <= top:
        return None
    return left, top, right, bottom


def box_accuracy(answers: Sequence[str], boxes: Any, iou: float = 0.5) -> AnswerScores:
    """Scores 1 for a box that covers the right one: the accuracy of RefCOCO.

    Args:
        answers: texts such as `box_text` gives, one a question.
        boxes: `(questions, 4)`, left, top, right, bottom as shares of the image.
        iou: by how much they must cover each other, intersection over union.

    Returns:
        The scores, and which answers were no box.

    Raises:
        TypeError: if answers are no texts.
        ValueError: if the numbers do not fit, or a box lies outside its image.

    Source: Yu et al. 2016, "Modeling Context in Referring Expressions".

    Example:
        >>> box_accuracy(["[000, 000, 500, 500]"], [(0, 0, 0.5, 0.6)]).mean
        1.0
    """
    if not 0.0 < iou <= 1.0:
        raise ValueError(f"iou must be above 0 and at most 1, got {iou}.")
    answers = checked_answers(answers, boxes, "box")
    wanted = _checked_boxes(boxes)
    found = [parse_box(answer) for answer in answers]
    values = [
        float(box is not None and overlap(np.asarray(box), right) >= iou)
        for box, right in zip(found, wanted, strict=True)
    ]
    return AnswerScores.of("box_accuracy", values, [box is None for box in found])


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Returns intersection over union of two boxes."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    common = float(np.prod(np.maximum(sides, 0.0)))
    areas = float(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]))
    return common / (areas - common)


def _checked_boxes(boxes: Any) -> np.ndarray:
    array = np.asarray(boxes, "float64")
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"Boxes must be (questions, 4), got {array.shape}.")
    check_finite(array, "boxes", "box")
    inside = (array >= 0.0).all(1) & (array <= 1.0).all(1)
    if not (inside & (array[:, 2:] > array[:, :2]).all(1)).all():
        raise ValueError(
            "Boxes are left, top, right, bottom, as shares of the image, from 0 to 1 "
            "and in that order."
        )
    return array
