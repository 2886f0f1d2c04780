"""Scenes, parts and clips of the probing data: small hand-made artwork, no network."""

import io
import json

import numpy as np
import pytest
from PIL import Image, ImageDraw

pytest.importorskip("resvg_py", reason="resvg_py draws the SVGs")

from recipes.emoji_data.packages import load_packages
from recipes.emoji_data.render import encode_webp
from recipes.emoji_data.shards import to_json_bytes, write_shards
from recipes.emoji_data.table import Concept
from recipes.probing import clips, colour_floor, contact_sheet, parts, scenes
from recipes.probing.backgrounds import KINDS, draw_background
from recipes.probing.layered_svg import coverage, read_layers, shape_numbers
from recipes.probing.layers import (
    Canvas,
    Layer,
    premultiplied,
    random_place,
    resized,
)
from recipes.probing.scene_classes import CLASS_NAMES, CLASSES, class_of
from recipes.probing.scene_pictures import FULL_CLASS, Drawing, Picker
from recipes.probing.segmentation_set import IGNORE, bounding_box, load, save

pytestmark = pytest.mark.slow

SIZE = 48
KEPT_BACK = ("lemon", "pear", "owl", "duck", "axe")
# Class, subgroup and labels of the hand-made concepts.
THINGS = (
    ("fruit", "food-fruit", ("lemon", "pear", "melon", "grapes")),
    ("bird", "animal-bird", ("owl", "duck", "swan", "dove")),
    ("tool", "tool", ("axe", "pick", "hook", "gear")),
)
LABELS = {name: labels for name, _, labels in THINGS}
COLOURS = {"lemon": "yellow", "owl": "brown", "axe": "grey"}


def drawn(label, vendor, side=24):
    """A filled shape with a smooth edge and a transparent surround."""
    large = Image.new("RGBA", (4 * side, 4 * side))
    brush = ImageDraw.Draw(large)
    box = (8, 8 + 2 * len(label), 4 * side - 12, 4 * side - 8)
    shape = brush.ellipse if vendor == "round-art" else brush.rectangle
    shape(box, COLOURS.get(label, "#2040c0"))
    small = large.convert("RGBa").resize((side, side), Image.Resampling.BOX)
    return small.convert("RGBA")


def record_of(number, label, subgroup, vendor, **more):
    return {
        "concept": number,
        "label": label,
        "family": f"F{number}",
        "hexcode": f"{number:04X}",
        "subgroup": subgroup,
        "group": "things",
        "tags": [],
        "keywords": [],
        "is_flag": False,
        "is_symbol": False,
        "heldout": False,
        "vendor": vendor,
        "key": f"{vendor}_{number}",
    } | more


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """What the recipes of the emoji data leave: shards of all splits."""
    directory = tmp_path_factory.mktemp("emoji")
    samples = {"train": [], "val_seen": [], "test": [], "rendition": [], "tuxpaint": []}
    number = 0
    for _, subgroup, labels in THINGS:
        for label in labels:
            number += 1
            for vendor in ("round-art", "flat-art"):
                # Some drawings are kept back for val_seen; the other vendor's are not.
                kept = vendor == "flat-art" and label in KEPT_BACK
                split = "val_seen" if kept else "train"
                record = record_of(number, label, subgroup, vendor)
                samples[split].append((record, encode_webp(drawn(label, vendor))))
            for split in ("test", "rendition", "tuxpaint"):
                record = record_of(number, label, subgroup, split, heldout=number == 1)
                samples[split].append((record, encode_webp(drawn(label, split))))
    for split in samples:
        more = record_of(90, "no entry", "warning", "signs", is_symbol=True)
        samples[split].append((more, encode_webp(drawn("no entry", "round-art"))))
        more = record_of(91, "calendar", "office", "signs")
        samples[split].append((more, encode_webp(drawn("calendar", "round-art"))))
        write_shards(directory, split, samples[split])
    return directory


