"""Training batches: pure functions of (seed, number), whole, and honest about skips."""

import pickle

import cloudpickle
import numpy as np
import pytest

from keras_pe import PETokenizer
from keras_pe.data import (
    CaptionReader,
    SampleError,
    SequentialOrder,
    ShuffledOrder,
    SkippedSample,
    SkippedSamples,
    TooManySkipped,
    TrainAugmentation,
    default_caption,
    image_text_dataset,
)
from keras_pe.preprocessing import image_errors
from tests.data.shards import (
    image_bytes,
    json_bytes,
    numbers,
    open_shards,
    same_batch,
    small_dataset,
)
from tests.preprocessing.image_corpus import write_corpus

pytestmark = [pytest.mark.quick, pytest.mark.once]


class Samples:
    """A source in memory."""

    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, number):
        return {"__key__": str(number), "__shard__": "memory"} | self.samples[number]


def test_a_batch_is_what_it_says(tmp_path):
    source = open_shards(tmp_path)
    dataset = image_text_dataset(
        source,
        ShuffledOrder(len(source), 4, seed=1),
        transform=TrainAugmentation(8, dtype="uint8"),
        tokenizer=PETokenizer(context_length=10),
        num_batches=3,
    )
    assert len(dataset) == 3
    batch = dataset[1]
    assert batch["images"].shape == (4, 8, 8, 3)
    assert batch["images"].dtype == np.uint8
    assert batch["skipped"] == ()
    captions = [f"image number {n}" for n in ShuffledOrder(20, 4, seed=1)[1]]
    np.testing.assert_array_equal(
        batch["token_ids"], PETokenizer(context_length=10)(captions)
    )
    assert batch["token_ids"].dtype == np.int32
    assert repr(source) in str(dataset)


def test_each_row_draws_from_its_own_generator(tmp_path):
    """As documented: anyone can make row 4 of batch 3 again."""
    source = open_shards(tmp_path)
    drawn = {}

    def transform(image, rng):
        drawn[len(drawn)] = rng.random(3).tolist()
        return np.zeros((1, 1, 3), "uint8")

    small_dataset(source, seed=9, transform=transform)[3]
    assert drawn[4] == np.random.default_rng([9, 3, 4]).random(3).tolist()
    assert len({tuple(row) for row in drawn.values()}) == 6


def test_a_pure_function_in_any_order_and_after_pickling(tmp_path):
    dataset = small_dataset(open_shards(tmp_path))
    expected = [dataset[i] for i in range(6)]
    assert all(same_batch(dataset[i], expected[i]) for i in (5, 0, 3))
    copy = pickle.loads(cloudpickle.dumps(dataset))
    assert same_batch(copy[4], expected[4])
    other = small_dataset(open_shards(tmp_path), seed=1)
    assert not same_batch(other[4], expected[4])


def test_an_epoch_misses_and_repeats_nothing(tmp_path):
    dataset = small_dataset(open_shards(tmp_path), batch_size=6)
    stream = [n for i in range(10) for n in numbers(dataset[i])]
    for epoch in range(3):
        assert sorted(stream[20 * epoch : 20 * epoch + 20]) == list(range(20))


@pytest.mark.parametrize("cut", [0, 1, 4, 7])
def test_resuming_is_slicing(tmp_path, cut):
    source = open_shards(tmp_path)
    dataset = small_dataset(source, num_batches=8)
    expected = [dataset[i] for i in range(8)]
    sliced = dataset[cut:]
    restarted = small_dataset(source, num_batches=8 - cut, first_batch=cut)
    for resumed in (sliced, restarted):
        assert len(resumed) == 8 - cut
        for i in range(8 - cut):
            assert same_batch(resumed[i], expected[cut + i])


