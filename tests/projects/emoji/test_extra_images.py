"""Clip art, icons and further emoji vendors: small hand-made inputs, no network."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from projects.emoji.data.concepts import normalise_hexcode
from projects.emoji.data.icons import IconSet
from projects.emoji.data.packages import (
    EXTRA_LIST,
    PackageError,
    load_packages,
    read_members,
)
from projects.emoji.data.table import Concept

pytest.importorskip("resvg_py", reason="resvg_py draws the SVGs")

from projects.emoji.data import extra_vendors
from projects.emoji.data.clip_art import (
    ClipArt,
    clean_keywords,
    clean_title,
    read_clip_art,
    titles_of,
)
from projects.emoji.data.color_icons import icon_title, prepare_icons
from projects.emoji.data.debian import DebianPackage, obtain_deb
from projects.emoji.data.extra import FIRST_ID, replace_vendors
from projects.emoji.data.extra_vendors import join_vendor
from projects.emoji.data.guarded_render import (
    GuardedRenderer,
    RenderError,
    draw_visible,
)
from projects.emoji.data.heldout_words import HeldoutWords, singular
from projects.emoji.data.openclipart import prepare_clip_art
from projects.emoji.data.rendition import prepare_rendition
from projects.emoji.data.shards import load_arrays, to_json_bytes, write_shards
from tests.projects.emoji.test_emoji_sources import make_tarball

pytestmark = pytest.mark.once

SIZE = 24


def concept(number, label, hexcode, heldout=False, tags=(), **more):
    return Concept(
        **{
            "id": number,
            "hexcode": hexcode,
            "label": label,
            "tags": list(tags),
            "keywords": [],
            "group": "objects",
            "subgroup": "",
            "family": hexcode,
            "heldout": heldout,
            "is_flag": False,
            "is_symbol": False,
        }
        | more
    )


CONCEPTS = [
    concept(0, "lemon", "1F34B"),
    concept(1, "mouse", "1F401", heldout=True, tags=["rodent"]),
    concept(2, "fox", "1F98A"),
    concept(3, "flag: Japan", "1F1EF", is_flag=True),
    concept(4, "bullseye", "1F3AF", tags=["why"]),
]


def svg(colour, body="", title=None, **licence):
    words = "".join(f"<rdf:li>{word}</rdf:li>" for word in licence.get("words", ()))
    about = licence.get("licence", "http://web.resource.org/cc/PublicDomain")
    metadata = "" if title is None else (
        "<metadata><rdf:RDF xmlns:cc='http://web.resource.org/cc/'"
        " xmlns:dc='http://purl.org/dc/elements/1.1/'"
        " xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'><cc:Work>"
        f"<dc:title>{title}</dc:title><dc:subject><rdf:Bag>{words}</rdf:Bag>"
        f"</dc:subject><cc:license rdf:resource='{about}'/></cc:Work></rdf:RDF>"
        "</metadata>"
    )  # fmt: skip
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" width="40pt" height="20pt">'
        f'{metadata}<rect width="30" height="20" fill="{colour}"/>{body}</svg>'
    )


@pytest.fixture
def directory(tmp_path):
    """What ``prepare`` leaves: table, index, and one image a split."""
    rows = [vars(one) for one in CONCEPTS]
    (tmp_path / "concepts.json").write_bytes(to_json_bytes(rows))
    (tmp_path / "index.json").write_bytes(to_json_bytes({"size": SIZE}))
    for split, colour in (("test", "lime"), ("val_seen", "navy")):
        image = draw_visible(svg(colour), SIZE)
        write_shards(tmp_path, split, [({"key": split, "concept": 0}, image)])
    return tmp_path


def icon_members(**icons):
    bodies = {
        name.replace("_", "-"): {
            "body": f'<rect width="16" height="10" fill="{colour}"/>'
        }
        for name, colour in icons.items()
    }
    return {
        "package/icons.json": json.dumps({"icons": bodies}).encode(),
        "package/chars.json": b"{}",
    }


# What training may hear of ---------------------------------------------------


@pytest.mark.parametrize(
    ("plural", "word"),
    [("cherries", "cherry"), ("boxes", "box"), ("mice", "mouse"), ("glass", "glass")],
)
def test_singular(plural, word):
    assert singular(plural) == word


@pytest.mark.parametrize(
    "text", ["Mouse", "three blind mice", "com-puter/MOUSE_01", "a mou se"]
)
def test_texts_that_name_a_heldout_concept_are_found(text):
    words = HeldoutWords(CONCEPTS)
    assert words.in_title(text) == "mouse"
    assert words.in_text(text) == "mouse"


def test_words_that_only_heldout_concepts_own_count_in_titles_alone():
    words = HeldoutWords(CONCEPTS)
    assert words.in_title("small rodents") == "rodent"
    assert words.in_text("small rodents") is None
    assert words.in_title("why moussed lemons") is None


# Titles -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "creators", "title"),
    [
        ("Clipart by Nicu Buculei - book_01", "", "book"),
        ("apple_slice_nicu_bucul_02", "Nicu Buculei", "apple slice"),
        ("hat - clothing", "", "hat"),
        ("Pan Cakes (B and W)", "", "pan cakes"),
        ("Cavallo 03", "", "horse"),
        ("RedCar.svg", "", "red car"),
        ("fc 23", "", None),
    ],
)
def test_clean_title(text, creators, title):
    assert clean_title(text, creators) == title


def test_a_title_shared_by_different_files_gives_way_to_their_names():
    names = ["bus_lane", "no_parking", "bridge_ahead", "roundabout"]
    drawings = [ClipArt(f"signs/{name}.svg", "", title="Road Set") for name in names]
    assert titles_of(drawings, set())[0] == "bus lane"
    assert titles_of(drawings[:2], set())[0] == "road set"


def test_foreign_titles_are_translated_or_dropped():
    names = ("gatto", "mela", "lemon")
    drawings = [ClipArt(f"{n}.svg", "", title=n, creators="Rollandin") for n in names]
    assert titles_of(drawings, {"lemon"}) == ["cat", None, "lemon"]


def test_keywords_that_sort_the_library_are_dropped():
    words = ["hash(0x86)", "Clip Art", "pear", "by Nicu", "Soft-Fruit", ""]
    drawing = ClipArt("a.svg", "", keywords=words, creators="Nicu B")
    assert clean_keywords(drawing, "pear") == ["soft fruit"]


def test_metadata_text_and_bitmaps_are_read():
    plain = read_clip_art(
        "a.svg", svg("red", "<text> </text>", "A", words=["b"]).encode()
    )
    assert (plain.title, plain.keywords, plain.lettered) == ("A", ["b"], False)
    assert read_clip_art("a.svg", svg("red", "<text>hi</text>").encode()).lettered
    assert read_clip_art("a.svg", svg("red", "<image/>").encode()).raster
    with pytest.raises(ValueError, match="mismatched"):
        read_clip_art("a.svg", b"<svg><g></svg>")


def test_icon_titles():
    assert icon_title("aircraft-hot-air-balloon-2") == "aircraft hot air balloon"
    assert icon_title("adobe-logo") is None


# Rendering --------------------------------------------------------------------


def test_images_are_cropped_to_what_is_visible():
    with Image.open(io.BytesIO(draw_visible(svg("red"), SIZE))) as image:
        assert image.getchannel("A").getbbox() == (0, 4, 24, 20)


def test_a_slow_drawing_is_ended_and_the_next_one_is_drawn():
    # Hours of noise in one element: nested copies end early at resvg's own limit
    # of nodes, on a fast machine sooner than any time that a test would wait.
    bomb = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64">'
        '<filter id="f"><feTurbulence baseFrequency="0.1" numOctaves="50000000"/>'
        '</filter><rect width="64" height="64" filter="url(#f)"/></svg>'
    )
    with GuardedRenderer(SIZE, seconds=0.3) as renderer:
        with pytest.raises(RenderError, match=r"0\.3 s|died"):
            renderer.draw(bomb)
        renderer.seconds = 60.0  # a busy machine may need more than 0.3 s for these
        with pytest.raises(RenderError, match="empty"):
            renderer.draw(svg("none"))
        assert renderer.draw(svg("red")) == draw_visible(svg("red"), SIZE)


# Emoji vendors ----------------------------------------------------------------


def test_vendors_without_hexcodes_are_joined_by_names_and_numbers():
    members = icon_members(lemon_1="red", lemon_2="blue", direct_hit="lime", boar="red")
    joined = join_vendor(IconSet.from_members(members), "any", CONCEPTS)
    assert [(c, number) for c, number, _ in joined] == [(0, 1), (4, 1), (0, 2)]


def test_firefox_emoji_are_joined_by_the_committed_list():
    listed = json.loads(extra_vendors._FXEMOJI.read_text("utf-8"))
    assert len(listed) > 800
    assert all(code == normalise_hexcode(code) for code in listed.values())
    icons = IconSet.from_members(
        icon_members(lemon="red", fox="blue", directhit="lime")
    )
    assert [c for c, _, _ in join_vendor(icons, "fxemoji", CONCEPTS)] == [0, 4]


def test_committed_extra_packages_are_pinned():
    packages = load_packages(EXTRA_LIST)
    assert {p.role for p in packages} == {"train", "icons", "test"}
    assert [p.vendor for p in packages if p.role == "test"] == ["fluent-emoji-3d"]
    assert all(len(p.sha512) == 128 and p.version[0].isdigit() for p in packages)


def test_members_are_read_by_pattern(tmp_path):
    path = make_tarball(tmp_path / "a.tgz", "package/assets/1f34b.webp")
    assert list(read_members(path, ("package/assets/*.webp",))) == [
        "package/assets/1f34b.webp"
    ]
    with pytest.raises(PackageError, match="lacks"):
        read_members(path, ("package/other/*",))


# Shards -----------------------------------------------------------------------


def extra_packages():
    icons = next(p for p in load_packages(EXTRA_LIST) if p.role == "icons")
    emoji = next(p for p in load_packages(EXTRA_LIST) if p.vendor == "noto-v1")
    members = {
        emoji.name: icon_members(lemon="red", mouse="gray", fox="orange"),
        icons.name: icon_members(lemon="pink", house="tan", mouse_trap="red"),
    }
    return [emoji, icons], members


def test_icons_share_concepts_and_leave_out_what_is_heldout(directory):
    packages, members = extra_packages()
    index = prepare_icons(directory, packages, members, workers=1)
    records = load_arrays(directory, "extra_train")[1]
    found = {(r["label"], r["concept"], r["vendor"]) for r in records}
    icons = str(packages[1].vendor)
    assert found == {
        ("lemon", 0, "noto-v1"),
        ("fox", 2, "noto-v1"),
        ("lemon", 0, icons),
        ("house", FIRST_ID, icons),
    }
    assert {r["split"] for r in records} == {"extra_train"}
    assert len({frozenset(r) for r in records}) == 1
    assert index["vendors"]["noto-v1"]["dropped"]["held-out concept"] == 1
    assert index["vendors"][icons]["dropped"]["names a held-out concept"] == 1
    assert (index["emoji_concepts"], index["other_concepts"]) == (2, 1)


def test_clip_art_joins_the_icons_in_any_order_with_the_same_bytes(directory, tmp_path):
    members = [
        ("fruit/lemon_01.svg", svg("yellow", title="Lemon", words=["fruit"])),
        ("fruit/lemon_02.svg", svg("yellow", title="Lemon")),  # the same image
        ("fruit/lemon_03.svg", svg("lime", title="lemon")),  # like the test image
        ("homes/house.svg", svg("brown", title="House")),
        ("homes/home.svg", svg("#fdfdfd", title="Home")),
        ("homes/hut.svg", svg("green", title="Den", words=["mice"])),
        ("homes/b.svg", svg("green", title="Tower", licence="http://gpl")),
        ("shapes/stars/a.svg", svg("green", title="gramastar")),
    ]
    clip_art = [(name, data.encode()) for name, data in members]
    packages, icons = extra_packages()
    prepare_clip_art(directory, clip_art, workers=1)
    prepare_icons(directory, packages, icons, workers=1)
    shard = directory / "extra_train-00000.tar"
    first = shard.read_bytes()
    index = prepare_clip_art(directory, clip_art, workers=1)
    assert shard.read_bytes() == first
    records = load_arrays(directory, "extra_train")[1]
    art = {r["label"]: r for r in records if r["vendor"] == "openclipart"}
    assert {label: r["concept"] for label, r in art.items()} == {
        "lemon": 0,
        "house": FIRST_ID,
    }
    assert art["lemon"]["keywords"] == ["fruit"]
    assert index["vendors"]["openclipart"]["dropped"] == {
        "kind of image": 1,
        "licence not stated": 1,
        "names a held-out concept": 1,
        "equal image": 1,
        "hardly visible on white": 1,
        "near copy of a test image": 1,
        "near copy of a val_seen image": 0,
    }


def test_keys_may_not_repeat(directory):
    record = {"key": "a", "vendor": "x", "concept": 0, "label": "lemon"}
    with pytest.raises(ValueError, match="occur twice"):
        replace_vendors(directory, [(record, b"")] * 2, {"x": {}})


def test_rendition_keeps_margins_and_leaves_out_flags(directory):
    buffer = io.BytesIO()
    image = Image.new("RGBA", (64, 72))
    image.paste((255, 0, 0, 255), (16, 18, 48, 54))
    image.save(buffer, "WEBP", lossless=True)
    package = next(p for p in load_packages(EXTRA_LIST) if p.role == "test")
    codes = ("1f34b", "1f401", "1f1ef")
    files = {f"package/assets/{code}.webp": buffer.getvalue() for code in codes}
    index = prepare_rendition(directory, package, files)
    arrays, records = load_arrays(directory, "rendition")
    assert [r["label"] for r in records] == ["lemon", "mouse"]
    assert (index["samples"], index["heldout_samples"]) == (2, 1)
    assert arrays.shape == (2, SIZE, SIZE, 4)
    assert np.flatnonzero(arrays[0, 12, :, 3] > 128).tolist() == list(range(7, 17))


# Debian -----------------------------------------------------------------------


def test_an_altered_debian_package_is_refused(tmp_path):
    package = DebianPackage("art", "1:2-3", "0" * 64)
    assert package.file_name == "art_1%3a2-3_all.deb"
    (tmp_path / package.file_name).write_bytes(b"x")
    with pytest.raises(PackageError, match="SHA-256"):
        obtain_deb(package, tmp_path)
