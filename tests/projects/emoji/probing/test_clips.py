"""Clips of two animals, packages, floor and contact sheets."""

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("resvg_py", reason="resvg_py draws the SVGs")

from projects.emoji.data.packages import load_packages
from projects.emoji.probing import body_parts, clips, colour_floor, contact_sheet
from projects.emoji.probing.canvas import (
    Canvas,
)
from projects.emoji.probing.segmentation_set import IGNORE, save
from tests.projects.emoji.probing.small_artwork import (
    PAINTS,
    random_layers,
)

pytestmark = [pytest.mark.slow, pytest.mark.once]


def test_clips_show_two_animals_that_pass_each_other(film):
    assert film.frames.shape == (2, 12, 64, 64, 3)
    assert film.masks.shape == (2, 12, 64, 64)
    assert len({one.label for pair in film.objects for one in pair}) == 4
    assert film.visible[:, 0].min() >= 0.999
    least = film.visible[..., 0].min(axis=1)
    assert (least >= clips.LEAST_VISIBLE).all()
    assert (least <= clips.HIDDEN).all()
    np.testing.assert_array_equal(film.visible[..., 1], 1)


def test_masks_of_clips_are_where_the_colours_are(film):
    for clip, pair in enumerate(film.objects):
        for number, one in enumerate(pair, 1):
            paint = PAINTS[int(one.label[-1])]
            wanted = [int(paint[i : i + 2], 16) for i in (1, 3, 5)]
            shown = film.frames[clip].astype(int)[film.masks[clip] == number]
            np.testing.assert_allclose(np.median(shown, axis=0), wanted, atol=2)


def test_the_background_stands_still(film):
    still = film.masks[0].max(axis=0) == 0
    # One pixel inside, away from smooth edges.
    inner = still.copy()
    for axis in (0, 1):
        inner &= np.roll(still, 1, axis) & np.roll(still, -1, axis)
    assert inner.any()
    assert np.ptp(film.frames[0][:, inner].astype(int), axis=0).max() <= 25


def test_quick_count_of_what_is_hidden_equals_the_canvas():
    layers = random_layers(2, 32, seed=3)
    canvas = Canvas(np.zeros((32, 32, 3), "float32"))
    for layer in layers:
        canvas.add(layer)
    quick = clips.hidden_by(layers[:1], layers[1:], 32)
    assert quick == pytest.approx(canvas.visible_shares()[:1])
    assert quick[0] < 1


def test_paths_are_smooth_and_inside():
    path = clips.smooth_path(24, 10, 50, np.random.default_rng(0))
    assert path.shape == (24, 2)
    assert path.min() >= 10
    assert path.max() <= 50
    bends = np.linalg.norm(np.diff(path, 2, axis=0), axis=1)
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
    assert bends.max() < 0.3 * steps.max()


def test_clip_files_round_trip(film, few, tmp_path):
    clips.write_clips(tmp_path / clips.FILE, film)
    read = clips.load_clips(tmp_path)
    np.testing.assert_array_equal(read.frames, film.frames)
    np.testing.assert_array_equal(read.visible, film.visible)
    assert read.objects == film.objects
    assert clips.is_clip_file(tmp_path / clips.FILE)
    save(tmp_path / "set.npz", few)
    assert not clips.is_clip_file(tmp_path / "set.npz")


def test_packages_are_pinned_and_the_test_vendor_is_for_testing():
    packages = {
        package.vendor: package for package in load_packages(body_parts.PACKAGES)
    }
    assert packages["fluent-emoji-anim"].role == "test"
    assert packages["openmoji"].licence == "CC-BY-SA-4.0"
    assert all(len(package.sha512) == 128 for package in packages.values())


def test_colour_floor_names_what_it_has_seen(few):
    likeliest = colour_floor.fit_colours(few)
    predicted = likeliest[colour_floor.colour_numbers(few.images)]
    floor = colour_floor.mean_iou(predicted, few.masks, len(few.class_names))
    nothing = colour_floor.mean_iou(
        np.zeros_like(predicted), few.masks, len(few.class_names)
    )
    assert nothing < floor < 1


def test_mean_iou_equals_sets():
    rng = np.random.default_rng(0)
    predicted = rng.integers(0, 4, (3, 8, 8), dtype="uint8")
    masks = rng.choice(np.array([0, 1, 3, IGNORE], "uint8"), (3, 8, 8))
    slow = []
    places = [p for p in np.ndindex(masks.shape) if masks[p] != IGNORE]
    for one in (0, 1, 3):
        said = {p for p in places if predicted[p] == one}
        true = {p for p in places if masks[p] == one}
        slow.append(len(said & true) / len(said | true))
    assert colour_floor.mean_iou(predicted, masks, 5) == pytest.approx(np.mean(slow))


@pytest.mark.parametrize("kind", ["set", "clips"])
def test_contact_sheet(kind, few, film, tmp_path):
    path = tmp_path / f"{kind}.npz"
    if kind == "set":
        save(path, few)
    else:
        clips.write_clips(path, film)
    sheet = tmp_path / "sheet.png"
    contact_sheet.main(["--input", str(path), "--output", str(sheet), "--samples", "2"])
    with Image.open(sheet) as image:
        columns = 9 if kind == "set" else 8
        assert image.width == columns * contact_sheet.CELL
        assert len(image.getcolors(2**20)) > 10
