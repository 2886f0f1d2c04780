"""Classes and scenes of several drawings."""

import numpy as np
import pytest

pytest.importorskip("resvg_py", reason="resvg_py draws the SVGs")

from projects.emoji.probing import scenes
from projects.emoji.probing.canvas import (
    premultiplied,
)
from projects.emoji.probing.scene_classes import CLASS_NAMES, CLASSES, class_of
from projects.emoji.probing.scene_images import FULL_CLASS, Drawing, Picker
from projects.emoji.probing.segmentation_set import IGNORE, bounding_box, load, save
from tests.projects.emoji.probing.small_artwork import (
    LABELS,
    SIZE,
    drawn,
    record_of,
)

pytestmark = [pytest.mark.slow, pytest.mark.once]


def test_each_subgroup_has_one_class():
    subgroups = [name for names in CLASSES.values() for name in names]
    assert len(subgroups) == len(set(subgroups))
    assert 20 <= len(CLASSES) <= 30


@pytest.mark.parametrize(
    ("record", "name"),
    [
        ({"label": "owl", "subgroup": "animal-bird"}, "bird"),
        ({"label": "feather", "subgroup": "animal-bird"}, None),
        ({"label": "x", "subgroup": "warning"}, None),
        ({"label": "x", "subgroup": "heart", "is_symbol": True}, None),
    ],
)
def test_class_of(record, name):
    found = class_of(record)
    assert (None if found is None else CLASS_NAMES[found]) == name


def test_scenes_are_functions_of_seed_and_number(data, few):
    again = scenes.make_scenes(data, "train", SIZE, scenes=5, quiet=True)
    np.testing.assert_array_equal(again.images, few.images[:5])
    np.testing.assert_array_equal(again.masks, few.masks[:5])
    assert again.objects == few.objects[:5]
    other = scenes.make_scenes(data, "train", SIZE, seed=1, scenes=5, quiet=True)
    assert (other.images != again.images).any()


def test_masks_boxes_and_instances_agree(few):
    assert few.images.shape == (12, SIZE, SIZE, 3)
    assert few.class_names == CLASS_NAMES
    for number, objects in enumerate(few.objects):
        instances, mask = few.instances[number], few.masks[number]
        assert 2 <= len(objects) <= 4
        assert instances.max() == len(objects)
        classes = np.array([0, *(one.class_id for one in objects)])
        judged = mask != IGNORE
        np.testing.assert_array_equal(mask[judged], classes[instances[judged]])
        assert 0 < (~judged).mean() < 0.2
        assert len({one.concept for one in objects}) == len(objects)
        for place, one in enumerate(objects):
            visible = few.object_mask(number, place)
            left, top, right, bottom = one.box
            assert visible[top:bottom, left:right].sum() == visible.sum() > 0
            assert bounding_box(visible) == one.box
            assert one.caption == f"an emoji of {one.label}"
            assert one.label in LABELS[CLASS_NAMES[one.class_id]]


def test_images_show_what_the_masks_say(few):
    """Every lemon is yellow: where its mask is sure, so is the image."""
    seen = 0
    for number, objects in enumerate(few.objects):
        for place, one in enumerate(objects):
            if one.label == "lemon":
                sure = few.object_mask(number, place) & (few.masks[number] != IGNORE)
                colours = few.images[number][sure].astype(int)
                assert np.abs(colours - [255, 255, 0]).max() <= 30  # alpha from 0.9
                seen += 1
    assert seen


def test_object_number_out_of_range(few):
    with pytest.raises(ValueError, match="there is no object 9"):
        few.object_mask(0, 9)


def test_no_vendor_draws_a_family_on_two_sides(data):
    sides = {}
    for split in ("train", "validation", "test_seen", "test_unseen"):
        drawings, textures, dropped = scenes.load_sources(data, split)
        sides[split] = {(d.record["vendor"], d.record["family"]) for d in drawings}
        assert len(textures) == 1
        assert dropped["no class"] == 1
    assert sides["test_seen"] == {("flat-art", f"F{n}") for n in (1, 2, 5, 6, 9)}
    assert sides["train"]
    assert sides["validation"]
    assert not sides["train"] & sides["validation"]
    assert not (sides["train"] | sides["validation"]) & sides["test_seen"]
    # The other vendor's lemon may be trained on.
    assert ("round-art", "F1") in sides["train"] | sides["validation"]


def test_translucent_drawings_are_left_out():
    image = np.zeros((8, 8, 4), "uint8")
    image[:4, :, 3], image[4:, :, 3] = 255, 128
    assert scenes.solid_share(image) == 0.5
    assert scenes.solid_share(np.zeros((8, 8, 4), "uint8")) == 0


def test_a_scarce_class_comes_by_its_drawings():
    image = premultiplied(drawn("lemon", "round-art"))
    drawings = [
        Drawing(
            image, record_of(n, f"x{n}", "tool", "v"), 1 if n < 2 * FULL_CLASS else 2
        )
        for n in range(2 * FULL_CLASS + FULL_CLASS // 2)
    ]
    picker = Picker(drawings)
    np.testing.assert_allclose(picker.shares, [2 / 3, 1 / 3])
    with pytest.raises(ValueError, match="no 9 drawings"):
        Picker(drawings[:8]).pick(9, np.random.default_rng(0))


def test_heldout_concepts_are_marked(data):
    test = scenes.make_scenes(data, "test_unseen", SIZE, scenes=10, quiet=True)
    marked = {one.heldout: set() for one in sum(test.objects, ())}
    for one in sum(test.objects, ()):
        marked[one.heldout].add(one.label)
    assert marked[True] == {"lemon"}
    assert "lemon" not in marked[False]
    assert {one.vendor for one in sum(test.objects, ())} == {"test"}


def test_the_command_writes_every_split(data, tmp_path, monkeypatch):
    small = {
        n: scenes.Split(s.number, s.shards, 2, "") for n, s in scenes.SPLITS.items()
    }
    monkeypatch.setattr(scenes, "SPLITS", small)
    monkeypatch.setattr(scenes, "VALIDATION_SHARE", 0.5)
    arguments = ["--data", str(data), "--output", str(tmp_path), "--size", "32"]
    scenes.main(arguments)
    for split in small:
        read = scenes.load_scenes(tmp_path, split)
        assert read.images.shape == (2, 32, 32, 3)
        assert read.about["split"] == split
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    scenes.main(arguments)
    assert first == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_files_round_trip_and_others_are_refused(few, tmp_path):
    save(tmp_path / "deep" / "set.npz", few)
    read = load(tmp_path / "deep" / "set.npz")
    np.testing.assert_array_equal(read.images, few.images)
    np.testing.assert_array_equal(read.instances, few.instances)
    assert read.objects == few.objects
    assert read.about == few.about
    with pytest.raises(ValueError, match="no split 'tset'"):
        scenes.load_scenes(tmp_path, "tset")
    with pytest.raises(FileNotFoundError, match=r"DATA\.md"):
        scenes.load_scenes(tmp_path, "train")
    np.savez(tmp_path / "other.npz", images=np.zeros(1))
    with pytest.raises(ValueError, match="lacks instances, masks, text"):
        load(tmp_path / "other.npz")
