"""ArrayRecord files as a source."""

import pickle

import pytest

from keras_pe.data import ArrayRecordError, ArrayRecordShards, write_array_record
from keras_pe.data.array_record_shards import pack_sample, unpack_sample
from tests.data.shards import open_shards, same_batch, small_dataset

pytest.importorskip("array_record", reason="array_record is not installed")
pytestmark = [pytest.mark.quick, pytest.mark.once]


@pytest.fixture
def both(tmp_path):
    """The same samples in tar shards and in ArrayRecord files."""
    tars = open_shards(tmp_path)
    for path in tars.paths:
        write_array_record(path.replace(".tar", ".arrayrecord"), type(tars)(path))
    return tars, ArrayRecordShards(str(tmp_path / "shard-*.arrayrecord"))


def test_holds_what_the_tars_hold(both):
    tars, records = both
    assert len(records) == len(tars) == 20
    for number in range(20):
        expected = tars[number]
        found = records[number]
        assert found.pop("__shard__") == expected.pop("__shard__").replace(
            ".tar", ".arrayrecord"
        )
        assert found == expected
    with pytest.raises(IndexError, match="expected 0 to 19"):
        records[20]
    assert "record 1 in" in records.describe(8)


def test_pickle_and_short_repr(both):
    _, records = both
    copy = pickle.loads(pickle.dumps(records))
    assert copy[11] == records[11]
    assert repr(copy) == repr(records)
    assert len(repr(records)) < 80


def test_gives_the_same_batches(both):
    first, second = (small_dataset(source)[2] for source in both)
    assert same_batch(first, second)


@pytest.mark.parametrize("damage", ["missing", "empty", "garbage", "half", "flipped"])
def test_damaged_files_are_refused(tmp_path, both, damage):
    path = tmp_path / "shard-000.arrayrecord"
    content = path.read_bytes()
    # The library itself takes an unreadable file for one without records.
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(
            {
                "empty": b"",
                "garbage": bytes(range(256)) * 400,
                "half": content[: len(content) // 2],
                "flipped": content[:700] + bytes(64) + content[764:],
            }[damage]
        )
    with pytest.raises(ArrayRecordError, match=r"shard-000\.arrayrecord"):
        [ArrayRecordShards(path)[number] for number in range(7)]


def test_a_failed_write_leaves_nothing(tmp_path):
    samples = [{"__key__": "1", "txt": b"a"}, {"__key__": "2", "txt": "no bytes"}]
    with pytest.raises(ValueError, match="'txt' of sample '2' is a str"):
        write_array_record(tmp_path / "a.arrayrecord", samples)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"KPE1",
        b"KPE2" + pack_sample({"__key__": "1"})[4:],
        pack_sample({"__key__": "1", "txt": b"abc"})[:-1],
        pack_sample({"__key__": "1", "txt": b"abc"}) + b"x",
        b"KPE1\x02\0\0\0[]",
        b"KPE1\xff\xff\xff\xff{}",
        pack_sample({"__key__": "1", "txt": b"abc"}).replace(b'"txt"', b'"__a"'),
        pack_sample({"__key__": "1", "txt": b"a"}).replace(b"1]]", b"-1]"),
    ],
)
def test_foreign_records_are_refused(record):
    with pytest.raises(ArrayRecordError, match="No sample"):
        unpack_sample(record)


def test_a_digest_tells_other_content_of_the_same_names(tmp_path):
    path = tmp_path / "a.arrayrecord"

    def digest_of(samples):
        write_array_record(path, samples)
        return ArrayRecordShards(path).digest

    samples = [{"__key__": str(n), "txt": b"%03d" % n * 100} for n in range(50)]
    said = digest_of(samples)
    assert digest_of(samples) == said
    assert digest_of([{**sample, "txt": b"x" * 300} for sample in samples]) != said
    assert digest_of(samples[::-1]) != said
    assert digest_of(samples[1:]) != said
