"""Tables of images and captions: every form gives the same samples by number."""

import json
import os
import pickle

import numpy as np
import pytest

from keras_pe.data import (
    SampleError,
    SequentialOrder,
    SkippedSamples,
    TarShards,
    default_caption,
    image_text_dataset,
)
from keras_pe.data.pair_table import PairTable, is_table, open_pairs
from keras_pe.data.table_files import PairTableError
from tests.data.shards import Pixels, image_bytes, write_shards

pytestmark = [pytest.mark.quick, pytest.mark.once]

CAPTIONS = ["an owl, awake", 'a "real" guitar', "ein Kaktus im Grünen"]


@pytest.fixture
def folder(tmp_path):
    """Three images, one of them in a folder below."""
    (tmp_path / "art").mkdir()
    for number, name in enumerate(("a.png", "art/b.PNG", "c.jpg")):
        (tmp_path / name).write_bytes(image_bytes(number))
    return tmp_path


NAMES = ("a.png", "art/b.PNG", "c.jpg")


def quoted(text):
    return '"' + text.replace('"', '""') + '"'


def delimited(sign, header):
    pairs = zip(NAMES, CAPTIONS, strict=True)
    rows = [sign.join((name, quoted(text))) for name, text in pairs]
    return "\n".join([sign.join(header), *rows]) + "\n"


def objects(image, caption):
    pairs = zip(NAMES, CAPTIONS, strict=True)
    return [{"id": 1, image: name, caption: text} for name, text in pairs]


def lines(rows):
    return "".join(json.dumps(row) + "\n\n" for row in rows)


COCO = {
    "images": [{"id": 7 - n, "file_name": name} for n, name in enumerate(NAMES)],
    "annotations": [
        {"image_id": 7 - n, "caption": text} for n, text in enumerate(CAPTIONS)
    ],
}
TABLES = {
    "pairs.csv": delimited(",", ("filepath", "title")),
    "tabs.csv": "\ufeff" + delimited("\t", ("filepath", "title")),
    "semicolons.csv": delimited(";", ("Image", "Text")),
    "pairs.tsv": delimited("\t", ("path", "caption")),
    "metadata.jsonl": lines(objects("file_name", "text")),
    "list.json": json.dumps(objects("image", "caption")),
    "captions.json": json.dumps(COCO),
}


def pairs_of(table):
    rng = np.random.default_rng(0)
    return [default_caption(table[n], rng) for n in range(len(table))]


# === What a table gives ===
@pytest.mark.parametrize("name", TABLES)
def test_every_form_gives_the_same_pairs(folder, name):
    (folder / name).write_text(TABLES[name], encoding="utf-8")
    table = PairTable(folder / name)
    assert pairs_of(table) == CAPTIONS
    assert table[0]["png"] == image_bytes(0)
    assert table[1]["png"] == image_bytes(1)
    assert sorted(table[2]) == ["__key__", "__shard__", "jpg", "txt"]
    assert (table[2]["__key__"], table[2]["__shard__"]) == ("c.jpg", name)
    assert table.paths == [str(folder / name)]


