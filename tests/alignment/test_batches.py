"""Batches of an alignment: images and masks stay together, whatever is drawn."""

import itertools
import types

import keras
import numpy as np
import pytest

from keras_pe.alignment.batches import MOST_SHAPES, AlignmentBatches
from keras_pe.arrays import NonFiniteError
from keras_pe.training import background_share, shape_rows
from keras_pe.training.teachers.shapes import renumbered
from tests.alignment.stand_in import PATCH, SIDE, images, shapes
from tests.arrays import to_numpy

pytestmark = [pytest.mark.quick, pytest.mark.once]
GRID = (SIDE // PATCH,) * 2
STUDENT = types.SimpleNamespace(grid=lambda shape: GRID)
OPTIONS = {
    "steps": 3,
    "batch_size": 4,
    "mask_ratio": 0.75,
    "flip": True,
    "background": False,
    "seed": 0,
}


def batches(data, masks=None, prepare=None, **changes):
    return AlignmentBatches(data, masks, STUDENT, prepare, **{**OPTIONS, **changes})


def coloured(count):
    """Returns images of which red is the number and blue tells where it is left."""
    found = np.zeros((count, SIDE, SIDE, 3), "float32")
    found[..., 0] = np.arange(count)[:, None, None]
    found[:, :, : SIDE // 2, 2] = 1.0
    return found


def halves(count):
    """Returns masks of the left half of `coloured`."""
    return (coloured(count)[..., 2] > 0).astype("uint8")


# === What is in them ===
def test_each_image_comes_once_a_pass_and_masks_are_mirrored_along():
    found = list(batches(coloured(6), halves(6), steps=6))
    assert len(found) == 6
    red = np.concatenate([batch["images"][:, 0, 0, 0] for batch in found])
    for part in red.reshape(4, 6):
        assert sorted(part) == list(range(6))
    assert not np.array_equal(*red.reshape(4, 6)[:2])
    left = np.concatenate([batch["images"][:, 0, 0, 2] for batch in found]) == 1
    assert 0 < left.sum() < 24
    rows = np.concatenate([batch["mask_rows"] for batch in found])
    assert rows.shape == (24, 16, MOST_SHAPES + 1)
    np.testing.assert_array_equal(rows[:, 0, 1] == 1, left)
    assert all(batch["masked_patches"].sum() == 4 * 12 for batch in found)


def test_the_first_batch_is_as_the_data_are():
    data, masks = coloured(6), shapes(6)
    first = batches(data, masks, background=True).first()
    np.testing.assert_array_equal(first["images"], data[:4])
    assert "masked_patches" not in first
    for row, shares, given in zip(
        first["mask_rows"], first["background"], masks, strict=False
    ):
        kept = renumbered(given, MOST_SHAPES)
        wanted = shape_rows(kept, GRID, int(kept.max()))
        np.testing.assert_array_equal(row[:, : wanted.shape[1]], wanted)
        assert not row[:, wanted.shape[1] :].any()
        np.testing.assert_array_equal(shares, background_share(given, GRID))


def test_a_seed_decides_all():
    def drawn(**changes):
        return list(batches(images(6), shapes(6), **changes))

    for one, same, other in zip(drawn(), drawn(), drawn(seed=1), strict=True):
        for name, array in one.items():
            np.testing.assert_array_equal(array, same[name])
            assert not np.array_equal(array, other[name])


def test_nothing_hidden_and_nothing_mirrored():
    (batch,) = batches(coloured(4), steps=1, mask_ratio=0.0, flip=False)
    assert not batch["masked_patches"].any()
    assert (batch["images"][:, 0, 0, 2] == 1).all()
    assert set(batch) == {"images", "masked_patches"}


@pytest.mark.parametrize("kind", ["list", "function", "pairs"])
def test_data_in_batches_are_cut_anew_and_read_again(kind):
    parts = [coloured(6)[:1], coloured(6)[1:3], coloured(6)[3:]]
    if kind == "pairs":
        parts = [[part, halves(len(part))] for part in parts]
    data = (lambda: iter(parts)) if kind == "function" else parts
    found = list(batches(data, flip=False))
    red = np.concatenate([batch["images"][:, 0, 0, 0] for batch in found])
    assert red.tolist() == [0, 1, 2, 3, 4, 5] * 2
    assert ("mask_rows" in found[0]) == (kind == "pairs")


def test_images_are_prepared():
    data = np.full((4, SIDE, SIDE, 3), 255, "uint8")
    (batch,) = batches(data, prepare=lambda x: x / 255.0, steps=1)
    assert batch["images"].dtype == np.float32
    assert (batch["images"] == 1.0).all()


def test_of_many_shapes_the_largest_are_kept():
    wide = np.arange(4, 44).repeat(np.arange(40, 0, -1))
    found = renumbered(np.append(wide, [0] * 500)[None], MOST_SHAPES)[0]
    assert found.max() == MOST_SHAPES
    assert found[wide.tolist().index(4)] == 1
    assert (found[:820] == 0).sum() == sum(range(1, 40 - MOST_SHAPES + 1))
    assert not found[820:].any()
    assert renumbered(np.zeros((2, 2), bool), MOST_SHAPES).max() == 0
    with pytest.raises(ValueError, match="has the number -1"):
        renumbered(np.array([[-1, 1]]), MOST_SHAPES)


# === What is refused ===
def once():
    yield images(2)


@pytest.mark.parametrize(
    ("data", "masks", "message"),
    [
        (images(4)[0], None, "samples, height, width, 3"),
        (images(0), None, "no images"),
        ([], None, "no images"),
        (images(4), shapes(3), r"\(4, 16, 16\).* Got uint8 of \(3, 16, 16\)"),
        (images(4), shapes(4) * 0.5, "whole numbers"),
        (images(2), [shapes(1)[0], shapes(1)[0, :8]], "whole numbers"),
        (images(4), shapes(4) * 0, "0 everywhere"),
        ([images(4)], shapes(4), "masks must too"),
        (once(), None, "can be read once"),
        (["owl.png"], None, "an array .*, got str. PEImageConverter"),
        ([images(2)[..., 0]], None, "height, width, 3"),
        ([(images(4), shapes(4), 1)], None, "tuple of 3"),
        ([images(1), images(3)[:, :8]], None, "one size"),
        ([(images(2), shapes(2)), images(2)], None, "some masks"),
        ((images(4) * 255).astype("uint8"), None, "`prepare`"),
    ],
)
def test_data_that_make_no_sense_are_refused(data, masks, message):
    with pytest.raises(ValueError, match=message):
        batches(data, masks).first()


def test_masks_of_some_batches_alone_are_refused():
    data = [(images(4), shapes(4)), images(4)]
    with pytest.raises(ValueError, match="Batch 1 has no masks"):
        list(batches(data))


def test_masks_of_what_prepare_crops_are_refused():
    with pytest.raises(ValueError, match=r"prepare made images of \(8, 8\)"):
        batches(images(4), shapes(4), prepare=lambda x: x[:, :8, :8]).first()
    assert batches(images(4), prepare=lambda x: x[:, :8, :8]).first()


def test_tensors_are_images_too():
    data = images(4)
    for dtype in ("float32", "bfloat16"):
        tensor = keras.ops.cast(data, dtype)
        found = batches(tensor, keras.ops.convert_to_tensor(shapes(4))).first()
        wanted = batches(to_numpy(keras.ops.cast(tensor, "float32")), shapes(4)).first()
        np.testing.assert_array_equal(found["images"], wanted["images"])
        np.testing.assert_array_equal(found["mask_rows"], wanted["mask_rows"])


def test_names_are_no_images():
    with pytest.raises(TypeError, match="got str"):
        batches("photos")


def test_images_of_nan_are_refused():
    data = images(12)
    data[9, 0, 0, 0] = np.nan
    with pytest.raises(NonFiniteError, match=r"images: image \d of 4 holds NaN"):
        list(itertools.islice(batches(data), 3))
