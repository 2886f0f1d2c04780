"""Features on disk: what comes back, memory, errors, and what is left behind."""

import numpy as np
import psutil
import pytest

from keras_pe.probing.feature_store import TARGETS, FeatureStore, Samples

pytestmark = [pytest.mark.quick, pytest.mark.once]


def test_what_is_written_comes_back():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(10, 2, 3)).astype("float32")
    with FeatureStore() as store:
        store.append("a", rows[:4])
        np.testing.assert_array_equal(store.read("a", 1, 3), rows[1:3])
        store.append("a", rows[4:])
        assert store.count("a") == 10
        np.testing.assert_array_equal(store.read("a", 8, 99), rows[8:])
        for wanted in ([9, 0, 9], [5, 3, 4], [7]):
            np.testing.assert_array_equal(
                store.take("a", np.array(wanted)), rows[wanted]
            )
        store.append(TARGETS, np.arange(10))
        samples = Samples(store, "a", np.array([0, 3, 4, 9]))
        for size in (1, 3, 100):
            chunks = list(samples.chunks(size))
            np.testing.assert_array_equal(
                np.concatenate([f for f, _ in chunks]), rows[[0, 3, 4, 9]]
            )
            targets = np.concatenate([t for _, t in chunks])
            np.testing.assert_array_equal(targets, [0, 3, 4, 9])
            alone = np.concatenate(list(samples.targets(size)))
            np.testing.assert_array_equal(alone, targets)
        features, targets = samples.batch(np.array([2, 0]))
        np.testing.assert_array_equal(features, rows[[4, 0]])
        np.testing.assert_array_equal(targets, [4, 0])
        mixed = np.concatenate(list(samples.shuffled(3).targets()))
        assert sorted(mixed) == [0, 3, 4, 9]
        assert mixed.tolist() != [0, 3, 4, 9]


def test_a_chunk_is_read_in_pieces_and_a_cut_file_is_no_chunk(monkeypatch):
    monkeypatch.setattr("keras_pe.probing.feature_store.PIECE", 7)
    rows = np.arange(24, dtype="float32").reshape(8, 3)
    with FeatureStore() as store:
        store.append("a", rows)
        np.testing.assert_array_equal(store.read("a", 1, 8), rows[1:])
        assert store.read("a", 3, 3).shape == (0, 3)
        store._files["a"].truncate(50)
        with pytest.raises(OSError, match="shorter than what was written"):
            store.read("a", 0, 8)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_samples():
    process = psutil.Process()
    block = np.zeros((256, 4096), "float32")  # 4 MB
    with FeatureStore() as store:
        store.append("a", block)
        store.append(TARGETS, np.zeros(256, "int64"))
        before = process.memory_info().rss
        for _ in range(50):  # 200 MB
            store.append("a", block)
            store.append(TARGETS, np.zeros(256, "int64"))
        samples = Samples(store, "a", np.arange(0, store.count("a"), 2))
        total = sum(float(features.sum()) for features, _ in samples.chunks(256))
        assert process.memory_info().rss - before < 50e6
    assert total == 0


def test_other_shapes_are_refused_and_nothing_is_left(tmp_path):
    with FeatureStore() as store:
        directory = store.directory
        store.append("a", np.zeros((2, 3)))
        with pytest.raises(ValueError, match=r"Rows of 'a' are float64 \(3,\), got"):
            store.append("a", np.zeros((2, 4)))
    assert not directory.exists()
    kept = tmp_path / "kept"
    with FeatureStore(kept) as store:
        store.append("a", np.zeros((2, 3)))
    assert (kept / "a.bin").stat().st_size == 48
    with pytest.raises(ValueError, match="is not empty"):
        FeatureStore(kept)


def test_objects_are_no_rows():
    with FeatureStore() as store:
        for rows in (np.array([[1], [2, 3]], object), np.array([None, 1])):
            with pytest.raises(ValueError, match="Python objects"):
                store.append(TARGETS, rows)
