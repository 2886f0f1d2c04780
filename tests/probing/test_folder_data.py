"""Folders of classes, ADE20K and DAVIS as a sweep reads them, and the command."""

import json

import numpy as np
import pytest
from PIL import Image

from keras_pe import PEImageConverter
from keras_pe.cli.main import main
from keras_pe.probing.folder_data import folder_items, folder_samples, spread

pytestmark = pytest.mark.quick


def noise(size, low, high, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(low, high, (*size, 3)).astype("uint8")


def class_folder(root, per_class=10):
    for number, name in enumerate(("dark", "bright")):
        (root / name).mkdir(parents=True)
        for image in range(per_class):
            low = 130 * number
            array = noise((20, 24), low, low + 120, image)
            Image.fromarray(array).save(root / name / f"{image}.png")
    return root


def test_classes(tmp_path):
    root = class_folder(tmp_path)
    images, labels = folder_samples(root, "classification", PEImageConverter(16))
    assert len(images) == 20
    assert labels.tolist() == [0] * 10 + [1] * 10  # sorted: bright, dark
    few, labels = folder_samples(root, "classification", PEImageConverter(16), limit=4)
    assert len(few) == 4
    assert sorted(set(labels.tolist())) == [0, 1]
    assert spread(3, None).tolist() == [0, 1, 2]


def test_ade20k(tmp_path):
    for split in ("training", "validation"):
        images = tmp_path / "images" / split
        masks = tmp_path / "annotations" / split
        images.mkdir(parents=True)
        masks.mkdir(parents=True)
        for number in range(3):
            size = (20 + number, 30)
            Image.fromarray(noise(size, 0, 255)).save(images / f"a{number}.jpg")
            mask = np.zeros(size, "uint8")
            mask[:, 15:] = number + 1
            Image.fromarray(mask).save(masks / f"a{number}.png")
    batches = folder_samples(tmp_path, "segmentation", PEImageConverter(16))
    ((converted, found),) = list(batches())
    assert converted.shape == (3, 16, 16, 3)
    assert found.shape == (3, 16, 16)
    assert found.dtype == np.uint8
    assert (found[:, :, :8] == 255).all()  # 0 is "other": left out
    assert [set(row[:, 8:].ravel()) for row in found] == [{0}, {1}, {2}]
    assert len(list(batches())) == 1  # again


def test_davis(tmp_path):
    frames = tmp_path / "JPEGImages" / "480p" / "car"
    masks = tmp_path / "Annotations" / "480p" / "car"
    lists = tmp_path / "ImageSets" / "2017"
    for folder in (frames, masks, lists):
        folder.mkdir(parents=True)
    (lists / "val.txt").write_text("car\n")
    for number in range(3):
        Image.fromarray(noise((24, 32), 0, 255)).save(frames / f"{number:05}.jpg")
        mask = np.zeros((24, 32), "uint8")
        mask[:, 8 * number : 8 * number + 8] = 1
        Image.fromarray(mask).save(masks / f"{number:05}.png")
    (clip,) = list(folder_items(tmp_path, PEImageConverter(16))())
    assert clip.name == "car"
    assert clip.frames.shape == (3, 16, 16, 3)
    assert (clip.masks[1] == 1).sum() == 16 * 4


@pytest.mark.slow
def test_the_command(tmp_path, capsys):
    root = class_folder(tmp_path / "data")
    files = [tmp_path / name for name in ("a.json", "a.csv", "a.png")]
    code = main(
        ["probe", str(root), "--probe", "knn", "--layers", "1", "6",
         "--batch-size", "10", "--output", str(files[0]), "--csv", str(files[1]),
         "--plot", str(files[2])]
    )  # fmt: skip
    assert code == 0
    printed = capsys.readouterr().out
    assert "knn, accuracy of 4 test samples" in printed
    found = json.loads(files[0].read_text())
    assert [row["layer"] for row in found["layers"]] == [1, 6]
    assert found["layers"][0]["score"] == 1.0
    assert all(path.stat().st_size for path in files)


@pytest.mark.slow
def test_the_command_names_what_is_missing(tmp_path, capsys):
    assert main(["probe", str(tmp_path / "nothing")]) == 1
    assert "nothing" in capsys.readouterr().err
