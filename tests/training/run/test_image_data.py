"""What an alignment reads of shards: images, masks beside them, and what is refused."""

import io

import numpy as np
import pytest
from PIL import Image

from keras_pe.data.sample_errors import TooManySkipped
from keras_pe.training import shape_rows
from keras_pe.training.resolution import PlannedStage
from keras_pe.training.run.image_data import ImageData
from keras_pe.training.run.spatial_config import SpatialConfig
from keras_pe.training.run.training_config import stages_of
from keras_pe.training.teachers.shapes import background_share, renumbered
from tests.data.shards import image_bytes, tar_bytes

SIDE, PATCH = 32, 8
GRID = (SIDE // PATCH,) * 2

pytestmark = [pytest.mark.quick, pytest.mark.once]


def numbers_of(sample):
    """Three instances of other sizes, with large numbers, on a background."""
    numbers = np.zeros((SIDE, SIDE), "uint16")
    numbers[4:30, 2:20] = 700 + sample
    numbers[0:9, 16:32] = 3
    numbers[20:24, 20 : 22 + sample] = 65_000
    return numbers


def write_shard(folder, count=6, without=(), small=()):
    members = []
    for sample in range(count):
        members.append((f"{sample}.png", image_bytes(sample, (SIDE, SIDE))))
        numbers = numbers_of(sample)
        if sample in small:
            numbers = numbers[:16]
        stream = io.BytesIO()
        Image.fromarray(numbers).save(stream, "PNG")
        if sample not in without:
            members.append((f"{sample}.seg.png", stream.getvalue()))
    (folder / "masks.tar").write_bytes(tar_bytes(members))
    return str(folder / "masks.tar")


def batches_of(path, count=1, workers=0, **changes):
    config = SpatialConfig(
        encoder="pe_core_emoji_patch8_64",
        stages=stages_of(64, (SIDE,), (1,)),
        batch_size=4,
        **{"augment": False, "most_shapes": 5, **changes},
    )
    make = ImageData(path, workers).batches(config, PATCH)
    stage = PlannedStage(SIDE, 0, 64)
    return [batch for (batch,) in make(stage, 0, count)]


def test_rows_are_those_of_the_maps(tmp_path):
    path = write_shard(tmp_path)
    known = {}
    for sample in range(6):
        numbers = renumbered(numbers_of(sample), 5)
        rows = shape_rows(numbers, GRID, 5), background_share(numbers, GRID)
        image = np.asarray(Image.open(io.BytesIO(image_bytes(sample, (SIDE, SIDE)))))
        known[image.tobytes()] = rows
    (batch,) = batches_of(path, background_weight=0.1)
    assert sorted(batch) == ["background", "images", "mask_rows", "masked_patches"]
    assert batch["mask_rows"].shape == (4, 16, 6)
    for row in range(4):
        pixels = np.round((batch["images"][row] + 1) * 127.5).astype("uint8")
        rows, background = known[pixels.tobytes()]
        np.testing.assert_array_equal(batch["mask_rows"][row], rows)
        np.testing.assert_array_equal(batch["background"][row], background)


def test_of_too_many_shapes_the_smallest_are_background(tmp_path):
    (batch,) = batches_of(write_shard(tmp_path), most_shapes=1)
    assert batch["mask_rows"].shape == (4, 16, 2)
    covered = batch["mask_rows"][..., 1].sum(1) * PATCH**2
    assert set(covered) <= {(numbers_of(s) == 700 + s).sum() for s in range(6)}
    assert "background" not in batch


@pytest.mark.slow
def test_augmented_batches_come_again_and_from_processes_too(tmp_path):
    path = write_shard(tmp_path)
    first, again, processes = (
        batches_of(path, 2, workers, augment=True) for workers in (0, 0, 1)
    )
    for one, two, three in zip(first, again, processes, strict=True):
        for name, array in one.items():
            np.testing.assert_array_equal(array, two[name], err_msg=name)
            np.testing.assert_array_equal(array, three[name], err_msg=name)
        np.testing.assert_allclose(one["mask_rows"].sum(-1), 1.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"without": range(6)}, r"no mask.*expected one that ends in \.seg\.png"),
        ({"small": range(6)}, r"wrong mask.*32 x 16 pixels; expected .*32 x 32"),
    ],
)
def test_samples_without_a_fitting_mask_are_refused_by_name(tmp_path, changes, message):
    path = write_shard(tmp_path, **changes)
    with pytest.raises((ValueError, TooManySkipped), match=r"masks\.tar") as refused:
        batches_of(path)
    assert refused.match(f"(?s){message}")


def test_one_without_a_mask_gives_way_and_is_named(tmp_path, caplog):
    path = write_shard(tmp_path, without=[2])
    (batch,) = batches_of(path, max_bad_share=1.0)
    assert batch["mask_rows"].shape == (4, 16, 6)
    batches_of(path, 2, max_bad_share=1.0)
    assert "no mask" in caplog.text


def test_masks_are_read_where_they_are_asked_for(tmp_path):
    path = write_shard(tmp_path, without=range(6))
    (batch,) = batches_of(path, mask_teacher="teacher")
    assert sorted(batch) == ["images", "masked_patches"]
