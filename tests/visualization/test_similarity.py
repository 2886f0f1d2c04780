"""Similarity to a chosen patch, and the pointing game."""

import numpy as np
import pytest

from keras_pe.visualization import pointing_accuracy, similarity_map

pytestmark = pytest.mark.slow


def feature_map():
    return np.random.default_rng(0).normal(size=(2, 3, 4, 6)).astype("float32")


@pytest.mark.parametrize("image", [None, 0, -1])
def test_similarity_is_the_cosine_with_the_chosen_patch(image):
    values = feature_map()
    found = similarity_map(values, 2, -4, image)
    for batch in range(2):
        chosen = values[batch if image is None else image, 2, 0]
        for row in range(3):
            for column in range(4):
                other = values[batch, row, column]
                cosine = chosen @ other / np.linalg.norm(chosen) / np.linalg.norm(other)
                assert found[batch, row, column] == pytest.approx(cosine, abs=1e-5)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ((3, 0), "row=3 is outside"),
        ((0, -5), "column=-5 is outside"),
        ((0, 0, 2), "image=2 is outside"),
    ],
)
def test_places_outside_are_explained(place, message):
    with pytest.raises(ValueError, match=message):
        similarity_map(feature_map(), *place)


def test_pointing_counts_peaks_inside():
    maps = np.zeros((4, 2, 3))
    maps[0, 1, 2] = maps[1, 0, 0] = maps[2, 1, 2] = 1.0  # the last is flat
    masks = np.zeros((4, 4, 6), bool)
    masks[:, 2:, 4:] = True
    masks[2, 2, 4:] = masks[2, 3, 5] = False  # a quarter of the peak's cell is left
    assert pointing_accuracy(maps, masks) == 0.25
    assert pointing_accuracy(maps, masks, min_cover=0.25) == 0.5
    assert pointing_accuracy(maps - 5.0, masks) == 0.25
    assert pointing_accuracy(-maps, masks) == 0.0


def test_masks_may_be_in_cells():
    masks = np.array([[[True, False]], [[False, True]]])
    assert pointing_accuracy([[[2.0, 1.0]], [[2.0, 1.0]]], masks) == 0.5


@pytest.mark.parametrize(
    ("maps", "masks", "message"),
    [
        (np.ones((1, 2, 2)), np.ones((2, 4, 4), bool), "as many masks"),
        (np.ones((1, 2, 2)), np.ones((1, 4, 4)), "must be bool"),
        (np.ones((1, 2, 2)), np.ones((1, 5, 4), bool), "does not divide"),
        (np.full((1, 2, 2), np.nan), np.ones((1, 4, 4), bool), "not finite"),
        (np.ones((1, 2, 2)), np.zeros((1, 4, 4), bool), "empty"),
    ],
)
def test_bad_pointing_is_explained(maps, masks, message):
    with pytest.raises(ValueError, match=message):
        pointing_accuracy(maps, masks)
    with pytest.raises(ValueError, match="min_cover"):
        pointing_accuracy(np.ones((1, 2, 2)), np.ones((1, 2, 2), bool), 0.0)
