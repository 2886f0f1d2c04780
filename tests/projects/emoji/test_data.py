"""Tests of the emoji data recipe: small hand-made inputs, no network."""

import dataclasses
import hashlib
import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from keras_pe.files import write_atomically
from projects.emoji.data.captions import captions, class_prompts, sample_caption
from projects.emoji.data.concepts import family_of, hexcode_of, normalise_hexcode
from projects.emoji.data.icons import IconSet, join, slug_of
from projects.emoji.data.packages import (
    load_packages,
)
from projects.emoji.data.prepare import collect, write_dataset
from projects.emoji.data.splits import heldout_families, split_of, unit_hash
from projects.emoji.data.table import build_table, clean_keywords

pytest.importorskip("resvg_py", reason="resvg_py draws the SVGs")

from projects.emoji.data import floor
from projects.emoji.data.render import render_all, render_svg
from projects.emoji.data.shards import (
    load_arrays,
    read_shards,
    shard_bytes,
    shard_paths,
    write_shards,
)

pytestmark = pytest.mark.once

SIZE = 24


# Families ------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "🏃 🏃‍♀️ 🏃‍♂️ 🏃🏽 🏃🏽‍♀️ 🏃‍➡️ 🏃‍♀️‍➡️",
        "🧑 👨 👩 👩🏿 👨‍🦰 👩‍🦳 🧑‍🦲 👱 👱‍♀️ 🧔 🧔‍♂️",
        "🧒 👦 👧 👧🏻",
        "🧓 👴 👵",
        "🫅 🤴 👸",
        "🎅 🤶 🧑‍🎄",
        "👰 👰‍♂️ 🤵 🤵‍♀️",
        "🕺 💃",
        "🫄 🫃 🤰",
        "🤱 👩‍🍼 👨‍🍼 🧑‍🍼",
        "🧑‍🚒 👨‍🚒 👩‍🚒 👩🏾‍🚒",
        "👪 👨‍👩‍👧 👩‍👩‍👧‍👦 👨‍👦 🧑‍🧑‍🧒 🧑‍🧒‍🧒",
        "💏 👩‍❤️‍💋‍👨 👨‍❤️‍💋‍👨 🧑🏻‍❤️‍💋‍🧑🏿",
        "💑 👩‍❤️‍👨 👩‍❤️‍👩",
        "👫 👬 👭 🧑‍🤝‍🧑 👩🏻‍🤝‍👨🏿",
        "🧜 🧜‍♀️ 🧜‍♂️",
        "🧑‍🦽 👨‍🦽 👩‍🦽‍➡️",
        "🕐 🕑 🕧",
        "👈 👉",
    ],
)
def test_variants_share_a_family(text):
    families = {family_of(hexcode_of(emoji)) for emoji in text.split()}
    assert len(families) == 1


def test_different_things_have_different_families():
    people = "🏃 🚶 🧑 🧒 🧓 👶 🫅 🎅 👰 💃 🤱 👪 💏 💑 👫 🧜 🧑‍🚒 🧑‍🏫"
    things = "❤️ ❤️‍🔥 ♀️ ♂️ ➡️ 🐈 🐈‍⬛ 🤝 🏻"
    emoji = f"{people} {things}"
    families = [family_of(hexcode_of(one)) for one in emoji.split()]
    assert len(set(families)) == len(families)


def test_family_of_a_family_is_itself():
    for emoji in ["🏃‍♀️", "👨‍👩‍👧", "👩‍❤️‍👨", "🧑‍🎄", "🕧"]:
        family = family_of(hexcode_of(emoji))
        assert family_of(family) == family


def test_variation_selectors_are_dropped():
    assert normalise_hexcode("2764-fe0f") == "2764" == hexcode_of("❤️")


# Captions ------------------------------------------------------------------


def test_captions_name_the_label_and_prompts_match_them():
    record = {"label": "Red Apple", "tags": ["fruit"], "keywords": ["apple pie"]}
    texts = captions(record)
    assert texts == [prompt.format("red apple") for prompt in class_prompts()]
    assert len(set(texts)) == len(texts) >= 5


def test_sampled_captions_are_reproducible_and_varied():
    record = {"label": "cat", "tags": ["pet", "cat"], "keywords": ["feline"]}

    def draw(seed):
        rng = np.random.default_rng(seed)
        return [sample_caption(record, rng) for _ in range(50)]

    assert draw(1) == draw(1) != draw(2)
    assert len(set(draw(1))) > 10
    bare = record | {"tags": [], "keywords": []}
    assert "cat" in sample_caption(bare, np.random.default_rng(0))


def test_keywords_lose_underscores_and_emoticons():
    assert clean_keywords(["red_apple", ":D", "x", "red apple", "1st place"]) == [
        "red apple",
        "x",
        "1st place",
    ]


