"""Which files of a folder count: the user's own images, all of them, nothing else."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_pe.evaluation.datasets import read_image_folder
from keras_pe.evaluation.hashes import data_hash
from keras_pe.preprocessing import PEVideoConverter
from keras_pe.preprocessing.image_decoding import DEFAULT_FORMATS
from keras_pe.preprocessing.media_folders import (
    IMAGE_SUFFIXES,
    list_classes,
    list_files,
    visible,
)

pytestmark = [pytest.mark.quick, pytest.mark.once]


def write(folder, *names):
    for name in names:
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (3, 2)).save(path, "PNG")


def names_of(folder, **options):
    found = list_files(folder, **options)
    return [path.relative_to(folder).as_posix() for path in found]


def clutter(folder, image="x.png"):
    """What a Mac, Jupyter, a NAS and Windows leave in a folder."""
    write(
        folder,
        f"._{image}",
        f".ipynb_checkpoints/{image}",
        f"__MACOSX/{image}",
        f"@eaDir/{image}/SYNOPHOTO_THUMB.jpg",
        f"$RECYCLE.BIN/{image}",
    )
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        Path(folder, name).write_bytes(b"\0")


@pytest.mark.parametrize(
    "name",
    [
        *("._x.jpg", ".hidden.png", ".ipynb_checkpoints", ".DS_Store", ".git"),
        *("__MACOSX", "Thumbs.db", "THUMBS.DB", "desktop.ini", "@eaDir"),
        *("$RECYCLE.BIN", "System Volume Information", "lost+found"),
        "data/.x.jpg",
    ],
)
def test_hidden_and_system_names(name):
    assert not visible(name)
    assert not visible(Path(name))


@pytest.mark.parametrize(
    "name", ["x.jpg", "_x.jpg", "MACOSX", ".cache/x.jpg", "日本.png", "caf\udce9.png"]
)
def test_a_users_own_names(name):
    assert visible(name)


def test_every_suffix_of_the_formats_that_are_read():
    Image.init()
    opened = {"MPO", "DIB", *DEFAULT_FORMATS}  # Pillow's names of a JPEG and a BMP
    registered = {
        suffix
        for suffix, kind in Image.registered_extensions().items()
        if kind in opened
    }
    assert registered <= set(IMAGE_SUFFIXES)
    assert all(suffix == suffix.lower() for suffix in IMAGE_SUFFIXES)


def test_one_folder_and_all_below(tmp_path):
    write(tmp_path, "b.JPG", "a.jfif", "c/d.jpe", "c/e/f.pgm", "c/.g/h.png")
    clutter(tmp_path)
    clutter(tmp_path / "c")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "folder.png").mkdir()
    assert names_of(tmp_path) == ["a.jfif", "b.JPG"]
    below = ["a.jfif", "b.JPG", "c/d.jpe", "c/e/f.pgm"]
    assert names_of(tmp_path, recursive=True) == below
    assert names_of(tmp_path, suffixes=(".txt",)) == ["notes.txt"]
    assert names_of(tmp_path, suffixes=()) == ["a.jfif", "b.JPG", "notes.txt"]
    with pytest.raises(FileNotFoundError):
        list_files(tmp_path / "nowhere")


def test_a_folder_may_itself_be_hidden(tmp_path):
    write(tmp_path, ".cache/a.png")
    assert names_of(tmp_path / ".cache", recursive=True) == ["a.png"]


def test_links_are_followed_once(tmp_path):
    write(tmp_path, "z/real.png", "elsewhere/far.png")
    root = tmp_path / "z"
    (root / "up").symlink_to(root)  # would go on for ever
    (root / "self").symlink_to("self")
    (root / "a").symlink_to(tmp_path / "elsewhere")
    (root / "b").symlink_to(tmp_path / "elsewhere")  # the same images again
    (root / "gone.png").symlink_to("deleted.png")
    found = names_of(root, recursive=True)
    assert found == ["a/far.png", "gone.png", "real.png"]
    # An image is known by its own path even if a link to it sorts first.
    (tmp_path / "a_link").symlink_to(root)
    assert "z/real.png" in names_of(tmp_path, recursive=True)
    assert "a_link/real.png" not in names_of(tmp_path, recursive=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_read_is_an_error(tmp_path):
    write(tmp_path, "a/b.png")
    (tmp_path / "a").chmod(0)
    try:
        with pytest.raises(PermissionError):
            list_files(tmp_path, recursive=True)
    finally:
        (tmp_path / "a").chmod(0o700)


def test_classes(tmp_path):
    write(tmp_path, "snowy_owl/1.jpg", "crow/2.PNG", "crow/1.jfif")
    clutter(tmp_path)
    clutter(tmp_path / "crow")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = list_classes(tmp_path)
    assert list(found) == ["crow", "snowy_owl"]
    assert [path.name for path in found["crow"]] == ["1.jfif", "2.PNG"]
    labelled = read_image_folder(tmp_path)
    assert labelled.class_names == ("crow", "snowy owl")
    assert labelled.labels == (0, 0, 1)


def test_an_empty_class_is_named_and_stays_a_class(tmp_path):
    write(tmp_path, "owl/1.jpg")
    (tmp_path / "crow").mkdir()
    clutter(tmp_path / "crow")
    with pytest.warns(UserWarning, match=r"1 of 2 class folders .* 'crow'"):
        found = read_image_folder(tmp_path)
    assert found.class_names == ("crow", "owl")
    assert found.labels == (1,)


def test_frames_and_fingerprints_leave_them_out_too(tmp_path):
    for number in range(12):
        grey = np.full((4, 4, 3), 10 * number, "uint8")
        Image.fromarray(grey).save(tmp_path / f"frame{number}.png")
    converter = PEVideoConverter(4, num_frames=12)
    before, known = converter(tmp_path), data_hash([tmp_path], [0])
    clutter(tmp_path, "frame3.png")
    np.testing.assert_array_equal(converter(tmp_path), before)
    assert data_hash([tmp_path], [0]) == known