@pytest.mark.parametrize("host_count", [1, 2, 3, 6])
def test_the_hosts_together_make_the_batch_of_one(tmp_path, host_count):
    source = open_shards(tmp_path, bad={3: "image", 11: "caption"})

    def extras(batch, rng):
        return {"mask": rng.random((6, 5)), "places": rng.integers(0, 99, 12)}

    whole = small_dataset(source, extras=extras)
    parts = [
        small_dataset(source, extras=extras, host_index=k, host_count=host_count)
        for k in range(host_count)
    ]
    skips = 0
    for number in range(8):
        expected = whole[number]
        found = [part[number] for part in parts]
        assert found[0]["images"].shape[0] == 6 // host_count
        for name in ("images", "token_ids", "mask", "places"):
            joined = np.concatenate([part[name] for part in found])
            np.testing.assert_array_equal(joined, expected[name])
        assert sum((part["skipped"] for part in found), ()) == expected["skipped"]
        skips += len(expected["skipped"])
    assert skips >= 4


def test_without_end_by_default(tmp_path):
    dataset = small_dataset(open_shards(tmp_path))
    assert len(dataset) > 10**15
    assert dataset[10**12]["images"].shape == (6, 4, 4, 3)


def test_an_order_of_ones_own(tmp_path):
    class EvenOnly:
        batch_size = 2

        def __getitem__(self, batch):
            return np.array([2 * batch, 2 * batch + 2])

    dataset = small_dataset(open_shards(tmp_path), order=EvenOnly())
    assert [numbers(dataset[i]) for i in range(3)] == [[0, 2], [2, 4], [4, 6]]
    EvenOnly.__getitem__ = lambda self, batch: np.array([1.0, 2.0])
    with pytest.raises(ValueError, match=r"expected integers \(2,\)"):
        dataset[0]


# Bad samples


def test_bad_samples_are_replaced_counted_and_named(tmp_path):
    source = open_shards(tmp_path, bad={3: "image", 11: "caption"})
    dataset = small_dataset(source, batch_size=5)
    skipped = []
    for i in range(4):  # one epoch
        batch = dataset[i]
        assert same_batch(batch, dataset[i])
        assert len(set(numbers(batch)) & {3, 11}) == 0
        assert batch["images"].shape == (5, 4, 4, 3)
        skipped += batch["skipped"]
    named = {bad.number: bad for bad in skipped}
    assert set(named) == {3, 11}
    assert named[3].key == "000003"
    assert named[3].shard.endswith("shard-000.tar")
    assert named[3].reason == image_errors.DAMAGED
    assert named[11].key == "000011"
    assert named[11].shard.endswith("shard-001.tar")
    assert named[11].reason == "no caption"
    # A good row is the same with and without bad samples in its batch.
    sound = tmp_path / "sound"
    sound.mkdir()
    clean = small_dataset(open_shards(sound), batch_size=5)
    for i in range(4):
        here, there = dataset[i], clean[i]
        same = [a == b for a, b in zip(numbers(here), numbers(there), strict=True)]
        np.testing.assert_array_equal(here["images"][same], there["images"][same])
        assert same.count(False) <= len(here["skipped"])


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
@pytest.mark.parametrize("decodes", [True, False])
def test_the_corpus_of_bad_images(tmp_path, decodes):
    """Every difficult file is either used or named with its reason."""
    corpus = {
        path: reason
        for path, reason in write_corpus(tmp_path).items()
        if reason != image_errors.MISSING
    }
    image = {"png": image_bytes(1), "txt": b"number 1"}
    names = [path.name for path in corpus]
    source = Samples(
        [{"jpg": path.read_bytes(), "txt": b"number 2"} for path in corpus]
        + [image] * 200
    )
    augment = TrainAugmentation(8, dtype="uint8")
    if not decodes:
        with_decoded = augment
        augment = lambda image, rng: with_decoded(image, rng)  # noqa: E731
    dataset = small_dataset(
        source, order=SequentialOrder(len(source), len(corpus)), transform=augment
    )
    found = {names[bad.number]: bad.reason for bad in dataset[0]["skipped"][::-1]}
    assert found == {
        path.name: reason for path, reason in corpus.items() if reason is not None
    }


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"txt": b"number 1"}, "no image"),
        ({"png": image_bytes(0)}, "no caption"),
        ({"png": image_bytes(0), "txt": b"\xff\xfe"}, "damaged caption"),
        ({"png": image_bytes(0), "json": b"{"}, "damaged caption"),
        ({"png": image_bytes(0), "json": b"[" * 100_000}, "damaged caption"),
        ({"png": image_bytes(0), "json": b"[1]"}, "no caption"),
        ({"png": image_bytes(0), "json": b'{"caption": 3}'}, "no caption"),
        ({"png": image_bytes(0), "json": b'{"captions": []}'}, "no caption"),
        ({"png": image_bytes(0), "json": b'{"captions": [null, " "]}'}, "no caption"),
        ({"png": image_bytes(0), "txt": b"\n", "json": b"{}"}, "no caption"),
        ({"png": image_bytes(0), "cls": b"3"}, "no caption"),
        ({"png": b"", "txt": b"number 1"}, image_errors.EMPTY),
    ],
)
def test_reasons(files, reason):
    good = {"png": image_bytes(0), "txt": b"number 1"}
    source = Samples([files, *[good] * 30])
    batch = small_dataset(source, order=SequentialOrder(31, 2))[0]
    assert [bad.reason for bad in batch["skipped"]] == [reason]
    assert batch["skipped"][0][:3] == (0, "0", "memory")


