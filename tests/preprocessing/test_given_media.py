"""Images, texts and videos are told from each other, and mixtures refused."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_pe.preprocessing.given_media import as_items, kind_of

pytestmark = [pytest.mark.quick, pytest.mark.once]
PICTURE = Image.new("RGB", (4, 4))
ARRAY = np.zeros((4, 4, 3), "uint8")


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ("a cat", "text"),
        ("the file cat.jpg is large", "text"),
        (["a cat", ""], "text"),
        (np.array(["a cat", "a dog"]), "text"),
        (np.array(["a cat", "a dog"], object), "text"),
        (np.array(["a.png", "b.JPG"]), "image"),
        ("photos/cat.JPG", "image"),
        ("photos/cat.HEIC", "image"),  # which whoever opens it refuses
        ("https://a.org/cat?size=9", "image"),
        ("see https://a.org/cat", "text"),
        ("a drawing in the style of a.svg", "text"),
        ("http", "text"),
        (Path("cat.webp"), "image"),
        (["cat.gif", Path("dog.png"), PICTURE, ARRAY, b"...", io.BytesIO()], "image"),
        (PICTURE, "image"),
        (ARRAY, "image"),
        (ARRAY[..., 0], "image"),
        (ARRAY[None], "image"),
        ("clip.mp4", "video"),
        ([Path("clip.MKV"), [PICTURE, PICTURE], ARRAY[None]], "video"),
        (np.zeros((2, 3, 4, 4, 3)), "video"),
    ],
)
def test_kinds(given, kind):
    assert kind_of(given) == kind


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ["a cat", PICTURE],
            r"\('a cat'\), inputs\[1\] an image \(Image\)",
        ),
        ([ARRAY, ARRAY[None]], r"array \(4, 4, 3\)\), inputs\[1\] a video"),
        (["a.jpg", "b.mp4"], r"\('a\.jpg'\), inputs\[1\] a video \('b\.mp4'\)"),
        ([], "Nothing was given"),
        ([3], r"inputs\[0\] is no image, text or video \(3\)"),
        ([None], r"\(None\)"),
        ({"a cat"}, "Got a set"),
        ({"a": 1}, "Got a dict"),
        (7, "Got a int"),
        (Path("notes.txt"), r"notes\.txt ends like neither"),
        (np.zeros((1, 1, 1, 1, 1, 1)), "expected an image"),
        (np.zeros(3), r"shape \(3,\)"),
    ],
)
def test_what_can_not_be_told(given, message):
    with pytest.raises(ValueError, match=message):
        kind_of(given)


def test_a_folder_is_called_one(tmp_path):
    with pytest.raises(ValueError, match="Of a folder of images give the files"):
        kind_of(tmp_path)


def test_iterators_are_used_up_once():
    found = as_items(name for name in ("a cat", "a dog"))
    assert found == ["a cat", "a dog"]
    assert kind_of(found) == "text"
    for same in ("a cat", PICTURE, ARRAY, [1], b"..."):
        assert as_items(same) is same
