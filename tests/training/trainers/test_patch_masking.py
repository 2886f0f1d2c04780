"""Masks and kept patches: counts, blocks, bounds."""

import numpy as np
import pytest

from keras_pe.training.trainers.patch_masking import (
    kept_patches,
    masked_patches,
    masked_rows,
)

pytestmark = [pytest.mark.quick, pytest.mark.once]


def test_masks_of_any_batch():
    found = {rows: masked_rows(rows, 16, None) for rows in (2, 15, 16, 48, 50, 51, 97)}
    assert found == {2: 1, 15: 1, 16: 1, 48: 3, 50: 2, 51: 3, 97: 1}
    assert masked_rows(50, 16, image_chunk_size=10) == 5  # one a chunk, not 2


@pytest.mark.parametrize(("grid", "block"), [((4, 4), 1), ((7, 5), 1), ((8, 8), 2)])
def test_each_row_masks_the_same_share(grid, block):
    rng = np.random.default_rng(0)
    masks = masked_patches(500, grid, 0.4, rng, block)
    assert masks.shape == (500, grid[0] * grid[1])
    assert set(masks.sum(axis=1)) == {round(0.4 * grid[0] * grid[1])}
    # Every patch is masked about as often as any other.
    np.testing.assert_allclose(masks.mean(axis=0), 0.4, atol=0.12)


def test_blocks_are_masked_whole_but_for_the_last():
    masks = masked_patches(200, (8, 8), 0.4, np.random.default_rng(0), block=2)
    blocks = masks.reshape(200, 4, 2, 4, 2).sum(axis=(2, 4))
    partial = ((blocks > 0) & (blocks < 4)).sum(axis=(1, 2))
    assert partial.max() <= 1


def test_kept_patches_are_distinct_and_in_order():
    kept = kept_patches(100, 49, 0.5, np.random.default_rng(0))
    assert kept.shape == (100, 24)
    assert kept.dtype == np.int32
    assert np.all(np.diff(kept, axis=1) > 0)
    assert kept.min() >= 0
    assert kept.max() == 48


def test_nothing_left_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="hide some"):
        masked_patches(1, (1, 1), 0.4, rng)
    with pytest.raises(ValueError, match="at least one"):
        kept_patches(1, 16, 0.0, rng)
    # A sixteenth of a batch of 15.
    with pytest.raises(ValueError, match="rows=0 and block=1"):
        masked_patches(15 // 16, (4, 4), 0.4, rng)
    with pytest.raises(ValueError, match="block=0"):
        masked_patches(1, (4, 4), 0.4, rng, block=0)