# Table and splits ----------------------------------------------------------


def entry(label, text, group):
    return {
        "label": label,
        "hexcode": hexcode_of(text),
        "emoji": text,
        "tags": [label.split()[-1]],
        "group": group,
        "subgroup": 0,
    }


MESSAGES = {
    "groups": [
        {"key": "people-body", "order": 1},
        {"key": "component", "order": 2},
        {"key": "flags", "order": 9},
    ],
    "subgroups": [{"key": "person", "order": 0}],
}


def small_entries():
    things = [entry(f"thing {i}", chr(0x1F400 + i), 1) for i in range(40)]
    return [
        *things,
        entry("man running", "🏃‍♂️", 1),
        entry("person running", "🏃", 1),
        entry("red hair", "🦰", 2),
        entry("flag: Japan", "🇯🇵", 9),
        {"label": "regional indicator A", "hexcode": "1F1E6"},
    ]


def test_table_is_sorted_and_holds_out_whole_families():
    table = build_table(small_entries(), MESSAGES, {"🏃": ["person_running", "run"]})
    assert [c.hexcode for c in table] == sorted(c.hexcode for c in table)
    assert [c.id for c in table] == list(range(len(table)))
    labels = {c.label: c for c in table}
    assert "red hair" not in labels
    assert labels["person running"].keywords == ["person running", "run"]
    assert labels["person running"].family == labels["man running"].family
    assert labels["regional indicator A"].is_symbol
    assert labels["flag: Japan"].is_flag
    assert not any(c.heldout for c in table if c.is_flag or c.is_symbol)
    held = {c.family for c in table if c.heldout}
    assert len(held) == 4  # a tenth of 41 families
    assert held.isdisjoint(c.family for c in table if not c.heldout)


def test_splits_do_not_depend_on_order():
    families = [f"F{i}" for i in range(1000)]
    held = heldout_families(families)
    assert len(held) == 100
    assert held == heldout_families(reversed(families))
    assert unit_hash("p", "x") == unit_hash("p", "x") != unit_hash("q", "x")


def test_split_of_each_kind():
    assert split_of("test", True, "v", "1F400") == "test"
    assert split_of("train", True, "v", "1F400") == "heldout"
    splits = [split_of("train", False, "v", str(i)) for i in range(4000)]
    assert 150 < splits.count("val_seen") < 250
    assert splits.count("train") + splits.count("val_seen") == 4000


# Icons and rendering -------------------------------------------------------


def square(color):
    return {"body": f'<path fill="{color}" d="M0 0h10v10h-10z"/>'}


def test_join_by_hexcode_then_slug_without_reusing_a_drawing():
    table = build_table(
        [
            entry("black heart", "🖤", 1),
            entry("bear\u2019s face", "🐻", 1),
            entry("bear", "🐾", 1),
        ],
        MESSAGES,
        {},
    )
    icons = IconSet(
        icons={"dark-heart": square("#000"), "bears-face": square("#321")},
        aliases={"bear": {"parent": "bears-face"}},
        names={"1F5A4": "dark-heart"},
    )
    joined = {table[number].label for number in join(icons, table)}
    assert joined == {"black heart", "bear\u2019s face"}
    assert slug_of("St. Mary\u2019s & Co") == "st-marys-co"


def test_flipped_and_oblong_icons_are_drawn_rightly():
    icons = IconSet(
        icons={
            "left": {"body": '<path fill="red" d="M0 0h8v16h-8z"/>'},
            "wide": {"body": '<path d="M0 0h32v16h-32z"/>', "width": 32},
        },
        aliases={"right": {"parent": "left", "hFlip": True}},
    )

    def alpha(name):
        with Image.open(io.BytesIO(render_svg(icons.icon(name).to_svg(), 16))) as image:
            return np.asarray(image.convert("RGBA"))[..., 3] > 128

    assert alpha("left")[:, :8].all()
    assert not alpha("left")[:, 8:].any()
    assert np.array_equal(alpha("right"), alpha("left")[:, ::-1])
    assert alpha("wide")[5:11].all()
    assert not alpha("wide")[:3].any()


def test_an_empty_drawing_is_an_error():
    with pytest.raises(ValueError, match="empty"):
        render_svg('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"/>', 8)


# The whole data set, from hand-made packages -------------------------------


