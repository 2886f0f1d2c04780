"""Readers of data set layouts, on the smallest data set of each layout."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from keras_pe.evaluation import datasets
from keras_pe.preprocessing.image_errors import ImageError

pytestmark = [pytest.mark.quick, pytest.mark.once]


def image(path, level=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), level).save(path)
    return path


@pytest.fixture
def classes(tmp_path):
    """Two classes with two images each, and files that are no images."""
    root = tmp_path / "val"
    for folder in ("n01", "n02"):
        for name in ("b.jpg", "a.JPEG"):
            image(root / folder / name)
        (root / folder / "notes.txt").write_text("no image")
        (root / folder / ".hidden.jpg").write_text("no image")
    return root


def test_folders_without_names(classes):
    (classes / "n02").rename(classes / "a_red_car")
    found = datasets.read_image_folder(classes)
    assert found.class_names == ("a red car", "n01")
    assert [path.name for path in found.samples] == ["a.JPEG", "b.jpg"] * 2
    assert found.labels == (0, 0, 1, 1)
    assert len(found) == 4


@pytest.mark.parametrize(
    "content",
    [
        {"n02": "dog", "n01": "cat", "n00": "fox"},
        {"10": ["n00", "fox"], "2": ["n01", "cat"], "0": ["n02", "dog"]},
    ],
)
def test_folders_with_a_mapping(classes, tmp_path, content):
    names = tmp_path / "names.json"
    names.write_text(json.dumps(content))
    found = datasets.read_image_folder(classes, names)
    assert found.class_names == ("dog", "cat", "fox")  # in the file's order, not sorted
    assert found.labels == (1, 1, 0, 0)
    names.write_text('{"n01": "cat"}')
    with pytest.raises(ValueError, match="n02"):
        datasets.read_image_folder(classes, names)


def test_folders_with_a_list(classes, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("cat\n\ndog\n")
    found = datasets.read_image_folder(classes, names)
    assert found.class_names == ("cat", "dog")
    names.write_text("cat")
    with pytest.raises(ValueError, match="1 names for 2 folders"):
        datasets.read_image_folder(classes, names)


def test_folders_that_do_not_fit(classes, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        datasets.read_image_folder(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"\.mp4"):
        datasets.read_video_folder(classes)
    (classes / "n01" / "clip.mp4").write_bytes(b"")
    assert datasets.read_video_folder(classes).labels == (0,)
    for content in ('{"n01": 3, "n02": 4}', "3"):
        (tmp_path / "names.json").write_text(content)
        with pytest.raises(ValueError, match="no class names"):
            datasets.read_image_folder(classes, tmp_path / "names.json")


def test_coco_captions(tmp_path):
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg"} for i in (7, 3, 9)],
        "annotations": [
            {"image_id": 3, "caption": " a dog "},
            {"image_id": 7, "caption": "a cat"},
            {"image_id": 7, "caption": "a pet"},
        ],
    }
    path = tmp_path / "captions.json"
    path.write_text(json.dumps(content))
    image(tmp_path / "images" / "7.jpg")
    with pytest.raises(FileNotFoundError, match=r"3\.jpg"):
        datasets.read_coco_captions(path, tmp_path / "images")
    image(tmp_path / "images" / "3.jpg")
    found = datasets.read_coco_captions(path, tmp_path / "images")
    assert [path.name for path in found.samples] == ["7.jpg", "3.jpg"]
    assert found.texts == (("a cat", "a pet"), ("a dog",))
    first = datasets.read_coco_captions(path, tmp_path / "images", 1)
    assert first.texts == (("a cat",), ("a dog",))
    for wrong in ("{", "[]", '{"images": [], "annotations": []}', '{"images": [1]}'):
        path.write_text(wrong)
        with pytest.raises(ValueError, match=r"captions\.json"):
            datasets.read_coco_captions(path, tmp_path / "images")


def test_karpathy_captions(tmp_path):
    sentences = [{"raw": f"caption {i}"} for i in range(7)]
    content = {
        "images": [
            {"filename": "1.jpg", "split": "test", "sentences": sentences},
            {"filename": "2.jpg", "split": "train", "sentences": sentences[:1]},
            {
                "filename": "3.jpg",
                "filepath": "val2014",
                "split": "val",
                "sentences": sentences[:2],
            },
        ]
    }
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps(content))
    image(tmp_path / "images" / "1.jpg")
    image(tmp_path / "images" / "val2014" / "3.jpg")
    test = datasets.read_karpathy_captions(path, tmp_path / "images")
    assert [len(texts) for texts in test.texts] == [5]
    both = datasets.read_karpathy_captions(path, tmp_path / "images", ["test", "val"])
    assert [path.name for path in both.samples] == ["1.jpg", "3.jpg"]
    with pytest.raises(FileNotFoundError, match=r"2\.jpg"):
        datasets.read_karpathy_captions(path, tmp_path / "images", "train")
    with pytest.raises(ValueError, match="'test', 'train', 'val'"):
        datasets.read_karpathy_captions(path, tmp_path / "images", "testing")
    path.write_text('{"images": [{}]}')
    with pytest.raises(ValueError, match="layout"):
        datasets.read_karpathy_captions(path, tmp_path / "images")


def test_files_of_windows_may_begin_with_a_byte_order_mark(classes, tmp_path):
    names, listed = tmp_path / "names.txt", tmp_path / "names.json"
    names.write_text("cat\ndog\n", encoding="utf-8-sig")
    listed.write_text('{"n01": "cat", "n02": "dog"}', encoding="utf-8-sig")
    for file in (names, listed):
        assert datasets.read_image_folder(classes, file).class_names == ("cat", "dog")
    table = tmp_path / "test.csv"
    table.write_text("video_id,sentence\nv1,a cat\n", encoding="utf-8-sig")
    (tmp_path / "v1.mp4").write_bytes(b"")
    assert datasets.read_video_captions(table, tmp_path).texts == (("a cat",),)


def test_video_captions(tmp_path):
    table = tmp_path / "test.csv"
    table.write_text('video_id,sentence\nv1,"a cat, asleep"\nv2,a dog\nv1,a pet@b\n')
    for name in ("v1", "v2"):
        (tmp_path / f"{name}.mp4").write_bytes(b"")
    found = datasets.read_video_captions(table, tmp_path)
    assert found.texts == (("a cat, asleep", "a pet@b"), ("a dog",))
    found = datasets.read_video_captions(table, tmp_path, separator="@")
    assert found.texts[0] == ("a cat, asleep", "a pet", "b")
    with pytest.raises(ValueError, match="separator=''"):
        datasets.read_video_captions(table, tmp_path, separator="")
    with pytest.raises(FileNotFoundError, match=r"v1\.avi"):
        datasets.read_video_captions(table, tmp_path, ".avi")
    for content, message in (
        ("video,sentence\nv1,a", "video_id"),
        ("video_id,sentence\n", "has no rows"),
        ("video_id,sentence\nv1,\n", "v1"),
        ("video_id,sentence\nv1,a cat, asleep\n", "line 2: 3 fields under 2 columns"),
        ('video_id,sentence\nv1,"a cat\nv2,a dog\n', "line 3: unexpected end of data"),
        ("video_id,sentence\n,a cat\n", "line 2: no video_id"),
        ("video_id,sentence\nv1,a cat\x00\n" + "v1,x" * 50000, "field larger|fields"),
    ):
        table.write_text(content)
        with pytest.raises(ValueError, match=message):
            datasets.read_video_captions(table, tmp_path)


def write_shard(path, files):
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def test_labelled_shards(tmp_path):
    for shard, keys in enumerate(("ab", "c")):
        files = {}
        for key in keys:
            files[f"{key}.webp"] = f"image {key}".encode()
            files[f"{key}.cls"] = b"1\n" if key == "b" else b"0"
        write_shard(tmp_path / f"{shard}.tar", files)
    pattern = str(tmp_path / "{0..1}.tar")
    found = datasets.read_labelled_shards(pattern, ["cat", "dog"])
    assert found.labels == (0, 1, 0)
    assert found.samples[2].read() == b"image c"
    assert found.samples[1].filename == f"b in {tmp_path / '0.tar'}"
    with pytest.raises(ValueError, match=r"b in .*0\.tar"):
        datasets.read_labelled_shards(pattern, ["cat"])
    with pytest.raises(FileNotFoundError):
        datasets.read_labelled_shards(str(tmp_path / "2.tar"), ["cat"])
    with pytest.raises(ValueError, match="cls"):
        datasets.read_captioned_shards(pattern)


def test_captioned_shards(tmp_path):
    write_shard(
        tmp_path / "text.tar",
        {"a.jpg": b"1", "a.txt": b"a cat\n\na pet\n", "b.mp4": b"2", "b.txt": b"a dog"},
    )
    found = datasets.read_captioned_shards(str(tmp_path / "text.tar"))
    assert found.texts == (("a cat", "a pet"), ("a dog",))
    assert found.samples[1].read() == b"2"
    records = [{"caption": "a cat"}, {"captions": ["a", "b"]}, {"other": 1}]
    files = {f"{i}.json": json.dumps(record) for i, record in enumerate(records)}
    files["0.txt2"] = ""
    write_shard(
        tmp_path / "json.tar", {name: text.encode() for name, text in files.items()}
    )
    with pytest.raises(ValueError, match="2 in"):
        datasets.read_captioned_shards(str(tmp_path / "json.tar"))
    del files["2.json"]
    write_shard(
        tmp_path / "json.tar", {name: text.encode() for name, text in files.items()}
    )
    found = datasets.read_captioned_shards(str(tmp_path / "json.tar"))
    assert found.texts == (("a cat",), ("a", "b"))
    with pytest.raises(ImageError, match="Its files are"):
        found.samples[0].read()


def test_davis(tmp_path):
    for name, frames in (("bear", 3), ("swan", 2)):
        for i in range(frames):
            image(tmp_path / "JPEGImages" / "480p" / name / f"{i:05d}.jpg")
            if name == "bear" or i == 0:
                mask = tmp_path / "Annotations" / "480p" / name / f"{i:05d}.png"
                mask.parent.mkdir(parents=True, exist_ok=True)
                numbers = np.arange(16, dtype="uint8").reshape(4, 4) % 3
                palette = Image.fromarray(numbers)
                palette.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
                palette.save(mask)
    listing = tmp_path / "ImageSets" / "2017" / "val.txt"
    listing.parent.mkdir(parents=True)
    listing.write_text("swan\nbear\n")
    swan, bear = datasets.read_davis(tmp_path)
    assert (swan.name, len(swan), len(bear)) == ("swan", 2, 3)
    assert [mask is None for mask in swan.masks] == [False, True]
    assert None not in bear.masks
    mask = datasets.read_davis_mask(bear.masks[0])
    np.testing.assert_array_equal(mask, np.arange(16).reshape(4, 4) % 3)
    colours = tmp_path / "colours.png"
    Image.new("RGB", (4, 4)).save(colours)
    with pytest.raises(ValueError, match="RGB"):
        datasets.read_davis_mask(colours)
    with pytest.raises(FileNotFoundError, match=r"train\.txt"):
        datasets.read_davis(tmp_path, "train")
    (tmp_path / "Annotations" / "480p" / "swan" / "00000.png").unlink()
    with pytest.raises(FileNotFoundError, match="first mask of swan"):
        datasets.read_davis(tmp_path)
    listing.write_text("goat")
    with pytest.raises(FileNotFoundError, match="goat"):
        datasets.read_davis(tmp_path)


def test_ade20k(tmp_path):
    image(tmp_path / "images" / "validation" / "ADE_val_1.jpg")
    image(tmp_path / "annotations" / "validation" / "ADE_val_1.png", 150)
    found = datasets.read_ade20k(tmp_path)
    assert len(found) == 1
    assert (found.num_classes, found.ignore_index) == (150, 255)
    assert found.class_names is None
    rows = [f"{i}\t0.1\t5\t5\tthing {i}, object" for i in range(1, 151)]
    table = tmp_path / "objectInfo150.txt"
    table.write_text("\n".join(["Idx\tRatio\tTrain\tVal\tName", *rows]))
    assert datasets.read_ade20k(tmp_path).class_names[149] == "thing 150, object"

    mask = found.masks[0]
    assert (datasets.read_ade20k_mask(mask) == 149).all()
    numbers = np.array([[0, 1], [2, 150]], "uint8")
    Image.fromarray(numbers).save(mask)
    assert datasets.read_ade20k_mask(mask).tolist() == [[255, 0], [1, 149]]
    assert datasets.read_ade20k_mask(mask, -1)[0, 0] == -1
    image(mask, 151)
    with pytest.raises(ValueError, match="holds 151"):
        datasets.read_ade20k_mask(mask)
    mask.unlink()
    with pytest.raises(FileNotFoundError, match=r"ADE_val_1\.png"):
        datasets.read_ade20k(tmp_path)
    with pytest.raises(FileNotFoundError, match="training"):
        datasets.read_ade20k(tmp_path, "training")
