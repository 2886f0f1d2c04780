"""Tar shards: what is read, where from, and what is kept between runs."""

import json
import os
import pickle
import subprocess
import sys
import tarfile
import warnings
from concurrent.futures import ThreadPoolExecutor

import fsspec
import numpy as np
import pytest

from keras_pe.data import TarShardError, TarShards
from keras_pe.data import tar_index as tar_index_module
from keras_pe.data.shard_files import expand_paths
from keras_pe.data.tar_index import split_name
from tests.data.shards import open_shards, sample_members, tar_bytes, write_shards

pytestmark = [pytest.mark.quick, pytest.mark.once]


def expected_sample(number):
    (image, caption) = sample_members(number)
    return {"png": image[1], "txt": caption[1]}


def files_of(sample):
    return {name: value for name, value in sample.items() if name[:2] != "__"}


@pytest.fixture
def headers_read(monkeypatch):
    """Lists the shards whose headers were read."""
    read = []
    original = tar_index_module.build_index

    def counting(file, limit):
        read.append(os.path.basename(file.path))
        return original(file, limit)

    monkeypatch.setattr(tar_index_module, "build_index", counting)
    return read


def test_every_sample_of_every_shard(tmp_path):
    shards = open_shards(tmp_path)
    assert len(shards) == 20
    for number in range(20):
        sample = shards[number]
        assert sample["__key__"] == f"{number:06d}"
        shard = 0 if number < 7 else 1 if number < 12 else 2
        assert sample["__shard__"].endswith(f"shard-{shard:03d}.tar")
        assert files_of(sample) == expected_sample(number)
    assert files_of(shards[np.int64(3)]) == expected_sample(3)
    for outside in (-1, 20):
        with pytest.raises(IndexError, match="expected 0 to 19"):
            shards[outside]


@pytest.mark.parametrize(
    "file_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
)
def test_all_formats_with_long_and_foreign_names(tmp_path, file_format):
    long = "folder/" * 12 + "x" * 60
    names = {"plain": "a", "./dotted": "b"}
    if file_format != tarfile.USTAR_FORMAT:
        names |= {long: "c", "naïve/日本": "d", "y" * 300: "e"}
    members = [(f"{name}.TXT", text.encode()) for name, text in names.items()]
    path = tmp_path / "a.tar"
    path.write_bytes(tar_bytes(members, file_format))
    shards = TarShards(path)
    found = {
        shards[i]["__key__"]: shards[i]["txt"].decode() for i in range(len(shards))
    }
    assert found == {name.removeprefix("./"): text for name, text in names.items()}


def test_grouping_as_in_webdataset(tmp_path):
    members = [
        ("a/1.jpg", b"image"),
        ("a/2.jpg", b"other"),
        ("README", b"no sample"),
        ("a/._1.jpg", b"a Mac's shadow file"),
        ("a/1.seg.png", b"mask"),  # not beside its image
        ("a/2.txt", b""),
    ]
    (tmp_path / "a.tar").write_bytes(tar_bytes(members))
    shards = TarShards(tmp_path / "a.tar")
    assert [files_of(shards[i]) for i in range(len(shards))] == [
        {"jpg": b"image", "seg.png": b"mask"},
        {"jpg": b"other", "txt": b""},
    ]
    only = TarShards(tmp_path / "a.tar", extensions=["txt", "seg.png"])
    assert [files_of(only[i]) for i in range(2)] == [{"seg.png": b"mask"}, {"txt": b""}]
    with pytest.raises(ValueError, match=r"no sample has \['gif'\]"):
        TarShards(tmp_path / "a.tar", extensions=["gif"])
    assert split_name("a.b/c.D.e") == ("a.b/c", "d.e")


def test_far_apart_files_are_read_one_by_one(tmp_path):
    members = [("1.jpg", b"first"), ("2.bin", bytes(300_000)), ("1.txt", b"last")]
    (tmp_path / "a.tar").write_bytes(tar_bytes(members))
    assert files_of(TarShards(tmp_path / "a.tar")[0]) == {
        "jpg": b"first",
        "txt": b"last",
    }


