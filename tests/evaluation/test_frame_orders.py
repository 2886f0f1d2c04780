"""Means of frames, and the orders that they are taken in."""

import numpy as np
import pytest

from keras_pe.arrays import NonFiniteError
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


@pytest.mark.parametrize(
    "frames",
    [np.zeros((2, 0, 3)), np.zeros((2, 3)), np.zeros((1, 2, 3, 4)), np.zeros(3), 3.0],
)
def test_what_are_no_frames_is_refused(frames):
    for compute in (mean_of_frames, lambda given: list(frame_orders(given))):
        with pytest.raises(ValueError, match=r"expected \(clips, frames, channels\)"):
            compute(frames)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_mean_of_what_is_no_number_names_the_clip(value):
    frames = np.ones((3, 2, 4), "float32")
    frames[1, 1, 2] = value
    with pytest.raises(NonFiniteError, match="clip 1 of 3"):
        mean_of_frames(frames)
    for strange in (np.ones((1, 2, 3)) * 1j, np.array([[["a"]]])):
        with pytest.raises(ValueError, match="expected real numbers"):
            mean_of_frames(strange)


def test_means_of_any_kind_of_numbers():
    for given in (np.full((1, 2, 3), 200, "uint8"), np.full((1, 2, 3), 6e4, "float16")):
        np.testing.assert_allclose(mean_of_frames(given), 3**-0.5, rtol=1e-6)
    np.testing.assert_allclose(mean_of_frames([[[3.0, 0.0], [0.0, 4.0]]]), [[0.6, 0.8]])
    assert mean_of_frames(np.zeros((0, 2, 3))).shape == (0, 3)