@pytest.fixture(scope="module")
def few(data):
    return scenes.make_scenes(data, "train", SIZE, scenes=12, quiet=True)


# Classes ------------------------------------------------------------------------


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


# Canvas -------------------------------------------------------------------------


def random_layers(count, size, seed):
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        drawing = premultiplied(drawn("lemon", rng.choice(["round-art", "flat-art"])))
        place = random_place(drawing.size, rng.uniform(0.3, 0.8) * size, size, rng)
        found.append(resized(drawing, *place))
    return found


def test_canvas_equals_painting_pixel_by_pixel():
    background = np.random.default_rng(0).uniform(0, 255, (32, 32, 3)).astype("float32")
    layers = random_layers(4, 32, seed=1)
    canvas = Canvas(background)
    shares = [canvas.visible_shares()]
    for layer in layers:
        shares.append([*canvas.visible_shares(layer), 1.0])
        canvas.add(layer)
        # What it said before drawing is what there is after drawing.
        assert canvas.visible_shares() == pytest.approx(shares[-1])

    picture, instances = background.copy(), np.zeros((32, 32), int)
    rim = np.zeros((32, 32), bool)
    for number, layer in enumerate(layers, 1):
        for row, column in np.ndindex(layer.alpha.shape):
            alpha = layer.alpha[row, column]
            place = (row + layer.top, column + layer.left)
            picture[place] = picture[place] * (1 - alpha) + layer.colours[row, column]
            if alpha >= 0.5:
                instances[place] = number
            if alpha > 0.1:
                rim[place] = alpha < 0.9
    np.testing.assert_allclose(canvas.picture, picture, atol=1e-3)
    np.testing.assert_array_equal(canvas.instances, instances)
    np.testing.assert_array_equal(canvas.rim, rim)
    assert canvas.rim.any()
    assert canvas.picture_bytes().dtype == np.uint8


def test_contrast_is_the_share_that_differs():
    canvas = Canvas(np.full((8, 8, 3), 255, "float32"))
    colours = np.full((4, 4, 3), 255, "float32")
    colours[:, :1] = 0
    layer = Layer(colours, np.ones((4, 4), "float32"), 2, 2)
    assert canvas.contrast(layer) == 0.25


def test_premultiplied_resizing_keeps_hidden_colours_out():
    image = Image.new("RGBA", (8, 8), (0, 255, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 8, 4))
    layer = resized(premultiplied(image), 5, 5, 0, 0)
    assert layer.colours[..., 1].max() == 0
    assert layer.colours[..., 0].max() == 255


def test_backgrounds_come_in_all_kinds():
    rng = np.random.default_rng(0)
    textures = [premultiplied(drawn("lemon", "round-art"))]
    kinds = set()
    for _ in range(60):
        picture, kind = draw_background(16, textures, rng)
        assert picture.shape == (16, 16, 3)
        assert picture.dtype == np.float32
        assert picture.min() >= 0
        assert picture.max() <= 255
        assert (np.ptp(picture, axis=(0, 1)).max() < 1) == (kind == "plain")
        kinds.add(kind)
    assert kinds == set(KINDS)
    assert {draw_background(8, [], rng)[1] for _ in range(40)} == set(KINDS[:-1])


# Scenes -------------------------------------------------------------------------


def test_scenes_are_functions_of_seed_and_number(data, few):
    again = scenes.make_scenes(data, "train", SIZE, scenes=5, quiet=True)
    np.testing.assert_array_equal(again.pictures, few.pictures[:5])
    np.testing.assert_array_equal(again.masks, few.masks[:5])
    assert again.objects == few.objects[:5]
    other = scenes.make_scenes(data, "train", SIZE, seed=1, scenes=5, quiet=True)
    assert (other.pictures != again.pictures).any()


def test_masks_boxes_and_instances_agree(few):
    assert few.pictures.shape == (12, SIZE, SIZE, 3)
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


