"""Every kind of object that a user may hand over: an image, or told what to use."""

import io
import os
import sys
from pathlib import Path
from urllib.request import urlopen

import keras
import ml_dtypes
import numpy as np
import pytest
from PIL import Image, ImageSequence

from keras_pe.preprocessing import (
    ImageError,
    PEImageConverter,
    PEVideoConverter,
    load_batches,
)
from keras_pe.preprocessing.image_errors import (
    BAD_TYPE,
    BAD_VALUES,
    MISSING,
    UNREADABLE,
)

sys.path.insert(0, str(Path(__file__).parent))
from image_corpus import encoded, photo

pytestmark = pytest.mark.quick
CONVERTER = PEImageConverter(16)
CONTENT = encoded(photo(), "PNG")
PIXELS = np.asarray(photo())
EXPECTED = CONVERTER(CONTENT)


class OneWay(io.BytesIO):
    """What comes from a server: it can't go back."""

    def seekable(self):
        return False

    def seek(self, *arguments):
        raise io.UnsupportedOperation("seek")

    tell = seek
    __class__ = io.RawIOBase  # so that nobody takes the short way of a BytesIO


class FailingPath(os.PathLike):
    def __fspath__(self):
        raise RuntimeError("no path today")


def at_its_end():
    stream = io.BytesIO(CONTENT)
    stream.read()
    return stream


def closed():
    stream = io.BytesIO(CONTENT)
    stream.close()
    return stream


def object_array(*items):
    array = np.empty(len(items), dtype=object)
    for place, item in enumerate(items):
        array[place] = item
    return array


