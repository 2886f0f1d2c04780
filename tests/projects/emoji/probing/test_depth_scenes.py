"""Scenes with depth: what stands nearer hides, is larger, and lies where it should."""

import numpy as np
import pytest

pytest.importorskip("resvg_py", reason="resvg_py draws the SVGs")

from projects.emoji.probing.depth_scenes import (
    FARTHEST,
    GROUND_LIMIT,
    NEAREST,
    draw_scenes,
    ground_depths,
    make_depth_scenes,
)
from tests.projects.emoji.probing.small_artwork import SIZE

pytestmark = [pytest.mark.slow, pytest.mark.once]


@pytest.fixture(scope="module")
def scenes(data):
    return make_depth_scenes(data, "train", 6, SIZE)


def test_the_ground_is_at_depth_one_below_and_far_at_the_horizon():
    depths = ground_depths(100, 30)
    assert np.isinf(depths[:30]).all()
    assert (np.diff(depths[30:]) < 0).all()
    # Twice as far is half as far below the horizon.
    assert depths[64] == pytest.approx(2 * depths[99], rel=0.02)


def test_things_cover_the_ground_behind_them_and_stand_on_it(scenes):
    assert scenes.images.shape == (6, SIZE, SIZE, 3)
    assert scenes.depths.dtype == np.float32
    for depth in scenes.depths:
        assert depth.max() <= GROUND_LIMIT
        seen, counts = np.unique(depth[depth > 0], return_counts=True)
        horizon = int((depth > 0).any(axis=1).argmax())
        of_rows = [ground_depths(SIZE, row) for row in range(SIZE // 5, SIZE // 2)]
        assert 0 < horizon < SIZE
        things = [d for d in seen if not np.isclose(np.stack(of_rows), d).any()]
        assert things
        assert min(things) >= NEAREST
        assert max(things) <= FARTHEST
        assert counts.min() >= 1
        for thing in things:
            rows = np.flatnonzero((depth == np.float32(thing)).any(axis=1))
            # At its foot the ground is as far as the thing, to a row.
            grounds = [g[min(rows[-1] + 1, SIZE - 1)] for g in of_rows]
            assert min(grounds) < thing * 1.6


def test_a_scene_is_a_function_of_seed_and_number(data, scenes):
    again = make_depth_scenes(data, "train", 2, SIZE)
    np.testing.assert_array_equal(again.images, scenes.images[:2])
    np.testing.assert_array_equal(again.depths, scenes.depths[:2])
    other = make_depth_scenes(data, "train", 2, SIZE, seed=1)
    assert (other.images != scenes.images[:2]).any()


def test_scenes_are_drawn(scenes, tmp_path):
    draw_scenes(scenes, tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 1000
