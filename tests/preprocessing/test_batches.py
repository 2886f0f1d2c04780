"""Batches of images: order, shapes, bookkeeping and bounded work."""

import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from keras_pe.preprocessing import ImageError, PEImageConverter, load_batches

sys.path.insert(0, str(Path(__file__).parent))
from image_corpus import photo

pytestmark = pytest.mark.once


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (12, 9, 3), "uint8") for _ in range(10)]


@pytest.mark.parametrize("num_threads", [None, 1, 5])
@pytest.mark.parametrize("batch_size", [1, 4, 10, 50])
def test_batches_hold_every_image_in_order(images, batch_size, num_threads):
    converter = PEImageConverter(8)
    batches = list(load_batches(images, converter, batch_size, num_threads=num_threads))
    assert [len(converted) for _, converted in batches[:-1]] == [batch_size] * (
        len(batches) - 1
    )
    indices = np.concatenate([indices for indices, _ in batches])
    assert indices.tolist() == list(range(10))
    converted = np.concatenate([converted for _, converted in batches])
    np.testing.assert_array_equal(converted, converter(images))


def test_skips_are_counted_and_batches_stay_full(images):
    images[2] = "missing.jpg"
    images[5] = b""
    images[6] = "missing too.jpg"
    batches = load_batches(images, PEImageConverter(8), 3, max_skipped_share=0.3)
    got = [indices.tolist() for indices, _ in batches]
    assert got == [[0, 1, 3], [4, 7, 8], [9]]
    report = batches.report
    assert (report.num_images, report.num_skipped) == (10, 3)
    assert report.by_reason == {"missing file": 2, "empty file": 1}
    assert report.names == ["missing.jpg", "images[5] (bytes)", "missing too.jpg"]
    assert str(report) == (
        "3 of 10 images skipped: 2 missing file (missing.jpg, missing too.jpg); "
        "1 empty file (images[5] (bytes))"
    )
    list(batches)  # a second pass starts a report of its own
    assert batches.report.num_skipped == 3


def test_too_many_skips_stop_the_run_early(images):
    broken = ["missing.jpg"] * 5 + images * 3
    batches = load_batches(broken, PEImageConverter(8), 4)
    with pytest.raises(ImageError, match=r"allows 3.*missing.jpg") as caught:
        list(batches)
    assert caught.value.reason == "too many images skipped"
    assert batches.report.num_images == 4


def test_raise_names_the_image(images):
    images[3] = "missing.jpg"
    with pytest.raises(ImageError) as caught:
        list(load_batches(images, PEImageConverter(8), 4, on_error="raise"))
    assert caught.value.name == "missing.jpg"


def test_nothing_to_load_and_nothing_left():
    converter = PEImageConverter(8)
    assert list(load_batches([], converter, 4)) == []
    only_bad = load_batches(["missing.jpg"], converter, 4, max_skipped_share=1)
    assert list(only_bad) == []
    assert only_bad.report.num_skipped == 1


def test_work_in_flight_is_bounded_and_stops_with_the_consumer():
    class Counting(PEImageConverter):
        started = running = most = 0
        lock = threading.Lock()

        def convert(self, image, name=None):
            with self.lock:
                self.started += 1
                self.running += 1
                self.most = max(self.most, self.running)
            try:
                return super().convert(image, name)
            finally:
                with self.lock:
                    self.running -= 1

    converter, before = Counting(8), set(threading.enumerate())
    batches = iter(load_batches([photo()] * 500, converter, 4, num_threads=3))
    next(batches)
    batches.close()
    assert converter.started <= 4 + 4 + 3
    assert converter.most <= 3
    new = set(threading.enumerate()) - before
    assert not any(thread.name.startswith("keras_pe") for thread in new)


def test_progress_is_shown(images, capsys):
    list(load_batches(images, PEImageConverter(8), 4, progress=True))
    assert "10/10" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"on_error": "ignore"}, "'skip' or 'raise'"),
        ({"max_skipped_share": 2}, "0 .none. to 1"),
        ({"num_threads": 0}, "at least 1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        load_batches([], PEImageConverter(8), **{"batch_size": 4, **arguments})