def test_parquet_of_paths_and_of_images(folder):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    paths = pa.table({"image": list(NAMES), "text": CAPTIONS})
    parquet.write_table(paths, folder / "paths.parquet")
    assert pairs_of(PairTable(folder / "paths.parquet")) == CAPTIONS
    images = [{"bytes": image_bytes(n), "path": None} for n in range(3)]
    images[2]["path"] = "inside.webp"
    parquet.write_table(
        pa.table({"image": images, "text": CAPTIONS}), folder / "images.parquet"
    )
    table = PairTable(folder / "images.parquet")
    assert pairs_of(table) == CAPTIONS
    assert [table[0]["jpg"], table[2]["webp"]] == [image_bytes(0), image_bytes(2)]
    (folder / "no.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(PairTableError, match="no sound parquet"):
        PairTable(folder / "no.parquet")


def test_a_folder_with_metadata_and_paths_from_elsewhere(folder, tmp_path_factory):
    (folder / "metadata.jsonl").write_text(TABLES["metadata.jsonl"])
    assert is_table(str(folder))
    assert pairs_of(open_pairs(str(folder))) == CAPTIONS
    elsewhere = tmp_path_factory.mktemp("tables")
    (elsewhere / "pairs.csv").write_text(TABLES["pairs.csv"])
    with pytest.raises(SampleError, match=r"a\.png \(line 2 of pairs\.csv\)"):
        PairTable(elsewhere / "pairs.csv")[0]
    table = PairTable(elsewhere / "pairs.csv", images=folder)
    assert table[1]["png"] == image_bytes(1)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        PairTable(elsewhere / "pairs.csv", images=folder / "nowhere")


def test_absolute_paths_parents_and_links_are_the_users_own(folder):
    below = folder / "tables"
    below.mkdir()
    os.symlink(folder / "a.png", below / "link.png")
    names = ("link.png", "../c.jpg", folder / "art" / "b.PNG")
    rows = "".join(f"{name},text {n}\n" for n, name in enumerate(names))
    (below / "pairs.csv").write_text("image,caption\n" + rows)
    table = PairTable(below / "pairs.csv")
    found = [table[0]["png"], table[1]["jpg"], table[2]["png"]]
    assert found == [image_bytes(0), image_bytes(2), image_bytes(1)]


def test_captions_of_one_image_are_one_sample(folder):
    rows = "a.png,an owl\nc.jpg,a cactus\na.png,a bird\na.png,an owl\n"
    (folder / "pairs.csv").write_text("image,caption\n" + rows)
    table = PairTable(folder / "pairs.csv")
    assert len(table) == 2
    assert table.captions(0) == ("an owl", "a bird")
    drawn = {default_caption(table[0], np.random.default_rng(n)) for n in range(20)}
    assert drawn == {"an owl", "a bird"}
    coco = json.loads(json.dumps(COCO))
    coco["annotations"].append({"image_id": 7, "caption": "a bird"})
    coco["images"].append({"id": 99, "file_name": "unlabelled.png"})
    (folder / "coco.json").write_text(json.dumps(coco))
    table = PairTable(folder / "coco.json")
    assert len(table) == 3  # what has no caption at all is no pair
    assert table.captions(0) == (CAPTIONS[0], "a bird")


def test_columns_by_name(folder):
    header = ("path", "old", "caption", "English")
    (folder / "pairs.csv").write_text(",".join(header) + "\nc.jpg,a.png,wrong,an owl\n")
    table = PairTable(
        folder / "pairs.csv", image_column="old", caption_column="english"
    )
    assert table[0]["png"] == image_bytes(0)
    assert pairs_of(table) == ["an owl"]


def test_several_tables(folder):
    for number, name in enumerate(NAMES):
        (folder / f"part-{number}.csv").write_text(f"path,text\n{name},text {number}\n")
    table = PairTable(folder / "part-*.csv")
    assert pairs_of(table) == ["text 0", "text 1", "text 2"]
    assert table.describe(2) == "c.jpg (line 2 of part-2.csv)"
    with pytest.raises(IndexError, match="expected 0 to 2"):
        table[3]


def test_shards_are_opened_as_shards(tmp_path):
    pattern = write_shards(tmp_path)
    assert isinstance(open_pairs(pattern), TarShards)
    assert isinstance(open_pairs(str(tmp_path)), TarShards)
    with pytest.raises(ValueError, match="nothing for --images"):
        open_pairs(pattern, caption_column="text")


# === What tells tables apart ===
def test_the_digest_follows_content_not_place(folder, tmp_path_factory):
    def digest(place, text=TABLES["pairs.csv"]):
        (place / "pairs.csv").write_text(text)
        return PairTable(place / "pairs.csv").digest

    first = digest(folder)
    copy = tmp_path_factory.mktemp("copy")
    (copy / "art").mkdir()
    for name in NAMES:
        (copy / name).write_bytes((folder / name).read_bytes())
    assert digest(copy) == first
    assert digest(copy, TABLES["pairs.csv"].replace("owl", "elf")) != first
    (copy / "a.png").write_bytes(image_bytes(9))
    assert digest(copy) != first
    (copy / "a.png").unlink()
    assert digest(copy) != first


def test_a_pickled_table_is_the_same(folder):
    (folder / "pairs.csv").write_text(TABLES["pairs.csv"])
    table = PairTable(folder / "pairs.csv")
    again = pickle.loads(pickle.dumps(table))
    assert (again[1], again.digest, repr(again)) == (
        table[1],
        table.digest,
        repr(table),
    )


# === What is wrong ===
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "", "no rows"),
        ("a.csv", "image,caption\n", "no rows"),
        (
            "a.csv",
            "picture,caption\na.png,an owl\n",
            "no column of images: .*'picture'",
        ),
        (
            "a.csv",
            "image,words\na.png,an owl\n",
            "no column of captions.*--caption-col",
        ),
        ("a.csv", "image,caption\na.png,an owl, awake\n", "line 2: 3 fields.*quotes"),
        ("a.csv", 'image,caption\na.png,"an owl\n', "line 2: unexpected end"),
        ("a.csv", "image,image\na.png,an owl\n", "two columns 'image'"),
        ("a.csv", "image,caption\nhttps://a.b/c.png,an owl\n", "is a URL. Download"),
        ("a.jsonl", '{"file_name": "a.png"\n', "line 1: no JSON"),
        ("a.jsonl", '"a.png"\n', "row 1 is 'a.png': expected an object"),
        ("a.json", '{"images": []}', "neither a list of objects nor COCO"),
        ("a.json", "[" * 100_000, "no JSON"),
        ("a.json", '{"images": [], "annotations": []}', "no rows"),
        ("a.txt", "image,caption\n", "expected a table that ends in"),
        ("a.parquet", "no", "no sound parquet|pip install pyarrow"),
    ],
)
def test_a_table_that_is_none(tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    with pytest.raises(PairTableError, match=f"(?s){said}"):
        PairTable(tmp_path / name)


def test_what_is_asked_for_and_not_there(folder):
    (folder / "a.csv").write_text(TABLES["pairs.csv"])
    with pytest.raises(PairTableError, match=r"no column 'words'.*'filepath', 'title'"):
        PairTable(folder / "a.csv", caption_column="words")
    with pytest.raises(PairTableError, match="can't be both"):
        PairTable(folder / "a.csv", caption_column="filepath")
    with pytest.raises(FileNotFoundError):
        PairTable(folder / "b.csv")
    (folder / "latin.csv").write_bytes("image,caption\na.png,grün\n".encode("latin-1"))
    with pytest.raises(PairTableError, match="no UTF-8"):
        PairTable(folder / "latin.csv")


def test_bad_rows_are_skipped_counted_and_named(folder):
    rows = [
        {"image": "a.png", "caption": "an owl"},
        {"image": "gone.png", "caption": "nothing"},
        {"image": "art", "caption": "a folder"},
        {"image": "art/b.PNG", "caption": "  "},
        {"image": "c.jpg", "caption": float("nan")},
        {"image": None, "caption": "no image"},
        {"image": "a.png", "caption": "NaN"},  # a further row of a good image
    ]
    for number in range(6):
        (folder / f"good-{number}.png").write_bytes(image_bytes(number))
        rows.append({"image": f"good-{number}.png", "caption": "an owl"})
    (folder / "pairs.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    table = PairTable(folder / "pairs.jsonl")
    assert len(table) == 12
    dataset = image_text_dataset(
        table,
        SequentialOrder(12, 12),
        transform=Pixels(),
        tokenizer=lambda texts: np.array([[len(text)] for text in texts]),
        max_bad_share=1.0,
        seed=8,
    )
    batch = dataset[0]
    assert (batch["token_ids"] == len("an owl")).all()  # nothing else is good
    skipped = {bad.number: bad for bad in batch["skipped"]}
    assert {number: bad.reason for number, bad in skipped.items()} == {
        1: "missing file",
        2: "missing file",
        3: "no caption",
        4: "no caption",
        5: "no image",
    }
    assert skipped[1].key == "gone.png (line 2 of pairs.jsonl)"
    report = SkippedSamples(1.0)
    report.add_batch(12, batch["skipped"])
    assert "no caption (" in str(report)


@pytest.mark.parametrize("paths", [[], None, float("nan"), b"pairs.csv", [1], "open"])
def test_tables_that_are_no_paths_are_refused(tmp_path, paths):
    (tmp_path / "pairs.csv").write_text("path,caption\na.png,a\n")
    with (
        open(tmp_path / "pairs.csv") as stream,
        pytest.raises(TypeError, match="given as a path or a list of paths"),
    ):
        PairTable(stream if paths == "open" else paths)
