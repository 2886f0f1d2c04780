"""LLaVA's and The Cauldron's rows: what is kept, and what is refused by name."""

import json

import pytest
from PIL import Image

from keras_pe.data import SampleError, SkippedSamples, TarShards
from keras_pe.data.questions import Question, questions_of
from keras_pe.data.shard_files import IMAGE_EXTENSIONS
from keras_pe.preprocessing.image_decoding import DEFAULT_FORMATS
from keras_pe.preprocessing.image_errors import ImageError
from recipes.language_data.__main__ import main
from recipes.language_data.cauldron import cauldron_sample
from recipes.language_data.foreign_rows import ENDINGS, samples_of_rows
from recipes.language_data.llava import llava_sample, llava_samples
from tests.data.shards import image_bytes

pytestmark = [pytest.mark.quick, pytest.mark.once]


def turns(*values):
    return [
        {"from": ("human", "gpt")[place % 2], "value": value}
        for place, value in enumerate(values)
    ]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images" / "coco").mkdir(parents=True)
    (tmp_path / "images" / "coco" / "1.jpg").write_bytes(image_bytes(1))  # a PNG
    (tmp_path / "images" / "2.png").write_bytes(b"no image")
    (tmp_path / "secret.png").write_bytes(image_bytes(2))
    return (tmp_path / "images").resolve()


def test_llava_turns_become_questions(folder):
    row = {
        "id": "7",
        "image": "coco/1.jpg",
        "conversations": turns("<image>\nWhat?", "A cat. ", "Why?\n", "So."),
    }
    sample = llava_sample(row, folder)
    assert questions_of(sample) == (
        Question("What?", "A cat."),
        Question("Why?", "So."),
    )
    assert sample["png"] == image_bytes(1)  # by its content
    assert json.loads(sample["json"])["id"] == "7"


def test_llava_text_alone(folder):
    sample = llava_sample({"conversations": turns("Why?", "So.")}, folder)
    assert list(sample) == ["json"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "odd row"),
        ({"conversations": []}, "odd row"),
        ({"conversations": turns("a")}, "odd row"),
        ({"conversations": turns("a", "b")[::-1]}, "odd row"),
        ({"conversations": ["a", "b"]}, "odd row"),
        ({"conversations": turns("a", 3)}, "odd row"),
        ({"conversations": turns("<image>", "b"), "image": "coco/1.jpg"}, "odd row"),
        ({"conversations": turns("a", "b <image>")}, "odd row"),
        ({"conversations": turns("a", "b"), "image": "../secret.png"}, "odd row"),
        ({"conversations": turns("a", "b"), "image": "no.png"}, "no image"),
        ({"conversations": turns("a", "b"), "image": "a\0b.png"}, "no image"),
        ({"conversations": turns("a", "b"), "image": "\ud800.png"}, "no image"),
        ({"conversations": turns("a", "b"), "image": "x" * 300}, "no image"),
        ({"conversations": turns("a", "b"), "id": float("nan")}, "odd row"),
        ({"conversations": turns("a", "b"), "id": "\ud800"}, "odd row"),
        ({"conversations": turns("a\ud800", "b")}, "odd row"),
        ({"conversations": turns("<image>a", "b")}, "no image"),
        ({"conversations": turns("<image><image>a", "b")}, "several images"),
        ({"conversations": turns("a", "b"), "image": ["1", "2"]}, "several images"),
    ],
)
def test_llava_rows_that_are_refused(folder, row, reason):
    with pytest.raises(SampleError) as refused:
        llava_sample(row, folder)
    assert refused.value.reason == reason


def test_llava_images_that_are_none(folder):
    row = {"conversations": turns("a", "b"), "image": "2.png"}
    with pytest.raises(ImageError):
        llava_sample(row, folder)


def test_images_of_all_formats_that_are_read_are_kept(folder):
    assert set(DEFAULT_FORMATS) | {"MPO"} == set(ENDINGS)
    assert set(ENDINGS.values()) <= set(IMAGE_EXTENSIONS)
    picture = Image.new("RGB", (8, 8))
    # As a phone writes it: two images in a JPEG.
    picture.save(folder / "3.jpg", "MPO", save_all=True, append_images=[picture])
    row = {"conversations": turns("What?", "It."), "image": "3.jpg"}
    assert llava_sample(row, folder)["jpg"] == (folder / "3.jpg").read_bytes()


