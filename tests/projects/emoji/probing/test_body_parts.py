"""People and their parts, from the named layers of drawings."""

import numpy as np
import pytest

pytest.importorskip("resvg_py", reason="resvg_py draws the SVGs")

from projects.emoji.probing import body_parts
from projects.emoji.probing.segmentation_set import IGNORE, bounding_box
from tests.projects.emoji.probing.small_artwork import (
    CONCEPTS,
    HAIR,
    SHIRT,
    SKIN,
    openmoji_members,
)

pytestmark = [pytest.mark.slow, pytest.mark.once]


@pytest.fixture(scope="module")
def people():
    dropped = body_parts.Counter()
    found = body_parts.read_people(openmoji_members(), CONCEPTS, dropped)
    assert dropped == {"not in the emoji table": 1, "fewer than two parts": 1}
    return found


def test_people_come_with_their_skin_tones(people):
    assert [one.concept.id for one in people] == [0, 1, 2, 3, 4, 5, 6, 7, 9]
    assert all(len(one.drawings) == 2 for one in people)
    assert SKIN in people[0].drawings[0].svg
    shares = body_parts.part_shares(people[0].drawings[0])
    assert shares.sum() == pytest.approx(1)
    assert shares[0] == 0
    # The face's share of what is drawn: a disc, a half-covered one, and a bar.
    assert shares[1] == pytest.approx(
        np.pi * 13**2 / (np.pi * 17**2 + 30 * 16), rel=0.05
    )


def test_families_are_ranked_into_splits(people):
    split = body_parts.split_people(people)
    assert {name: len(group) for name, group in split.items()} == {
        "validation": 1, "test_seen": 2, "train": 5, "test_heldout": 1
    }  # fmt: skip
    assert [one.concept.id for one in split["test_heldout"]] == [9]
    assert body_parts.split_people(people[::-1])["validation"] == split["validation"]
    everyone = [one.concept.id for group in split.values() for one in group]
    assert sorted(everyone) == [one.concept.id for one in people]


def test_parts_have_their_colours(data, people, monkeypatch):
    monkeypatch.setattr(body_parts, "JITTER", 0.0)
    made = body_parts.make_parts(data, "train", people, 64, images=6, quiet=True)
    assert made.class_names == ("background", "skin", "hair", "clothes and things")
    tones = set()
    for number in range(6):
        image, mask = made.images[number].astype(int), made.masks[number]
        for part, colours in ((2, (HAIR,)), (3, (SHIRT,)), (1, (SKIN, "#6a462f"))):
            wanted = np.array(
                [[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in colours]
            )
            judged = image[mask == part]
            assert len(judged) > 20
            # A judged pixel may show a quarter of its neighbour, at the edge.
            far = np.abs(judged[:, None] - wanted).max(axis=2)
            assert (far.min(axis=1) <= 2).mean() > 0.75
            if part == 1:
                tones.add(int(np.median(far, axis=0).argmin()))
        objects = made.objects[number]
        assert [one.class_id for one in objects] == [3, 2, 1]
        for place, one in enumerate(objects):
            inside = mask[made.object_mask(number, place)]
            assert set(np.unique(inside)) <= {one.class_id, IGNORE}
    assert tones == {0, 1}
    again = body_parts.make_parts(data, "train", people, 64, images=2, quiet=True)
    np.testing.assert_array_equal(again.images, made.images[:2])
    np.testing.assert_array_equal(again.masks, made.masks[:2])


def test_the_drawing_has_the_wanted_size(people):
    drawing = people[0].drawings[0]
    side, box = body_parts.side_and_box(drawing, 50)
    ink = bounding_box(np.asarray(body_parts.rasterise(drawing.svg, side))[..., 3] > 0)
    assert box[0] <= ink[0]
    assert box[1] <= ink[1]
    assert box[2] >= ink[2]
    assert box[3] >= ink[3]
    assert 45 <= max(box[2] - box[0], box[3] - box[1]) <= 52


def test_unknown_or_empty_split_of_parts(data, people, tmp_path):
    with pytest.raises(ValueError, match="no split 'test'"):
        body_parts.load_parts(tmp_path, "test")
    with pytest.raises(ValueError, match="no drawing belongs to the split"):
        body_parts.make_parts(data, "test_heldout", people[:3], 64, quiet=True)
