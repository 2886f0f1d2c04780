"""Mask teachers that are given, or answer, what is no image and no mask."""

import numpy as np
import pytest

from keras_pe.arrays import NonFiniteError
from keras_pe.training import CachedTeacher, FeatureTeacher, SamTeacher, with_mask_rows
from tests.small_models import images, vision_encoder
from tests.training.teachers.test_sam import StandIn

GRID = (4, 4)
X = images(2)
NAN = np.where(np.arange(2)[:, None, None, None] == 1, np.nan, X).astype("float32")

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module", params=["sam", "features", "cached"])
def teacher(request, tmp_path_factory):
    if request.param == "features":
        return FeatureTeacher(vision_encoder(num_layers=1))
    sam = SamTeacher(StandIn(), points=2, chunk=4)
    if request.param == "sam":
        return sam
    return CachedTeacher(sam, tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (NAN, NonFiniteError, "image 1 of 2 holds NaN"),
        (X[0], ValueError, r"\(batch, height, width, 3\).*got \(32, 32, 3\)"),
        (X[..., :1], ValueError, r"got \(2, 32, 32, 1\)"),
        (X[:0], ValueError, r"at least one, got \(0, 32, 32, 3\)"),
        ((X * 100).astype("uint8"), ValueError, "floating point .*got uint8"),
        ((X + 1) * 127.5, ValueError, "values from .* to 25"),
        (None, TypeError, "got None"),
        ("image.png", TypeError, "PEImageConverter"),
    ],
    ids=["NaN", "no batch", "grey", "empty", "uint8", "0 to 255", "None", "path"],
)
def test_what_is_no_image_is_refused(teacher, given, error, message):
    with pytest.raises(error, match=message):
        teacher(given, GRID)


@pytest.mark.parametrize("grid", [(0, 4), 4, (4.5, 4), (4, 4, 4), None])
def test_what_is_no_grid_is_refused(teacher, grid):
    with pytest.raises(ValueError, match=r"\(rows, columns\) of patches.*got"):
        teacher(X, grid)


# === What comes back ===
def answering(array):
    return lambda images, grid: array


@pytest.mark.parametrize(
    ("masks", "error", "message"),
    [
        (np.zeros((2, 4, 4)), ValueError, r"here \(2, 4, 4, points\), got \(2, 4, 4\)"),
        (np.zeros((1, 4, 4, 3)), ValueError, r"got \(1, 4, 4, 3\)"),
        (np.zeros((2, 2, 4, 3)), ValueError, r"got \(2, 2, 4, 3\)"),
        (np.full((2, 4, 4, 3), np.inf), NonFiniteError, "masks of the teacher"),
    ],
    ids=["flat", "rows", "grid", "infinity"],
)
def test_what_is_no_answer_is_refused(masks, error, message, tmp_path):
    with pytest.raises(error, match=message):
        CachedTeacher(answering(masks), tmp_path / "cache", "a name")(X, GRID)
    assert not list(tmp_path.rglob("*.npy"))
    with pytest.raises(error, match=message):
        next(iter(with_mask_rows([{"images": X}], answering(masks), 8)))


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (3, "dictionary of arrays, got a batch of int"),
        ({"token_ids": X}, "got a batch of .'token_ids'."),
        ({"images": X, "mask_rows": X}, "has mask_rows already"),
        ({"images": X[:, :20]}, "20x32 pixels have no whole patches of 8"),
    ],
)
def test_batches_without_images_are_refused(batch, message):
    with pytest.raises(ValueError, match=message):
        next(iter(with_mask_rows([batch], answering(None), 8)))


def test_patches_of_no_size_are_refused():
    with pytest.raises(ValueError, match="patch_size must be"):
        with_mask_rows([], answering(None), 0)


# === Folders of a cache ===
def test_one_name_for_two_teachers_is_told(tmp_path):
    CachedTeacher(answering(np.zeros((1, 4, 4, 3))), tmp_path, "a name")(X[:1], GRID)
    other = CachedTeacher(answering(np.zeros((2, 4, 4, 5))), tmp_path, "a name")
    with pytest.raises(ValueError, match="answers of 3 and of 5 points to the name"):
        other(X, GRID)


def test_folders_that_hold_or_take_no_answers_are_told(tmp_path):
    with pytest.raises(TypeError, match="teacher must be a function"):
        CachedTeacher(None, tmp_path, "a name")
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "inside", "/proc/nothing"):
        with pytest.raises((ValueError, OSError), match=r"Give (a|another) path"):
            CachedTeacher(answering(None), place, "a name")
    teacher = CachedTeacher(answering(np.zeros((2, 4, 4, 3))), tmp_path, "a name")
    teacher(X, GRID)
    for path in tmp_path.rglob("*.npy"):
        path.unlink()
        path.mkdir()
    with pytest.raises(OSError, match=r"can't be read: .*\.npy"):
        teacher(X, GRID)
