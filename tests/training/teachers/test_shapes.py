"""Maps of shapes as rows of patches."""

import numpy as np
import pytest

from keras_pe.training import background_share, shape_rows

pytestmark = [pytest.mark.quick, pytest.mark.once]
MAP = np.array([[0, 0, 1, 1], [0, 0, 0, 1], [2, 2, 0, 0], [2, 2, 0, 0]], "uint8")


def test_patches_have_the_share_that_each_shape_covers():
    rows = shape_rows(MAP, (2, 2), num_shapes=3)
    expected = [[1, 0, 0, 0], [0.25, 0.75, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]]
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(background_share(MAP, (2, 2)), rows[:, 0])


def test_distances_are_positive_inside_and_cut_at_a_patch():
    rows = shape_rows(MAP, (2, 2), 3, "distance")
    assert rows[2, 2] > 0 > rows[0, 2]
    assert np.abs(rows).max() <= 1.0
    assert (rows[:, 3] == -1.0).all()  # not there: far everywhere
    whole = shape_rows(np.ones((4, 4), int), (2, 2), 1, "distance")
    assert (whole[:, 1] == 1.0).all()


@pytest.mark.parametrize(
    ("numbers", "grid", "message"),
    [
        (np.full((4, 4), np.nan), (2, 2), "whole numbers"),
        (np.full((4, 4), 0.5), (2, 2), "whole numbers"),
        (np.zeros((0, 0), int), (2, 2), "whole numbers"),
        (np.zeros((4, 4, 1), int), (2, 2), "whole numbers"),
        (np.zeros((5, 4), int), (2, 2), "equal patches"),
        (np.zeros((4, 4), int), (0, 2), "equal patches"),
    ],
)
def test_what_is_no_map_is_refused(numbers, grid, message):
    for read in (lambda x, g: shape_rows(x, g, 1), background_share):
        with pytest.raises(ValueError, match=message):
            read(numbers, grid)


@pytest.mark.parametrize("numbers", [[[0, 3]], [[-1, 0]]])
def test_shapes_that_there_may_not_be_are_refused(numbers):
    with pytest.raises(ValueError, match="num_shapes=2"):
        shape_rows(np.array(numbers), (1, 2), num_shapes=2)


def test_what_is_asked_for_is_known():
    with pytest.raises(ValueError, match="kind must be"):
        shape_rows(MAP, (2, 2), 3, "area")
