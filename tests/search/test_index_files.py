"""Whatever happens to the bytes of an index, it is read as it was or refused."""

import hashlib
import json
import os
import random
import threading

import numpy as np
import pytest

from keras_pe.files import write_directory
from keras_pe.search.index_files import (
    IMAGES,
    INDEX,
    VECTORS,
    DamagedIndexError,
    read_index,
    write_index,
)

pytestmark = [pytest.mark.quick, pytest.mark.once]
PATHS = ["/a.png", "/caf\udce9.png", "/\n.png"]  # the second is no UTF-8
STAMPS = [(1, 2), (3, 4), (5, 6)]


def write(directory, seed=0, count=3):
    vectors = np.random.default_rng(seed).normal(size=(count, 4)).astype("float32")
    made_by = {"fingerprint": [1.0, 0.5], "preset": "cats"}
    with write_directory(directory) as aside:
        rows = [vectors[:1], vectors[1:]]
        write_index(aside, PATHS[:count], STAMPS[:count], rows, 4, made_by)
    return vectors


def same(found, vectors):
    return (
        found.paths == PATHS
        and found.stamps == STAMPS
        and np.array_equal(found.vectors, vectors)
        and found.made_by == {"fingerprint": [1.0, 0.5], "preset": "cats"}
    )


def test_it_is_read_as_it_was_written(tmp_path):
    vectors = write(tmp_path / "index")
    found = read_index(tmp_path / "index")
    assert same(found, vectors)
    assert isinstance(found.vectors, np.memmap)
    loaded = np.load(tmp_path / "index" / VECTORS)
    np.testing.assert_array_equal(loaded, vectors)


@pytest.mark.parametrize("name", [INDEX, IMAGES, VECTORS])
def test_flipped_bits_and_cuts_are_found(tmp_path, name):
    vectors = write(tmp_path / "index")
    path = tmp_path / "index" / name
    good = path.read_bytes()
    chance = random.Random(0)
    damaged = [good[:n] for n in range(0, len(good), 1 + len(good) // 30)]
    damaged += [good + b"x", b"[]", b"{}"]
    for _ in range(120):
        flipped = bytearray(good)
        flipped[chance.randrange(len(good))] ^= 1 << chance.randrange(8)
        damaged.append(bytes(flipped))
    refused = 0
    for data in damaged:
        path.write_bytes(data)
        try:
            assert same(read_index(tmp_path / "index"), vectors)  # white space
        except DamagedIndexError:
            refused += 1
    assert refused > 0.95 * len(damaged)


def test_a_missing_file_and_other_folders(tmp_path):
    with pytest.raises(DamagedIndexError, match="is no image index"):
        read_index(tmp_path / "none")
    with pytest.raises(DamagedIndexError, match="keras-pe index FOLDER"):
        read_index(tmp_path)
    for name in (IMAGES, VECTORS):
        write(tmp_path / "index")
        (tmp_path / "index" / name).unlink()
        with pytest.raises(DamagedIndexError, match="is damaged"):
            read_index(tmp_path / "index")


def test_the_format_without_checksums_is_refused(tmp_path):
    entries = {"format": 1, "count": 0, "fingerprint": [], "paths": []}
    (tmp_path / INDEX).write_text(json.dumps(entries))
    with pytest.raises(DamagedIndexError, match="of format 1, and this keras_pe reads"):
        read_index(tmp_path)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '|O', 'fortran_order': False, 'shape': (3, 4), }",
        "{'descr': '<f4', 'fortran_order': True, 'shape': (3, 4), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 400), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-3, -4), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (12,), }",
        "no header",
    ],
)
def test_forged_vectors_with_fitting_checksums_are_refused(tmp_path, header):
    write(tmp_path / "index")
    path = tmp_path / "index" / VECTORS
    text = header.encode().ljust(117) + b"\n"
    data = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(48)
    path.write_bytes(data)
    content = json.loads((tmp_path / "index" / INDEX).read_text())
    del content["sha256"]
    content["sha256_of_files"][VECTORS] = hashlib.sha256(data).hexdigest()
    checksum = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    content = {"sha256": checksum, **content}
    (tmp_path / "index" / INDEX).write_text(json.dumps(content))
    with pytest.raises(DamagedIndexError, match="is damaged"):
        read_index(tmp_path / "index")


def test_readers_see_one_index_while_it_is_replaced(tmp_path):
    vectors = write(tmp_path / "index"), write(tmp_path / "index", seed=1)
    done = threading.Event()

    def replace():
        for number in range(25):
            write(tmp_path / "index", seed=number % 2)
        done.set()

    writer = threading.Thread(target=replace)
    writer.start()
    count = 0
    while not done.is_set():
        found = read_index(tmp_path / "index")
        assert any(same(found, each) for each in vectors)
        count += 1
    writer.join()
    assert count > 4
    assert os.listdir(tmp_path) == ["index"]