def test_captions():
    rng = np.random.default_rng
    assert default_caption({"txt": b" a \xc3\xa9t\xc3\xa9\n"}, rng(0)) == "a été"
    assert (
        default_caption({"json": json_bytes({"caption": "a cat"})}, rng(0)) == "a cat"
    )
    several = {"json": json_bytes({"captions": ["a", "b", "c"]})}
    drawn = [default_caption(several, rng(k)) for k in range(60)]
    assert set(drawn) == {"a", "b", "c"}
    assert drawn == [default_caption(several, rng(k)) for k in range(60)]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"json": b'{"caption": ["a cat", "a dog"]}'}, {"a cat", "a dog"}),
        ({"json": b'{"captions": ["a cat", null, "", 3]}'}, {"a cat"}),
        ({"json": b'{"captions": "a cat"}'}, {"a cat"}),
        ({"json": b'{"caption": null, "captions": ["a cat"]}'}, {"a cat"}),
        ({"json": b'{"caption": [], "text": "a cat"}'}, {"a cat"}),
        ({"json": b'{"text": "a cat"}'}, {"a cat"}),
        ({"json": b'{"TEXT": "a cat"}'}, {"a cat"}),
        ({"json": b'["a cat"]'}, {"a cat"}),
        ({"json": b'"a cat"'}, {"a cat"}),
        ({"json": b'\xef\xbb\xbf{"caption": "a cat"}'}, {"a cat"}),
        ({"txt": b"\xef\xbb\xbfa cat\r\n"}, {"a cat"}),
        ({"txt": b"", "json": b'{"caption": "a cat"}'}, {"a cat"}),
        ({"txt": b"a cat", "json": b"{"}, {"a cat"}),
        ({"caption": b"a cat", "json": b'{"title": "no"}'}, {"a cat"}),
    ],
)
def test_captions_as_they_are_written(files, expected):
    drawn = {default_caption(files, np.random.default_rng(k)) for k in range(40)}
    assert drawn == expected


def test_one_caption_leaves_the_generator_alone():
    # Runs of before lists were read would crop their images otherwise.
    rng = np.random.default_rng(0)
    default_caption({"json": b'{"caption": "a cat"}'}, rng)
    assert rng.random() == np.random.default_rng(0).random()


def test_a_caption_of_another_key():
    record = {"txt": b"no", "json": b'{"caption": "no", "Title": "a cat"}'}
    rng = np.random.default_rng(0)
    reader = pickle.loads(pickle.dumps(CaptionReader("title")))
    assert reader(record, rng) == "a cat"
    assert CaptionReader(("alt", "caption"))(record, rng) == "no"
    with pytest.raises(SampleError) as caught:
        CaptionReader("alt")(record, rng)
    assert caught.value.reason == "no caption"
    assert "its .json has ['Title', 'caption']" in caught.value.detail
    assert "--caption-key" in caught.value.detail
    for keys in ((), "", ("txt", " "), (3,)):
        with pytest.raises(ValueError, match="expected names"):
            CaptionReader(keys)