@pytest.mark.parametrize(
    "image",
    [
        io.BytesIO(CONTENT),
        at_its_end(),
        [at_its_end()],
        OneWay(CONTENT),
        io.BufferedReader(io.BytesIO(CONTENT)),
        memoryview(CONTENT),
        memoryview(np.frombuffer(CONTENT, "uint8")),
        np.bytes_(CONTENT),
        object_array(CONTENT),
        object_array(PIXELS),
        object_array(photo()),
        iter([CONTENT]),
        {"a": CONTENT}.values(),
        np.asfortranarray(PIXELS),
        PIXELS[::-1][::-1],
        np.ma.masked_array(PIXELS),
        (PIXELS / 255).astype(np.longdouble),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_an_image(image):
    np.testing.assert_array_equal(CONVERTER(image), EXPECTED)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_small_floats(dtype):
    units = PIXELS.astype("float32") / 255
    array = units.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    tensor = keras.ops.convert_to_tensor(units, dtype=dtype)
    for image in (array, tensor, [tensor], keras.ops.stack([tensor])):
        np.testing.assert_allclose(CONVERTER(image), EXPECTED, atol=2 / 127.5)


def test_tensors_of_pytorch_on_every_backend():
    torch = pytest.importorskip("torch")
    units = torch.from_numpy(PIXELS.astype("float32") / 255)
    for tensor in (
        torch.from_numpy(PIXELS.copy()),
        units.clone().requires_grad_(),
        torch.nn.Parameter(units),
        units.double(),
    ):
        for image in (tensor, [tensor], tensor[None]):
            np.testing.assert_allclose(CONVERTER(image), EXPECTED, atol=1e-6)
    np.testing.assert_allclose(CONVERTER([units.bfloat16()]), EXPECTED, atol=2 / 127.5)
    for tensor in (units.to("meta"), units.to_sparse(), units[..., 0].to_sparse_csr()):
        with pytest.raises(ImageError, match="NumPy can't read"):
            CONVERTER(tensor)


def test_tensors_without_values_are_told_what_a_model_takes_instead():
    with pytest.raises(ImageError, match=r"Rescaling\(1 / 127.5, offset=-1\)"):
        CONVERTER(keras.Input((8, 8, 3)))


def test_paths_in_arrays(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(CONTENT)
    os.link(path, tmp_path / "again.png")
    text = str(path)
    for one in (
        *(path, text, np.str_(text), np.array(text), np.array(path)),
        *(np.array([text]), np.array([path]), [path], (text,)),
        *([os.fsencode(path.name)], [np.str_(text)]),
    ):
        if isinstance(one, list) and isinstance(one[0], bytes):
            with pytest.raises(ImageError):  # bytes are content, never a path
                CONVERTER(one)
            continue
        np.testing.assert_array_equal(CONVERTER(one), EXPECTED)
    if hasattr(np.dtypes, "StringDType"):
        found = CONVERTER(np.array([text, text], np.dtypes.StringDType()))
        np.testing.assert_array_equal(found, EXPECTED.repeat(2, 0))


def test_open_files_keep_their_place(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(CONTENT)
    with path.open("rb") as file:
        file.seek(7)
        np.testing.assert_array_equal(CONVERTER([file, file]), EXPECTED.repeat(2, 0))
        assert file.tell() == 7
        [(indices, images)] = load_batches(file, CONVERTER, 4)
    assert indices.tolist() == [0]
    np.testing.assert_array_equal(images, EXPECTED)
    with urlopen(path.as_uri()) as answer:
        np.testing.assert_array_equal(CONVERTER(answer), EXPECTED)
    with path.open("rb") as file:
        file.close()
        with pytest.raises(ImageError, match=r"photo\.png: unreadable"):
            CONVERTER(file)


@pytest.mark.parametrize(
    ("image", "reason", "message"),
    [
        (closed(), UNREADABLE, "closed"),
        (io.StringIO("text"), BAD_TYPE, '"rb"'),
        (io.BytesIO(b""), "empty file", "no bytes"),
        ({"b.png", "a.png"}, BAD_TYPE, "no order"),
        (frozenset(), BAD_TYPE, "no order"),
        ({"a": CONTENT}, BAD_TYPE, "dict"),
        (np.array(3.5), BAD_TYPE, r"shape \(\)"),
        (np.array(None), BAD_TYPE, "NoneType"),
        (np.array([b"a.png"]), BAD_TYPE, "drops zeros"),
        (np.array([photo()], dtype=object), BAD_TYPE, "apart"),
        (np.zeros((4, 4), "complex64"), BAD_TYPE, "complex64"),
        (np.zeros((4, 4), bool), BAD_TYPE, "bool"),
        (np.zeros((4, 4), "M8[s]"), BAD_TYPE, "datetime64"),
        (np.zeros(4, [("r", "u1")]), BAD_TYPE, r"shape \(4,\)"),
        (np.zeros((5, 28, 28), "uint8"), BAD_TYPE, r"array\[..., None\]"),
        (np.ma.masked_equal(PIXELS, PIXELS[0, 0, 0]), BAD_VALUES, "filled"),
        ([PIXELS.tolist()], BAD_TYPE, "np.array"),
        (FailingPath(), UNREADABLE, "no path today"),
        ("https://example.com/cat.jpg", MISSING, "download"),
        ("~/cat.jpg", MISSING, "expanduser"),
        ("", MISSING, "No such file"),
        (object(), BAD_TYPE, "object"),
        (lambda: CONTENT, BAD_TYPE, "function"),
        (3, BAD_TYPE, "int"),
    ],
)
def test_what_is_none(image, reason, message):
    with pytest.raises(ImageError, match=message) as caught:
        CONVERTER(image)
    assert caught.value.reason == reason
    assert len(str(caught.value)) < 1000


def test_a_name_of_a_megabyte_is_cut():
    with pytest.raises(ImageError) as caught:
        CONVERTER("data:image/png;base64," + "A" * 10**6)
    assert len(str(caught.value)) < 1000


def test_a_closed_pil_image(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(CONTENT)
    image = Image.open(path)
    image.close()
    with pytest.raises(ImageError, match=r"photo\.png"):
        CONVERTER(image)


def test_what_an_iterator_overwrites_is_copied():
    levels = [0, 100, 200]
    stream = io.BytesIO()
    first, *others = [Image.new("L", (8, 8), level) for level in levels]
    first.save(stream, "GIF", save_all=True, append_images=others)
    animation = Image.open(stream)

    def buffered():
        buffer = np.zeros((8, 8), "uint8")
        for level in levels:
            buffer[:] = level
            yield buffer

    images, videos = PEImageConverter(8), PEVideoConverter(8, num_frames=3)
    for frames in (lambda: ImageSequence.Iterator(animation), buffered):
        for found in (
            images(frames()),
            videos(frames())[0],
            next(iter(load_batches(frames(), images, 3)))[1],
        ):
            np.testing.assert_allclose((found[:, 0, 0, 0] + 1) * 127.5, levels)
    several = list(ImageSequence.Iterator(animation))  # one object, three times
    for converter in (images, videos):
        with pytest.raises(ImageError, match="One open animation comes several"):
            converter(several)
    still = Image.new("L", (8, 8), 100)
    assert len(images([still, still])) == 2
    assert len(images([animation, still])) == 2
