"""Sixty difficult files: nothing crashes, nothing is skipped in silence."""

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from keras_pe.preprocessing import ImageError, PEImageConverter, load_batches
from keras_pe.preprocessing.image_errors import REASONS, TOO_LARGE, UNREADABLE

sys.path.insert(0, str(Path(__file__).parent))
from image_corpus import (
    SAMPLE_REASONS,
    SAMPLES,
    encoded,
    photo,
    png_header,
    write_corpus,
)

pytestmark = pytest.mark.once

# Pillow warns about some of these files before it or we refuse them.
quietly = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("images"))


def test_corpus_is_large_and_its_samples_small(corpus):
    assert len(corpus) >= 40
    samples = [p for p in SAMPLES.iterdir() if p.name != "README.md"]
    assert {p.name for p in samples} == set(SAMPLE_REASONS)
    assert all(p.stat().st_size < 30_000 for p in samples)
    assert {*corpus.values()} - {None} <= set(REASONS)


@quietly
def test_every_file_loads_or_is_named_with_its_reason(corpus):
    converter = PEImageConverter(32)
    for path, reason in corpus.items():
        if reason is None:
            image = converter(path)
            assert image.shape == (1, 32, 32, 3), path.name
            assert np.abs(image).max() <= 1, path.name
        else:
            with pytest.raises(ImageError) as caught:
                converter(path)
            assert caught.value.reason == reason, path.name
            assert caught.value.name == str(path)
            assert str(path) in str(caught.value)


@quietly
@pytest.mark.parametrize("resize_mode", ["squash", "center_crop"])
def test_a_run_over_the_corpus_books_every_skip(corpus, resize_mode):
    paths = list(corpus)
    converter = PEImageConverter(32, resize_mode)
    batches = load_batches(paths, converter, batch_size=8, max_skipped_share=1)
    loaded = np.concatenate([indices for indices, _ in batches])
    good = [i for i, reason in enumerate(corpus.values()) if reason is None]
    assert loaded.tolist() == good
    report = batches.report
    bad = {str(path): reason for path, reason in corpus.items() if reason}
    assert report.num_images == len(paths)
    assert report.names == list(bad)
    assert report.by_reason == Counter(bad.values())
    assert [paths[item.index] for item in report.skipped] == [Path(p) for p in bad]


@quietly
def test_bytes_meet_the_same_checks_as_paths(corpus):
    converter = PEImageConverter(32)
    for path, reason in corpus.items():
        if not path.exists():
            continue
        if reason is None:
            np.testing.assert_array_equal(
                converter(path.read_bytes()), converter(path), path.name
            )
        else:
            with pytest.raises(ImageError) as caught:
                converter(path.read_bytes())
            assert caught.value.reason == reason


@quietly
def test_a_bomb_is_refused_before_any_pixel_is_decoded(monkeypatch):
    def no_decoding(self):
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", no_decoding)
    # Between one and two times Pillow's limit, where Pillow itself only warns.
    with pytest.raises(ImageError) as caught:
        PEImageConverter()(png_header(10_000, 9_000))
    assert caught.value.reason == TOO_LARGE
    with pytest.raises(ImageError, match="expected at most 99"):
        PEImageConverter(max_pixels=99)(png_header(10, 10))
    PEImageConverter(max_pixels=99)  # and the limit is the converter's own
    assert Image.MAX_IMAGE_PIXELS == 89_478_485
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@pytest.mark.filterwarnings("error")
def test_pillows_bomb_warning_is_our_error():
    with pytest.raises(ImageError) as caught:
        PEImageConverter(max_pixels=10**9)(png_header(10_000, 9_000))
    assert caught.value.reason == TOO_LARGE


def test_folders_and_odd_paths(tmp_path):
    for path in (tmp_path, "nul\0byte.png", "a" * 5000):
        with pytest.raises(ImageError) as caught:
            PEImageConverter()(path)
        assert caught.value.reason == UNREADABLE


def test_a_side_is_limited_as_well_as_the_pixels():
    for size in ((1, 89_000_000), (89_000_000, 1)):
        with pytest.raises(ImageError, match="sides of at most") as caught:
            PEImageConverter()(png_header(*size))
        assert caught.value.reason == TOO_LARGE
    image = Image.new("L", (1, 65_536))
    with pytest.raises(ImageError, match="65,535"):
        PEImageConverter(8)(image)
    assert PEImageConverter(8, max_side=65_536)(image).shape == (1, 8, 8, 3)
    assert PEImageConverter(max_side=7).get_config()["max_side"] == 7
    with pytest.raises(ImageError, match="expected sides of at most 7"):
        PEImageConverter(max_side=7)(photo(size=(8, 2)))


def test_a_flipped_bit_in_the_pixels_of_a_png_is_an_error():
    # Pillow alone returns other pixels for one in seven of these.
    content = encoded(photo(), "PNG")
    start, end = content.index(b"IDAT"), content.index(b"IEND") - 8
    image = PEImageConverter((48, 64))
    for place in range(start + 4, end, 7):
        damaged = bytearray(content)
        damaged[place] ^= 4
        with pytest.raises(ImageError, match="checksum of the IDAT"):
            image(bytes(damaged))
    frames = [photo().rotate(90 * k) for k in range(3)]
    content = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    damaged = bytearray(content)
    damaged[content.index(b"fdAT") + 20] ^= 4
    with pytest.raises(ImageError, match="checksum of the fdAT"):
        image(bytes(damaged))
    cut = content[: content.index(b"IDAT") + 6]
    with pytest.raises(ImageError, match="damaged image"):
        image(cut)
