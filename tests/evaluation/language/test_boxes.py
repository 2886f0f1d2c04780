"""Boxes as text: written, read strictly, and compared."""

import numpy as np
import pytest

from keras_pe.evaluation.language import box_accuracy, box_text, parse_box
from keras_pe.evaluation.language.boxes import overlap

pytestmark = [pytest.mark.quick, pytest.mark.once]


def test_what_is_written_is_read_back_to_a_thousandth():
    rng = np.random.default_rng(0)
    for _ in range(50):
        corners = np.sort(rng.uniform(size=(2, 2)), axis=0)
        corners[1] = np.minimum(corners[1] + 0.01, 1.0)
        box = corners.ravel()
        np.testing.assert_allclose(parse_box(box_text(box)), box, atol=1.01e-3)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1, 2, 3]",
        "[100, 200, 050, 300]",
        "[100, 200, 100, 300]",
        "[0.1, 0.2, 0.3, 0.4]",
        "[-10, 0, 10, 10]",
        "[0, 0, 1000, 10]",
        "at [000, 000, 100, 100]",
        "[000, 000, 100, 100] or so",
        "(000, 000, 100, 100)",
    ],
)
def test_what_is_no_box_is_told_and_scores_nothing(text):
    assert parse_box(text) is None
    found = box_accuracy([text], [(0, 0, 0.1, 0.1)])
    assert (found.mean, found.unparsable.tolist()) == (0.0, [True])


def test_overlap_is_that_of_pixels():
    rng = np.random.default_rng(1)
    for _ in range(20):
        boxes = np.sort(rng.integers(0, 20, (2, 2, 2)), axis=1)
        boxes[:, 1] += 1
        planes = np.zeros((2, 21, 21), bool)
        for plane, ((left, top), (right, bottom)) in zip(planes, boxes, strict=True):
            plane[top:bottom, left:right] = True
        expected = planes.all(0).sum() / planes.any(0).sum()
        one, other = boxes.reshape(2, 4).astype("float64")
        assert overlap(one, other) == pytest.approx(expected)


def test_a_box_counts_from_half_of_the_union_on():
    boxes = [(0.0, 0.0, 0.5, 0.5)] * 2
    answers = ["[000, 000, 500, 251]", "[000, 000, 500, 249]"]
    assert box_accuracy(answers, boxes).values.tolist() == [1, 0]
    assert box_accuracy(answers, boxes, iou=0.4).mean == 1.0


def test_what_makes_no_sense_is_refused():
    for boxes in (
        [(0, 0, 1.5, 1)],
        [(0.5, 0, 0.4, 1)],
        [(0, 0, 1)],
        [(0, 0, 1, np.nan)],
    ):
        with pytest.raises(ValueError, match=r"[Bb]oxes"):
            box_accuracy(["[0, 0, 1, 1]"], boxes)
    with pytest.raises(ValueError, match="iou"):
        box_accuracy(["[0, 0, 1, 1]"], [(0, 0, 1, 1)], iou=0.0)


def test_a_box_that_is_written_can_be_read():
    for box in ((0.5, 0.0, 0.5004, 1.0), (0.9995, 0.2, 1.0, 0.2001), (0, 0, 1e-4, 1)):
        found = parse_box(box_text(box))
        assert found is not None
        assert np.abs(np.subtract(found, box)).max() < 2e-3
