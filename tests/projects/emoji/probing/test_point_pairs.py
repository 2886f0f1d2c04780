"""Pairs of scenes: points that match lie on the same thing of the same drawing."""

import numpy as np
import pytest

pytest.importorskip("resvg_py", reason="resvg_py draws the SVGs")

from keras_pe.probing import Correspondence
from projects.emoji.probing.point_pairs import POINTS, draw_pairs, make_pairs
from tests.projects.emoji.probing.small_artwork import SIZE

pytestmark = [pytest.mark.slow, pytest.mark.once]


@pytest.fixture(scope="module")
def pairs(data):
    return make_pairs(data, "train", 6, SIZE)


def test_points_show_the_same_colour_in_both_scenes(pairs):
    for pair in pairs:
        assert pair.images.shape == (2, SIZE, SIZE, 3)
        assert pair.points.shape == (POINTS, 2, 2)
        rows, columns = np.floor(pair.points).astype(int).transpose(2, 1, 0)
        first, second = (pair.images[k][rows[k], columns[k]] for k in range(2))
        # Drawings have one colour each here, but for what smooth edges let in.
        assert np.median(np.abs(first - second).max(axis=1)) < 0.02
        assert np.abs(pair.points[:, 0] - pair.points[:, 1]).max() > 1


def test_a_pair_is_a_function_of_seed_and_number(data, pairs):
    again = make_pairs(data, "train", 2, SIZE)
    np.testing.assert_array_equal(again[1].images, pairs[1].images)
    np.testing.assert_array_equal(again[1].points, pairs[1].points)
    other = make_pairs(data, "train", 2, SIZE, seed=1)
    assert (other[0].images != pairs[0].images).any()


def test_colours_find_more_points_than_noise(pairs):
    probe = Correspondence(tolerance=0.25)
    rng = np.random.default_rng(0)

    def layers(images):
        small = images.reshape(2, SIZE // 4, 4, SIZE // 4, 4, 3).mean((2, 4)) + 2.0
        return [small, rng.normal(size=small.shape)]

    hits = np.sum([probe.measure(pair, layers) for pair in pairs], axis=0)
    colours, noise = hits[:, 0] / hits[:, 1]
    assert colours > noise + 0.1


def test_pairs_are_drawn(pairs, tmp_path):
    draw_pairs(pairs[:2], tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 1000