def test_pictures_show_what_the_masks_say(few):
    """Every lemon is yellow: where its mask is sure, so is the picture."""
    seen = 0
    for number, objects in enumerate(few.objects):
        for place, one in enumerate(objects):
            if one.label == "lemon":
                sure = few.object_mask(number, place) & (few.masks[number] != IGNORE)
                colours = few.pictures[number][sure].astype(int)
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
    picture = np.zeros((8, 8, 4), "uint8")
    picture[:4, :, 3], picture[4:, :, 3] = 255, 128
    assert scenes.solid_share(picture) == 0.5
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
        assert read.pictures.shape == (2, 32, 32, 3)
        assert read.about["split"] == split
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    scenes.main(arguments)
    assert first == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_files_round_trip_and_others_are_refused(few, tmp_path):
    save(tmp_path / "deep" / "set.npz", few)
    read = load(tmp_path / "deep" / "set.npz")
    np.testing.assert_array_equal(read.pictures, few.pictures)
    np.testing.assert_array_equal(read.instances, few.instances)
    assert read.objects == few.objects
    assert read.about == few.about
    with pytest.raises(ValueError, match="no split 'tset'"):
        scenes.load_scenes(tmp_path, "tset")
    with pytest.raises(FileNotFoundError, match=r"DATA\.md"):
        scenes.load_scenes(tmp_path, "train")
    np.savez(tmp_path / "other.npz", pictures=np.zeros(1))
    with pytest.raises(ValueError, match="lacks instances, masks, text"):
        load(tmp_path / "other.npz")


# Layered drawings ---------------------------------------------------------------

SKIN, HAIR, SHIRT = "#fcea2b", "#a57939", "#61b2e4"


