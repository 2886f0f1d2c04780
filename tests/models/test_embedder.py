"""Vectors by one call are those of the model's own calls."""

import keras
import numpy as np
import pytest
from PIL import Image

from keras_pe import Embedder, PEImageConverter, PETokenizer, PEVideoConverter
from keras_pe.arrays import NonFiniteError
from keras_pe.preprocessing.image_errors import ImageError
from tests.small_models import core, perturb, vision_encoder

pytestmark = pytest.mark.quick
TEXTS = ["a cat", "a dog", "an owl", "cat", "dog"]


@pytest.fixture(scope="module")
def embedder():
    tokenizer = PETokenizer(8, 600, on_truncation="ignore")
    return Embedder(perturb(core()), tokenizer, batch_size=2)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return list(rng.integers(0, 256, (5, 40, 48, 3), "uint8"))


def value(tensor):
    return keras.ops.convert_to_numpy(tensor)


def test_texts(embedder):
    found = embedder.encode(TEXTS, progress=False)
    slow = embedder.model.encode_text(embedder.tokenizer(TEXTS))
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, value(slow), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(embedder.encode("a cat"), found[:1], atol=1e-5)
    generated = embedder.encode((text for text in TEXTS), progress=False)
    np.testing.assert_array_equal(generated, found)


def test_images(embedder, images, tmp_path):
    prepared = PEImageConverter(32)(images)
    found = embedder.encode(images, progress=False)
    slow = value(embedder.model.encode_image(prepared))
    np.testing.assert_allclose(found, slow, atol=1e-5)
    raw = embedder.encode(images, normalize=False, batch_size=5)
    slow = value(embedder.model.encode_image(prepared, normalize=False))
    np.testing.assert_allclose(raw, slow, atol=1e-4)
    assert not np.allclose(raw, found, atol=0.1)
    Image.fromarray(images[3]).save(tmp_path / "cat.png")
    for path in (tmp_path / "cat.png", str(tmp_path / "cat.png")):
        np.testing.assert_allclose(embedder.encode(path), found[3:4], atol=1e-5)


def test_videos(embedder, images):
    videos = [np.stack(images[:3]), np.stack(images[2:]), np.stack(images)]
    prepared = PEVideoConverter(32)(videos)
    found = embedder.encode(videos, progress=False)
    slow = value(embedder.model.encode_video(prepared))
    np.testing.assert_allclose(found, slow, atol=1e-5)
    one = embedder.encode(images[:3], kind="video")  # a list of its frames
    np.testing.assert_allclose(one, found[:1], atol=1e-5)


def test_the_converter_of_images_prepares_frames():
    cropped = PEImageConverter(32, resize_mode="center_crop")
    made = Embedder(core(), image_converter=cropped).video_converter
    assert (made.num_frames, made.image_converter.resize_mode) == (8, "center_crop")


def test_no_inputs_of_a_kind_that_was_said(embedder):
    for kind in ("image", "text", "video"):
        assert embedder.encode([], kind=kind).shape == (0, 16)
    with pytest.raises(ValueError, match="Nothing was given"):
        embedder.encode([])


def test_similarity(embedder, images):
    first, second = embedder.encode(images[:3], progress=False), TEXTS[:2]
    cosines = first @ embedder.encode(second).T
    np.testing.assert_allclose(embedder.similarity(first, second), cosines, atol=1e-5)
    np.testing.assert_allclose(
        embedder.similarity(3 * first, embedder.encode(second)), cosines, atol=1e-5
    )
    np.testing.assert_allclose(
        embedder.similarity(images[:2], images[0])[:, 0],
        first[:2] @ first[0],
        atol=1e-5,
    )
    with pytest.raises(ValueError, match="Row 1 of the embeddings is all zeros"):
        embedder.similarity(first * [[1], [0], [1]], second)
    with pytest.raises(NonFiniteError):
        embedder.similarity(np.full((2, 16), np.nan), second)
    for scale in (1e-30, 1e30):  # squares of float32 vanish, or overflow
        scaled = (first * scale).astype("float32")
        found = embedder.similarity(scaled, second)
        assert found.dtype == "float32"
        np.testing.assert_allclose(found, cosines, atol=1e-5)


def test_similarity_shows_a_bar_unless_told_not_to(embedder, capsys):
    many = TEXTS[:1] * (embedder.batch_size + 1)
    embedder.similarity(many, TEXTS[0], progress=False)
    assert capsys.readouterr().out == ""
    embedder.similarity(many, TEXTS[0])
    assert f"{len(many)}/{len(many)}" in capsys.readouterr().out


def test_mixtures_and_bad_images_are_refused(embedder, images, tmp_path):
    with pytest.raises(ValueError, match="A mixture"):
        embedder.encode([images[0], "a cat"])
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"bad\.png"):
        embedder.encode([images[0], tmp_path / "bad.png"])
    with pytest.raises(ValueError, match="kind='sound'"):
        embedder.encode("a cat", kind="sound")
    with pytest.raises(TypeError, match="expected a string"):
        embedder.encode([images[0]], kind="text")
    for name in ("https://a.org/cat?size=9", "IMG_0001.HEIC"):  # no texts either
        with pytest.raises(ImageError, match=name[:9]):
            embedder.encode([name])
    with pytest.raises(ValueError, match="normalize must be True or False, got 'no'"):
        embedder.encode("a cat", normalize="no")


def test_arguments():
    with pytest.raises(TypeError, match=r"Embedder\.from_preset"):
        Embedder("pe_core_emoji_patch8_64")
    with pytest.raises(TypeError, match="must be a PECore"):
        Embedder(vision_encoder(num_layers=1))
    with pytest.raises(ValueError, match="does not fit the model"):
        Embedder(core(), PETokenizer())
    with pytest.raises(ValueError, match="batch_size"):
        Embedder(core(), batch_size=0)
    with pytest.raises(ValueError, match="has no tokenizer"):
        Embedder(core()).encode("a cat")


def test_a_model_of_nan_is_not_a_score():
    model = core()
    model.vision_encoder.norm.gamma.assign(
        np.full(model.vision_encoder.norm.gamma.shape, np.nan)
    )
    with pytest.raises(NonFiniteError, match=r"inputs\[0\]"):
        Embedder(model).encode(np.zeros((40, 40, 3), "uint8"))


def test_a_bar_of_more_than_a_batch(embedder, images, capsys):
    embedder.encode(images[:2])
    assert not capsys.readouterr().out
    embedder.encode(images[:3])
    assert "3/3" in capsys.readouterr().out
    embedder.encode(images[:3], progress=False)
    assert not capsys.readouterr().out


def test_from_a_preset(embedder, images, tmp_path):
    converter = PEImageConverter(32, resize_mode="center_crop")
    tokenizer = PETokenizer(8, 600)
    embedder.model.save_to_preset(tmp_path, tokenizer, converter)
    found = Embedder.from_preset(tmp_path)
    direct = Embedder(embedder.model, embedder.tokenizer, converter)
    np.testing.assert_allclose(
        found.encode(images, progress=False),
        direct.encode(images, progress=False),
        atol=1e-5,
    )
