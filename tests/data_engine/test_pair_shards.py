"""Shards of pairs: equal bytes, and read by what reads training data."""

import json

import numpy as np
import pytest

from keras_pe import PEVideoConverter
from keras_pe.data import TarShards
from keras_pe.data_engine.clips import with_content
from keras_pe.data_engine.pair_shards import write_pair_shards
from tests.data_engine.parts import clip

pytestmark = [pytest.mark.quick, pytest.mark.once]


@pytest.fixture
def rows(tmp_path):
    found = []
    for number in range(5):
        path = clip(tmp_path / "clips" / f"a.b {number}.GIF", number)
        row = {"key": path.name, "path": str(path), "caption": f"owl {number}"}
        metadata = {"title": "An owl", "caption": "an older one", "video_id": "7"}
        more = {"metadata": metadata, "motion": 0.5, "embedding": [0.1, 0.2]}
        found.append(with_content({**row, **more}))
    return found


def output(tmp_path, name="output"):
    (tmp_path / name).mkdir(exist_ok=True)
    return tmp_path / name


def test_they_are_read_as_training_data_are(tmp_path, rows):
    paths = write_pair_shards(output(tmp_path), rows, shard_size=2)
    assert [path.name for path in paths] == [f"pairs-0000{n}.tar" for n in range(3)]
    shards = TarShards([str(path) for path in paths])
    assert len(shards) == 5
    converter = PEVideoConverter(image_size=8, num_frames=2)
    for number, row in enumerate(rows):
        sample = shards[number]
        said = json.loads(sample["json"])
        assert said == {
            "title": "An owl",
            "caption": f"owl {number}",
            "video_id": row["key"],
            "motion": 0.5,
            "content": row["content"],
        }
        assert sample["__key__"] == row["content"][:32]
        frames = converter.convert(sample["gif"])
        assert np.array_equal(frames, converter.convert(row["path"]))


def test_equal_rows_give_equal_bytes_and_the_old_ones_go(tmp_path, rows):
    first = write_pair_shards(output(tmp_path, "a"), rows, shard_size=2)
    write_pair_shards(output(tmp_path, "b"), rows, shard_size=1)
    second = write_pair_shards(output(tmp_path, "b"), rows, shard_size=2)
    assert len(list(output(tmp_path, "b").iterdir())) == 3
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes() == two.read_bytes()


def test_a_changed_or_missing_clip_leaves_the_shards_of_before(tmp_path, rows):
    (path,) = write_pair_shards(output(tmp_path), rows)
    before = path.read_bytes()
    clip(tmp_path / "clips" / "a.b 4.GIF", 9)
    with pytest.raises(ValueError, match=r"a.b 4.GIF has changed"):
        write_pair_shards(output(tmp_path), rows)
    (tmp_path / "clips" / "a.b 4.GIF").unlink()
    with pytest.raises(FileNotFoundError, match=r"a.b 4.GIF"):
        write_pair_shards(output(tmp_path), rows)
    assert path.read_bytes() == before


def test_names_that_are_no_text_are_kept(tmp_path, rows):
    odd = {**rows[0], "key": "\udcff\n.gif", "metadata": {"title": "half \ud800"}}
    (path,) = write_pair_shards(output(tmp_path), [odd])
    said = json.loads(TarShards([str(path)])[0]["json"])
    assert said["video_id"] == "\udcff\n.gif"
    assert said["title"] == "half \ud800"


@pytest.mark.parametrize(
    ("name", "ending"),
    [("clip", "mp4"), ("clip.json", "mp4"), ("a.GIF", "gif"), ("a.mp\n4", "mp4")],
)
def test_the_ending_is_one_that_readers_know(tmp_path, name, ending):
    (tmp_path / name).write_bytes(b"bytes")
    row = {"key": "a", "path": str(tmp_path / name), "caption": "owl"}
    (path,) = write_pair_shards(output(tmp_path), [with_content(row)])
    sample = TarShards([str(path)])[0]
    assert sample[ending] == b"bytes"
    assert json.loads(sample["json"])["caption"] == "owl"