def test_captions_of_ones_own():
    source = Samples([{"png": image_bytes(n), "score": b"%d" % n} for n in range(20)])

    def captions(sample, rng):
        if sample["score"] == b"5":
            raise SampleError("low score", "It is 5.")
        return f"score {int(sample['score'])}"

    dataset = small_dataset(source, batch_size=10, captions=captions)
    reports = [bad for i in range(2) for bad in dataset[i]["skipped"]]
    assert {(bad.number, bad.reason, bad.detail) for bad in reports} == {
        (5, "low score", "It is 5.")
    }
    # A mistake in the function is no bad sample: it stops, and says where.
    broken = small_dataset(source, captions=lambda sample, rng: sample["caption"])
    with pytest.raises(KeyError) as caught:
        broken[4]
    first = ShuffledOrder(20, 6, 0)[4][0]
    assert f"In batch 4, row 0: sample {first}." in caught.value.__notes__[0]


def test_a_source_of_bad_samples_alone_is_an_error():
    source = Samples([{"png": b"nothing", "txt": b"number 1"}] * 8)
    with pytest.raises(SampleError, match="10 samples in a row were bad") as caught:
        small_dataset(source)[0]
    assert "in memory" in str(caught.value)


def test_extras():
    source = Samples([{"png": image_bytes(0), "txt": b"number 1"}] * 8)

    def extras(batch, rng):
        return {"mask": rng.random((6, 2)) < 0.5, "few": rng.random(2)}

    second = small_dataset(source, extras=extras, host_index=1, host_count=2)
    rng = np.random.default_rng([0, 5, 6])
    np.testing.assert_array_equal(second[5]["mask"], (rng.random((6, 2)) < 0.5)[3:])
    np.testing.assert_array_equal(second[5]["few"], rng.random(2)[1:])
    for array, says in ((np.zeros(3), r"shape \(3,\)"), (1.0, r"shape \(\)")):
        odd = small_dataset(
            source, extras=lambda i, rng, x=array: {"odd": x}, host_count=2
        )
        with pytest.raises(ValueError, match=says + ".*divide among 2 hosts"):
            odd[0]
    twice = small_dataset(source, extras=lambda batch, rng: {"images": np.zeros(6)})
    with pytest.raises(ValueError, match="'images', which the batch has already"):
        twice[0]


def test_impossible_datasets(tmp_path):
    source = open_shards(tmp_path)
    with pytest.raises(ValueError, match="20 samples, fewer than a batch of 21"):
        small_dataset(source, order=SequentialOrder(30, 21))
    with pytest.raises(ValueError, match=r"make it with num_samples=len\(source\)"):
        small_dataset(source, order=SequentialOrder(19, 6))
    for options in ({"host_count": 4}, {"host_index": 2, "host_count": 2}):
        with pytest.raises(ValueError, match="expected a batch that divides"):
            small_dataset(source, **options)
    for options in ({"num_batches": 0}, {"first_batch": -1}):
        with pytest.raises(ValueError, match="at least one batch"):
            small_dataset(source, **options)
    with pytest.raises(ValueError, match="max_bad_share"):
        small_dataset(source, max_bad_share=1.5)


# The count of skipped samples


def bad_sample(number, reason="no caption"):
    return SkippedSample(number, f"key{number}", "a.tar", reason, "It is empty.")


def test_too_many_bad_samples_stop_a_run(caplog):
    report = SkippedSamples(max_bad_share=0.02)
    report.add_batch(48, [bad_sample(1), bad_sample(2)])  # 4 %, but too few to judge
    with pytest.raises(TooManySkipped, match=r"3 of 101 samples skipped.*allows 2"):
        report.add_batch(50, [bad_sample(3, "damaged image")])
    assert report.by_reason == {"no caption": 2, "damaged image": 1}
    assert "key1 in a.tar" in str(report)
    assert next(record.getMessage() for record in caplog.records) == (
        "skipped key1 in a.tar: no caption. It is empty."
    )


def test_the_count_stays_small_however_long_the_run(caplog):
    report = SkippedSamples(max_bad_share=1)
    for start in range(0, 30_000, 100):
        report.add_batch(10, [bad_sample(n) for n in range(start, start + 100)])
    report.add_batch(10, [bad_sample(7)])  # the next epoch
    assert report.num_skipped == 30_001
    assert len(report.named) == 1000
    assert len(caplog.records) == 5
    assert len(str(report)) < 200