def small_dataset():
    entries = small_entries()
    names = {e["hexcode"].lower(): e["label"].replace(" ", "-") for e in entries}
    packages = [
        dataclasses.replace(load_packages()[0], name=n, vendor=n, role=role)
        for n, role in (("first", "train"), ("second", "train"), ("unseen", "test"))
    ]
    members = {
        "emojibase-data": {
            "package/en/data.json": json.dumps(entries).encode(),
            "package/en/messages.json": json.dumps(MESSAGES).encode(),
        },
        "emojilib": {"package/dist/emoji-en-US.json": b"{}"},
    }
    for number, package in enumerate(packages):
        icons = {
            name: square(f"#{40 * number + 20:02x}{5 * place:02x}80")
            for place, name in enumerate(names.values())
        }
        members[package.name] = {
            "package/icons.json": json.dumps({"icons": icons}).encode(),
            "package/chars.json": json.dumps(names).encode(),
        }
    return packages, *collect(packages, members)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    directory = tmp_path_factory.mktemp("emoji")
    packages, concepts, records, documents = small_dataset()
    images = render_all(documents, SIZE, workers=1, quiet=True)
    samples = list(zip(records, images, strict=True))
    index = write_dataset(directory, concepts, samples, packages, SIZE)
    return directory, index, (concepts, samples, packages)


def test_no_family_is_both_in_training_and_held_out(dataset):
    directory, index, _ = dataset
    families = {
        split: {record["family"] for record in load_arrays(directory, split)[1]}
        for split in ("train", "val_seen", "heldout")
    }
    assert families["heldout"]
    assert families["heldout"].isdisjoint(families["train"] | families["val_seen"])
    assert set(index["samples"]) == {"train", "val_seen", "heldout", "test"}
    assert index["samples_by_vendor"]["unseen"] == {"test": 44}


def test_index_counts_and_checksums_are_right(dataset):
    directory, index, _ = dataset
    for shard in index["shards"]:
        data = (directory / shard["name"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == shard["sha256"]
    counts = [shard["samples"] for shard in index["shards"]]
    assert sum(counts) == sum(index["samples"].values())
    table = json.loads((directory / "concepts.json").read_text("utf-8"))
    assert table[0]["vendors"] == ["first", "second", "unseen"]


def test_writing_twice_gives_the_same_bytes(dataset, tmp_path):
    directory, _, (concepts, samples, packages) = dataset
    write_dataset(tmp_path, concepts, samples[::-1], packages, SIZE)
    for path in directory.glob("*.tar"):
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()


def test_arrays_carry_alpha_and_records(dataset):
    directory, _, _ = dataset
    images, records = load_arrays(directory, "test")
    assert images.shape == (len(records), SIZE, SIZE, 4)
    assert images.dtype == np.uint8
    assert 0 < (images[..., 3] == 255).mean() < 1
    assert {"key", "vendor", "concept", "family", "label", "split"} <= set(records[0])


def test_equal_heldout_and_training_images_are_refused(dataset, tmp_path):
    _, _, (concepts, samples, packages) = dataset
    image = samples[0][1]
    same = [(record, image) for record, _ in samples]
    with pytest.raises(ValueError, match="held-out images equal"):
        write_dataset(tmp_path, concepts, same, packages, SIZE)


def test_floor_of_heldout_is_zero_and_of_copies_is_full(dataset):
    directory, _, _ = dataset
    train = load_arrays(directory, "train")
    for row in floor.floors(train, train):
        assert row["all"]["top1"] == 100.0
        low = 100 * 0.025 ** (1 / row["all"]["pictures"])  # Clopper-Pearson
        assert row["all"]["top1_interval"] == [round(low, 2), 100.0]
    for row in floor.floors(train, load_arrays(directory, "test")):
        assert row["heldout"]["top5"] == 0.0
    report = floor.measure(directory, left_out="second")
    assert set(report["floors"]) == {"test", "val_vendor"}
    assert report["gallery"]["pictures"] < len(train[1])


# Shards --------------------------------------------------------------------


def sample(key):
    return {"key": key}, render_svg(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 2 2">'
        '<path d="M0 0h1v2h-1z"/></svg>',
        8,
    )


def test_shards_are_split_and_stale_ones_removed(tmp_path):
    samples = [sample(f"k{i}") for i in range(5)]
    assert len(write_shards(tmp_path, "train", samples, per_shard=2)) == 3
    write_shards(tmp_path, "train", samples[:3], per_shard=2)
    paths = shard_paths(tmp_path, "train")
    assert [record["key"] for record, _ in read_shards(paths)] == ["k0", "k1", "k2"]
    with pytest.raises(FileNotFoundError, match="no shards"):
        shard_paths(tmp_path, "nothing")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "index.json"
    write_atomically(path, b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("keras_pe.files.os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["index.json"]


def test_a_image_without_record_is_refused(tmp_path):
    data = shard_bytes([sample("a")])
    path = tmp_path / "x.tar"
    path.write_bytes(data.replace(b"a.json", b"b.json"))
    with pytest.raises((ValueError, tarfile.ReadError)):
        list(read_shards([path]))