def person_svg(skin=SKIN, extra=""):
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 72 72">
      <g id="color"><rect x="12" y="48" width="30" height="16" fill="{SHIRT}"/></g>
      <g id="hair-2" fill="{HAIR}"><circle cx="36" cy="28" r="17"/></g>
      <g id="skin"><g><circle cx="36" cy="32" r="13" fill="{skin}"/></g></g>
      <g id="skin-shadow"/>
      <g id="line"><path fill="none" stroke="#000" stroke-width="2" d="M12 48h30"/></g>
      {extra}</svg>"""


def test_layers_are_read_in_the_order_of_drawing():
    drawing = read_layers(person_svg())
    assert drawing.layers == ("color", "hair", "skin", "line")
    names = ("color-foreground", "skin-shadow", "line-supplement", "line_1_", "skin-b")
    extra = "".join(f'<g id="{name}"><path d="M0 0"/></g>' for name in names)
    found = read_layers(person_svg(extra=extra)).layers[4:]
    assert found == (
        "color-foreground",
        "skin-shadow",
        "line-supplement",
        "line",
        "skin",
    )


@pytest.mark.parametrize("extra", ["<defs/>", '<path d="M0 0"/>', '<g id="linear"/>'])
def test_what_is_not_layered_is_refused(extra):
    if "linear" in extra:  # a name that only begins like a layer's
        extra = '<g id="linear"><path d="M0 0"/></g>'
    with pytest.raises(ValueError, match=r"layer"):
        read_layers(person_svg(extra=extra))


def test_numbers_equal_drawing_each_shape_alone():
    """The slow way: one picture a shape; the last one that has a pixel owns it."""
    drawing = read_layers(person_svg())
    numbers = shape_numbers(drawing, 90)
    slow = np.zeros((90, 90), int)
    bodies = [
        f'<rect x="12" y="48" width="30" height="16" fill="{SHIRT}"/>',
        '<circle cx="36" cy="28" r="17"/>',
        '<circle cx="36" cy="32" r="13"/>',
        '<path fill="none" stroke="#000" stroke-width="2" d="M12 48h30"/>',
    ]
    for number, body in enumerate(bodies, 1):
        alone = (
            person_svg()
            .split("<g", 1)[0]
            .replace("<svg", '<svg shape-rendering="crispEdges"')
        )
        picture = np.asarray(parts.rasterise(f"{alone}{body}</svg>", 90))
        slow[picture[..., 3] > 127] = number
    np.testing.assert_array_equal(numbers, slow)
    assert set(np.unique(numbers)) == {0, 1, 2, 3, 4}


def test_coverage_equals_counting():
    values = np.random.default_rng(0).integers(0, 4, (12, 8), dtype="uint8")
    fast = coverage(values, 4, 4)
    slow = np.zeros((4, 3, 2), int)
    for row, column in np.ndindex(values.shape):
        slow[values[row, column], row // 4, column // 4] += 1
    np.testing.assert_array_equal(fast, slow)
    with pytest.raises(ValueError, match="no grid of blocks"):
        coverage(values, 5, 4)


# Parts --------------------------------------------------------------------------


def concept(number, label, family, heldout=False, subgroup="person"):
    return Concept(
        id=number, hexcode=f"1F46{number}", label=label, tags=[], keywords=[],
        group="people-body", subgroup=subgroup, family=family, heldout=heldout,
        is_flag=False, is_symbol=False,
    )  # fmt: skip


CONCEPTS = [
    concept(number, f"person {number}", f"F{number}", heldout=number == 9)
    for number in range(10)
]


def openmoji_members():
    """Nine people with a darker twin each, a hand, and a stranger to the table."""
    entries, files = [], {}
    for number in range(10):
        for tone, skin in (("", SKIN), ("-1F3FF", "#6a462f")):
            hexcode = f"1F46{number}{tone}"
            base = f"1F46{number}" if tone else ""
            entries.append({"group": "people-body", "hexcode": hexcode,
                            "skintone_base_hexcode": base})  # fmt: skip
            svg = person_svg(skin) if number != 8 else (
                '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 72 72">'
                f'<g id="skin"><circle cx="36" cy="36" r="20" fill="{skin}"/></g></svg>'
            )  # fmt: skip
            files[f"package/color/svg/{hexcode}.svg"] = svg.encode()
    entries.append({"group": "people-body", "hexcode": "ABCD",
                    "skintone_base_hexcode": ""})  # fmt: skip
    entries.append({"group": "objects", "hexcode": "EF01",
                    "skintone_base_hexcode": ""})  # fmt: skip
    return {"package/data/openmoji.json": json.dumps(entries).encode(), **files}


@pytest.fixture(scope="module")
def people():
    dropped = parts.Counter()
    found = parts.read_people(openmoji_members(), CONCEPTS, dropped)
    assert dropped == {"not in the emoji table": 1, "fewer than two parts": 1}
    return found


def test_people_come_with_their_skin_tones(people):
    assert [one.concept.id for one in people] == [0, 1, 2, 3, 4, 5, 6, 7, 9]
    assert all(len(one.drawings) == 2 for one in people)
    assert SKIN in people[0].drawings[0].svg
    shares = parts.part_shares(people[0].drawings[0])
    assert shares.sum() == pytest.approx(1)
    assert shares[0] == 0
    # The face's share of what is drawn: a disc, a half-covered one, and a bar.
    assert shares[1] == pytest.approx(
        np.pi * 13**2 / (np.pi * 17**2 + 30 * 16), rel=0.05
    )


def test_families_are_ranked_into_splits(people):
    split = parts.split_people(people)
    assert {name: len(group) for name, group in split.items()} == {
        "validation": 1, "test_seen": 2, "train": 5, "test_heldout": 1
    }  # fmt: skip
    assert [one.concept.id for one in split["test_heldout"]] == [9]
    assert parts.split_people(people[::-1])["validation"] == split["validation"]
    everyone = [one.concept.id for group in split.values() for one in group]
    assert sorted(everyone) == [one.concept.id for one in people]


def test_parts_have_their_colours(data, people, monkeypatch):
    monkeypatch.setattr(parts, "JITTER", 0.0)
    made = parts.make_parts(data, "train", people, 64, pictures=6, quiet=True)
    assert made.class_names == ("background", "skin", "hair", "clothes and things")
    tones = set()
    for number in range(6):
        picture, mask = made.pictures[number].astype(int), made.masks[number]
        for part, colours in ((2, (HAIR,)), (3, (SHIRT,)), (1, (SKIN, "#6a462f"))):
            wanted = np.array(
                [[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in colours]
            )
            judged = picture[mask == part]
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
    again = parts.make_parts(data, "train", people, 64, pictures=2, quiet=True)
    np.testing.assert_array_equal(again.pictures, made.pictures[:2])
    np.testing.assert_array_equal(again.masks, made.masks[:2])


def test_the_drawing_has_the_wanted_size(people):
    drawing = people[0].drawings[0]
    side, box = parts.side_and_box(drawing, 50)
    ink = bounding_box(np.asarray(parts.rasterise(drawing.svg, side))[..., 3] > 0)
    assert box[0] <= ink[0]
    assert box[1] <= ink[1]
    assert box[2] >= ink[2]
    assert box[3] >= ink[3]
    assert 45 <= max(box[2] - box[0], box[3] - box[1]) <= 52


def test_unknown_or_empty_split_of_parts(data, people, tmp_path):
    with pytest.raises(ValueError, match="no split 'test'"):
        parts.load_parts(tmp_path, "test")
    with pytest.raises(ValueError, match="no drawing belongs to the split"):
        parts.make_parts(data, "test_heldout", people[:3], 64, quiet=True)


# Clips --------------------------------------------------------------------------

PAINTS = ("#e02020", "#20c020", "#2020e0", "#e0c020")


def animation(colour, pictures=48, side=32):
    """A disc that goes to and fro in a transparent square."""
    frames = []
    for number in range(pictures):  # no two in a row are equal: those become one
        image = Image.new("RGBA", (side, side))
        left = 2 + abs(number % 12 - 6)
        ImageDraw.Draw(image).ellipse((left, 5, left + 20, 25), colour)
        frames.append(image)
    stream = io.BytesIO()
    frames[0].save(
        stream,
        "WEBP",
        save_all=True,
        append_images=frames[1:],
        lossless=True,
        duration=42,
    )
    return stream.getvalue()


@pytest.fixture(scope="module")
def film(data, tmp_path_factory):
    """Two clips of four animals; a still picture and a thing are not among them."""
    rows = [concept(n, f"animal {n}", f"F{n}", subgroup="animal-bug") for n in range(6)]
    rows[5].subgroup = "tool"
    (data / "concepts.json").write_bytes(to_json_bytes([vars(row) for row in rows]))
    members = {
        f"package/assets/1f46{n}.webp": animation(colour)
        for n, colour in enumerate(PAINTS)
    }
    members["package/assets/1f464.webp"] = encode_webp(drawn("lemon", "round-art"))
    members["package/assets/1f465.webp"] = animation("red")
    members["package/assets/1f469.webp"] = b"no picture, and no concept"
    made = clips.make_clips(data, members, clips=2, frames=12, size=64, quiet=True)
    with pytest.raises(ValueError, match="3 clips need 6 animals; there are 4"):
        clips.make_clips(data, members, clips=3, quiet=True)
    return made


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


# Packages, floor, sheets --------------------------------------------------------


def test_packages_are_pinned_and_the_test_vendor_is_for_testing():
    packages = {package.vendor: package for package in load_packages(parts.PACKAGES)}
    assert packages["fluent-emoji-anim"].role == "test"
    assert packages["openmoji"].licence == "CC-BY-SA-4.0"
    assert all(len(package.sha512) == 128 for package in packages.values())


def test_colour_floor_names_what_it_has_seen(few):
    likeliest = colour_floor.fit_colours(few)
    predicted = likeliest[colour_floor.colour_numbers(few.pictures)]
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
