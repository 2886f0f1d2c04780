"""Means of frames, and the orders that they are taken in."""

import numpy as np
import pytest

from keras_pe.evaluation.frame_orders import frame_orders, mean_of_frames

pytestmark = [pytest.mark.quick, pytest.mark.once]


def test_a_mean_has_unit_length_and_no_order():
    frames = np.random.default_rng(0).normal(size=(5, 8, 6)).astype("float32")
    found = {name: mean_of_frames(some) for name, some in frame_orders(frames)}
    for clip, row in zip(frames, found["all frames"], strict=True):
        plain = sum(frame.astype("float64") for frame in clip) / 8
        np.testing.assert_allclose(row, plain / np.sqrt(plain @ plain), rtol=1e-6)
    np.testing.assert_array_equal(found["shuffled"], found["all frames"])
    np.testing.assert_array_equal(found["reversed"], found["all frames"])
    assert np.abs(found["first frame"] - found["all frames"]).max() > 0.1
    assert not np.isnan(mean_of_frames(np.zeros((1, 2, 3)))).any()


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("seed", range(5))
def test_shuffled_frames_are_the_same_in_another_order(count, seed):
    frames = np.arange(float(count))[None, :, None]
    mixed = dict(frame_orders(frames, seed))["shuffled"].ravel().tolist()
    assert sorted(mixed) == list(range(count))
    assert mixed != list(range(count)) or count == 1