def test_the_llava_command_says_what_it_left_out(folder, tmp_path, capsys):
    rows = [
        {"id": "a", "conversations": turns("What?", "It."), "image": "coco/1.jpg"},
        {"id": "b", "conversations": turns("What?", "It."), "image": "2.png"},
        "text",
        {"id": "d", "conversations": turns("What?", "It."), "image": ["1", "2"]},
        {"id": "e", "conversations": turns("Why?", "So.")},
    ]
    out, where = tmp_path / "out", ["--images", str(folder)]
    for name, text in (
        ("a.json", json.dumps(rows)),
        ("b.jsonl", "\n".join(map(json.dumps, rows))),
    ):
        (tmp_path / name).write_text(text)
        main(["llava", "--json", f"{tmp_path}/{name}", *where, "--output", str(out)])
        said = capsys.readouterr().out
        assert "3 of 5 samples skipped" in said
        assert "several images (d in" in said
        shards = TarShards(str(out))
        assert [shards[n]["__key__"] for n in range(2)] == ["000000000", "000000004"]
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(SystemExit):
        main(["llava", "--json", f"{tmp_path}/a.json", *where, "--output", str(out)])
    assert "expected a list" in capsys.readouterr().err


def test_broken_lines_are_counted_by_their_number(folder, tmp_path, caplog):
    good = {"conversations": turns("What?", "b\u2028c\x85d")}
    line = json.dumps(good, ensure_ascii=False).encode()
    broken = (b"{broken", b"\xff", b"[" * 100_000)
    content = b"\n".join([b"\xef\xbb\xbf" + line + b"\r", b"", *broken, line, b""])
    (tmp_path / "a.jsonl").write_bytes(content)
    skipped = SkippedSamples(max_bad_share=1.0)
    samples = list(llava_samples(tmp_path / "a.jsonl", folder, skipped))
    assert [sample["__key__"] for sample in samples] == ["000000000", "000000004"]
    assert questions_of(samples[0]) == (Question("What?", "b\u2028c\x85d"),)
    assert skipped.by_reason == {"odd row": 3}
    told = [one.detail.split(" is no JSON")[0] for one in skipped.named]
    assert told == ["Line 3", "Line 4", "Line 5"]
    assert "Line 3 is no JSON" in caplog.text


def test_odd_ids_can_be_printed(folder):
    skipped = SkippedSamples(max_bad_share=1.0)
    rows = [{"id": "\ud800"}, {"id": float("nan")}, {"id": "x" * 1000}]
    assert not list(
        samples_of_rows(rows, lambda row: llava_sample(row, folder), "a", skipped)
    )
    shown = rf"\ud800 in a, nan in a, {'x' * 80} in a"
    told = f"3 of 3 samples skipped: 3 odd row ({shown})"
    assert str(skipped).encode() == told.encode()


def cauldron_row(*images, texts=None):
    said = {"user": "What?", "assistant": "A cat.", "source": "vqa"}
    return {
        "images": [{"bytes": image, "path": None} for image in images],
        "texts": [said] if texts is None else texts,
    }


def test_cauldron_rows_become_samples():
    sample = cauldron_sample(cauldron_row(image_bytes(3, file_format="JPEG")))
    assert questions_of(sample) == (Question("What?", "A cat.", "vqa"),)
    assert sorted(sample) == ["jpg", "json"]
    assert sorted(cauldron_sample(cauldron_row())) == ["json"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (cauldron_row(b"1", b"2"), "several images"),
        (cauldron_row(None), "no image"),
        (cauldron_row(texts=[]), "no questions"),
        (cauldron_row(texts=["What?"]), "odd row"),
        (cauldron_row(texts=[{"user": "What?", "assistant": None}]), "odd row"),
        ({"images": [], "texts": None}, "odd row"),
    ],
)
def test_cauldron_rows_that_are_refused(row, reason):
    with pytest.raises(SampleError) as refused:
        cauldron_sample(row)
    assert refused.value.reason == reason


def test_every_row_is_counted():
    skipped = SkippedSamples(max_bad_share=1.0)
    rows = [cauldron_row(), cauldron_row(b"no image"), cauldron_row(b"1", b"2"), 3]
    samples = list(samples_of_rows(rows, cauldron_sample, "a.parquet", skipped))
    assert [sample["__key__"] for sample in samples] == ["000000000"]
    assert (skipped.num_samples, skipped.num_skipped) == (4, 3)
    assert skipped.by_reason["several images"] == 1


def test_parquet_is_read(tmp_path, capsys):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [cauldron_row(image_bytes(n)) for n in range(70)] + [cauldron_row(None)]
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    out = ["--output", f"{tmp_path}/out", "--name", "mine"]
    main(["cauldron", "--parquet", str(path), *out])
    assert "1 of 71 samples skipped: 1 no image" in capsys.readouterr().out
    shards = TarShards(f"{tmp_path}/out")
    assert [shards[n]["png"] for n in (0, 69)] == [image_bytes(0), image_bytes(69)]
    parquet.write_table(pyarrow.table({"texts": [1]}), path)
    with pytest.raises(SystemExit):
        main(["cauldron", "--parquet", str(path), *out])
    assert "has columns ['texts']" in capsys.readouterr().err
    path.write_bytes(b"no parquet")
    with pytest.raises(SystemExit):
        main(["cauldron", "--parquet", str(path), *out])
    assert str(path) in capsys.readouterr().err