def test_pickle_threads_and_short_repr(tmp_path):
    shards = open_shards(tmp_path)
    copy = pickle.loads(pickle.dumps(shards))
    assert repr(copy) == repr(shards) == repr(TarShards(shards.paths))
    assert len(repr(shards)) < 80
    # The copy carries no index, only where to find it.
    assert len(pickle.dumps(shards)) < 2000
    with ThreadPoolExecutor(4) as pool:
        for number, sample in enumerate(pool.map(copy.__getitem__, [*range(20)] * 5)):
            assert files_of(sample) == expected_sample(number % 20)
    assert copy.describe(8) == f"000008 in {shards.paths[1]}"


FORKED = """
import os, sys
from tests.data.test_tar_shards import TarShards, expected_sample, files_of
shards = TarShards(sys.argv[1])
first = files_of(shards[3]) == expected_sample(3)
if not (child := os.fork()):
    right = all(files_of(shards[i]) == expected_sample(i) for i in range(20))
    os._exit(0 if right else 1)
print(first, os.waitpid(child, 0)[1], files_of(shards[3]) == expected_sample(3))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_reads_the_same(tmp_path):
    # In a process of its own: this one has a backend's threads, and may hang by a fork.
    done = subprocess.run(
        [sys.executable, "-c", FORKED, write_shards(tmp_path)],
        env={**os.environ, "KERAS_BACKEND": "numpy"},  # loads in half the time
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "True 0 True\n"


def test_more_shards_than_may_be_open(tmp_path, monkeypatch):
    monkeypatch.setattr("keras_pe.data.tar_shards.MAX_OPEN_SHARDS", 1)
    shards = open_shards(tmp_path)
    for number in (0, 19, 8, 0):
        assert files_of(shards[number]) == expected_sample(number)
    assert len(shards._files) == 1


def test_patterns(tmp_path):
    write_shards(tmp_path)
    by_braces = expand_paths(str(tmp_path / "shard-{000..002}.tar"))
    assert [os.path.basename(path) for path in by_braces] == [
        "shard-000.tar",
        "shard-001.tar",
        "shard-002.tar",
    ]
    assert expand_paths(str(tmp_path / "shard-*.tar")) == by_braces
    assert expand_paths([str(tmp_path / "shard-{002,000}.tar")]) == by_braces[::-2]
    assert expand_paths("s3://b/{9..11}{x,y}.tar")[:3] == [
        "s3://b/9x.tar",
        "s3://b/9y.tar",
        "s3://b/10x.tar",
    ]
    odd = tmp_path / "a[1].tar"  # a file of this very name is no pattern
    odd.write_bytes(b"")
    assert expand_paths(odd) == [str(odd)]
    with pytest.raises(FileNotFoundError, match="No file matches"):
        expand_paths(str(tmp_path / "other-*.tar"))
    with pytest.raises(ValueError, match="listed twice"):
        expand_paths([by_braces[0], str(tmp_path / "shard-*.tar")])
    with pytest.raises(ValueError, match="at least one path"):
        expand_paths([])
    with pytest.raises(ValueError, match="counts down"):
        expand_paths("a-{3..1}.tar")
    with pytest.raises(FileNotFoundError):
        TarShards(tmp_path / "missing.tar")


def test_a_folder_stands_for_its_shards(tmp_path):
    write_shards(tmp_path)
    (tmp_path / ".shard-009.tar").write_bytes(b"")
    (tmp_path / "notes.txt").write_bytes(b"")
    assert expand_paths(tmp_path) == expand_paths(str(tmp_path / "shard-*.tar"))
    assert len(TarShards(tmp_path)) == 20
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"holds no shard \(nothing\)"):
        expand_paths(tmp_path / "empty")
    (tmp_path / "empty" / "a.tar.gz").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"1 \.gz.*have to be unpacked"):
        expand_paths(tmp_path / "empty")


def named_members(*names):
    return tar_bytes([(name, name.encode()) for name in names])


def test_further_dots_in_names_are_warned_of_once(tmp_path):
    members = [f"img.v2.{n}.{end}" for n in range(4) for end in ("png", "txt")]
    for shard in range(3):
        (tmp_path / f"{shard}.tar").write_bytes(named_members(*members))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        shards = TarShards(tmp_path)
    assert len(shards) == 3
    (warning,) = [w for w in caught if w.category is UserWarning]
    said = str(warning.message)
    assert said.startswith(f"{tmp_path / '0.tar'}: its 8 files make 1 samples")
    assert "`img.v2.0.png`. A sample's key ends at the first dot" in said


@pytest.mark.parametrize(
    ("names", "warns"),
    [
        (["1.png", "1.txt", "1.v2.png", "1.v2.txt"], True),
        (["a.b.png", "a.b.txt"], True),
        (["1.jpg", "1.json", "1.seg.png"], False),
        (["1.000.jpg", "1.001.jpg", "1.json"], False),
        (["1.jpg", "1.txt", "2.en.txt", "2.jpg"], False),
    ],
)
def test_which_further_dots_are_warned_of(tmp_path, names, warns):
    (tmp_path / "a.tar").write_bytes(named_members(*names))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        TarShards(tmp_path / "a.tar")
    assert [w.category for w in caught].count(UserWarning) == int(warns)


def digest_of(folder, content, **options):
    (folder / "a.tar").write_bytes(content)
    return TarShards(folder / "a.tar", **options).digest


def test_a_digest_tells_other_content_of_the_same_names(tmp_path):
    members = [(f"{n:03d}.{end}", bytes([n]) * 3000) for n in range(40) for end in "ab"]
    said = digest_of(tmp_path, tar_bytes(members))
    assert TarShards(tmp_path / "a.tar").digest == said  # from the stored index
    assert digest_of(tmp_path, tar_bytes(members), cache_index=False) == said
    # Written again, in another format: the same content.
    assert digest_of(tmp_path, tar_bytes(members, tarfile.PAX_FORMAT)) == said
    (tmp_path / "copy").mkdir()
    assert digest_of(tmp_path / "copy", tar_bytes(members)) == said
    others = [
        [(name, bytes([9]) + data[1:-1] + bytes([9])) for name, data in members],
        [*members[:-1], ("039.b", members[-1][1] + b"x")],
        [*members[:-1], ("040.b", members[-1][1])],
        [*members[:-1], ("039.c", members[-1][1])],
        [members[2], members[3], members[0], members[1], *members[4:]],
        members[:-1],
    ]
    digests = {digest_of(tmp_path, tar_bytes(other)) for other in others}
    assert said not in digests
    assert len(digests) == len(others)


def test_a_digest_depends_on_the_order_of_shards(tmp_path):
    shards = open_shards(tmp_path)
    assert TarShards(shards.paths[::-1]).digest != shards.digest
    assert pickle.loads(pickle.dumps(shards)).digest == shards.digest


def test_the_index_is_kept_and_used(tmp_path, headers_read):
    shards = open_shards(tmp_path)
    assert sorted(headers_read) == ["shard-000.tar", "shard-001.tar", "shard-002.tar"]
    headers_read.clear()
    again = TarShards(shards.paths)
    copy = pickle.loads(pickle.dumps(again))
    assert files_of(copy[13]) == files_of(again[13]) == expected_sample(13)
    assert headers_read == []


def test_the_index_of_another_file_is_not_used(tmp_path, headers_read):
    shards = open_shards(tmp_path)
    path = tmp_path / "shard-001.tar"
    path.write_bytes(tar_bytes(sample_members(99)))
    headers_read.clear()
    again = TarShards(shards.paths)
    assert headers_read == ["shard-001.tar"]
    assert files_of(again[7]) == expected_sample(99)
    # The same length, another time: the content may differ.
    headers_read.clear()
    os.utime(path, ns=(1, 1))
    TarShards(shards.paths)
    assert headers_read == ["shard-001.tar"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda index: index[: len(index) // 2],
        lambda index: b"",
        lambda index: b"[1, 2]",
        lambda index: b'"' + b"[" * 100_000,
        *(
            lambda index, change=change: json.dumps(json.loads(index) | change)
            for change in (
                {"sizes": [1 << 40] * 14},
                {"sizes": [1] * 13},
                {"offsets": [-2] * 14},
                {"offsets": [1 << 70] * 14},
                {"counts": [2] * 8},
                {"counts": [3, 1] + [2] * 5},
                {"counts": [-2] * 7},
                {"columns": [0] * 14},
                {"columns": [0, 2] * 7},
                {"columns": [1 << 20] * 14},
                {"digest": None},
                {"format": "keras_pe tar index 1"},
            )
        ),
        lambda index: json.dumps(json.loads(index) | {"keys": ["same"] * 7}),
        lambda index: json.dumps(json.loads(index) | {"keys": 3}),
        lambda index: json.dumps(json.loads(index) | {"extensions": [1, 2]}),
    ],
)
def test_a_damaged_index_is_made_again(tmp_path, headers_read, damage):
    shards = open_shards(tmp_path)
    index = tmp_path / "shard-000.tar.index.json"
    damaged = damage(index.read_bytes())
    if isinstance(damaged, str):  # by somebody who knows of the checksum
        content = json.loads(damaged)
        del content["checksum"]
        body = json.dumps(content).encode()[1:]
        damaged = tar_index_module._HEAD % tar_index_module._checksum(body) + body
    index.write_bytes(damaged)
    headers_read.clear()
    assert files_of(TarShards(shards.paths)[2]) == expected_sample(2)
    assert headers_read == ["shard-000.tar"]


def test_a_digit_that_changed_in_an_index_is_noticed(tmp_path, headers_read):
    shards = open_shards(tmp_path)
    index = tmp_path / "shard-000.tar.index.json"
    content = index.read_bytes()
    offset = json.loads(content)["offsets"][2]
    index.write_bytes(content.replace(b",%d," % offset, b",%d," % (offset + 1)))
    assert index.read_bytes() != content
    headers_read.clear()
    assert files_of(TarShards(shards.paths)[1]) == expected_sample(1)
    assert headers_read == ["shard-000.tar"]
    index.write_bytes(content)
    headers_read.clear()
    TarShards(shards.paths)
    assert headers_read == []


def test_goes_on_without_an_index_where_none_can_be_written(
    tmp_path, monkeypatch, headers_read
):
    pattern = write_shards(tmp_path)
    shards = TarShards(pattern, cache_index=False)
    assert not list(tmp_path.glob("*.json"))
    assert files_of(pickle.loads(pickle.dumps(shards))[9]) == expected_sample(9)
    # A folder where the index would be cannot be replaced by it, even by root.
    for path in shards.paths:
        os.mkdir(path + ".index.json")
    headers_read.clear()
    assert files_of(TarShards(pattern)[9]) == expected_sample(9)
    assert len(headers_read) == 3
    assert not list(tmp_path.glob(".*"))  # nothing half-written is left


def test_a_shard_that_changes_while_in_use(tmp_path):
    shards = open_shards(tmp_path)
    (tmp_path / "shard-000.tar").write_bytes(tar_bytes(sample_members(99)))
    with pytest.raises(TarShardError, match=r"shard-000\.tar.*changed while in use"):
        pickle.loads(pickle.dumps(shards))[0]
    # Cut short under an open file: no wrong bytes.
    assert shards[19]
    os.truncate(tmp_path / "shard-002.tar", 1000)
    with pytest.raises(TarShardError, match=r"shard-002\.tar.*cut short"):
        shards[19]


def test_urls(tmp_path, headers_read):
    write_shards(tmp_path)
    memory = fsspec.filesystem("memory")
    for path in sorted(tmp_path.glob("*.tar")):
        memory.pipe(f"/shards/{path.name}", path.read_bytes())
    try:
        shards = TarShards("memory://shards/shard-{000..002}.tar")
        assert [files_of(shards[i]) for i in (0, 7, 19)] == [
            expected_sample(i) for i in (0, 7, 19)
        ]
        assert memory.exists("/shards/shard-000.tar.index.json")
        headers_read.clear()
        again = TarShards("memory://shards/shard-*.tar")
        assert files_of(again[12]) == expected_sample(12)
        assert headers_read == []
        memory.pipe("/shards/shard-000.tar", tar_bytes(sample_members(50)))
        changed = TarShards("memory://shards/shard-*.tar")
        assert headers_read == ["shard-000.tar"]
        assert files_of(changed[0]) == expected_sample(50)
        memory.pipe("/shards/cut.tar", tar_bytes(sample_members(1))[:1300])
        with pytest.raises(TarShardError, match=r"memory://shards/cut\.tar, byte"):
            TarShards("memory://shards/cut.tar")
        with pytest.raises(FileNotFoundError):
            TarShards("memory://shards/missing.tar")
    finally:
        memory.rm("/shards", recursive=True)
