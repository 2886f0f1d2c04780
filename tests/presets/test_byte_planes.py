"""Weights whose bytes are stored by plane: the same numbers, and nothing beyond."""

import shutil

import h5py
import ml_dtypes
import numpy as np
import pytest

import keras_pe
from keras_pe.presets import CheckpointError, assign, tensor_reader
from keras_pe.presets.preset_weights import H5File
from keras_pe.presets.save import save_preset
from projects.emoji.byte_planes import write_by_planes
from tests.presets import tiny
from tests.presets.preset_files import resign

pytestmark = pytest.mark.quick
KERNEL = "layers/pe_vision_encoder/layers/patch_embedding/projection/vars/0"


def by_planes(preset):
    """Stores the weights of a preset by plane; returns the file."""
    path = preset / "model.weights.h5"
    shutil.move(path, preset / "plain.h5")
    write_by_planes(preset / "plain.h5", path)
    (preset / "plain.h5").unlink()
    resign(preset)
    return path


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_preset_by_planes_has_the_same_weights(model, tmp_path, dtype):
    save_preset(model, tmp_path / "a", dtype=dtype)
    expected = tiny.values(keras_pe.PECore.from_preset(tmp_path / "a"))
    path = by_planes(tmp_path / "a")
    with h5py.File(path) as file:
        kernel = file[KERNEL]
        assert kernel.chunks == kernel.shape
        assert (kernel.shuffle, kernel.compression) == (True, None)
        assert kernel.id.get_chunk_info(0).size == kernel.nbytes
    found = keras_pe.PECore.from_preset(tmp_path / "a")
    assert tiny.equal(tiny.values(found), expected)


def test_keras_reads_it_too(preset, model):
    twin = type(model).from_config(model.get_config())
    assert not tiny.equal(tiny.values(twin), tiny.values(model))
    twin.load_weights(by_planes(preset))
    assert tiny.equal(tiny.values(twin), tiny.values(model))


def test_large_weights_come_in_blocks(preset, model, monkeypatch):
    by_planes(preset)
    monkeypatch.setattr(assign, "BLOCK", 1000)
    monkeypatch.setattr(tensor_reader, "PIECE", 70)
    found = keras_pe.PECore.from_preset(preset)
    assert tiny.equal(tiny.values(found), tiny.values(model))


# === Reading ===
SHAPES = [(1,), (300,), (7, 3), (40, 5, 6), (2, 257)]


@pytest.mark.once
@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
@pytest.mark.parametrize("piece", [1, 16, 2**18])
def test_rows_are_those_that_hdf5_gives(tmp_path, monkeypatch, kind, piece):
    monkeypatch.setattr(tensor_reader, "PIECE", piece)
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape).astype(kind) for shape in SHAPES]
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        for number, array in enumerate(arrays):
            file[f"group/{number}"] = array
        file["group/scalar"] = np.array(2.5, kind)
    write_by_planes(tmp_path / "plain.h5", tmp_path / "planes.h5")
    with H5File(tmp_path / "planes.h5") as file:
        assert file.read("group/scalar") == 2.5
        for number, array in enumerate(arrays):
            name = f"group/{number}"
            whole = file.read(name)
            assert whole.dtype == array.dtype
            np.testing.assert_array_equal(whole, array)
            for start in {0, 1, len(array) // 2, len(array) - 1} - {len(array)}:
                for stop in {start + 1, len(array)}:
                    part = file.read(name, slice(start, stop))
                    np.testing.assert_array_equal(part, array[start:stop])


@pytest.mark.once
def test_no_more_is_read_than_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(tensor_reader, "PIECE", 64)
    reads = []
    fill = H5File._fill
    monkeypatch.setattr(
        H5File,
        "_fill",
        lambda self, name, start, target: (
            reads.append(target.nbytes),
            fill(self, name, start, target),
        ),
    )
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.arange(1000, dtype="float32").reshape(100, 10)
    write_by_planes(tmp_path / "a.h5", tmp_path / "b.h5")
    with H5File(tmp_path / "b.h5") as file:
        file.read("x", slice(20, 50))
    assert sum(reads) == 30 * 10 * 4
    assert max(reads) == 64  # of scratch memory, whatever the size of the weight


# === All else stays refused ===
def planes(file, value, **more):
    return file.create_dataset(
        KERNEL, data=value, **{"chunks": value.shape, "shuffle": True, **more}
    )


def gzip(file, value):
    planes(file, value, compression="gzip")


def gzip_alone(file, value):
    planes(file, value, compression="gzip", shuffle=False)


def lzf(file, value):
    planes(file, value, compression="lzf")


def checksum(file, value):
    planes(file, value, fletcher32=True)


def checksum_alone(file, value):
    planes(file, value, fletcher32=True, shuffle=False)


def no_filter(file, value):
    planes(file, value, shuffle=False)


def many_chunks(file, value):
    planes(file, value, chunks=(value.shape[0] // 2, *value.shape[1:]))


def edge_chunk(file, value):
    planes(file, value, chunks=(value.shape[0] - 1, *value.shape[1:]))


def larger_chunk(file, value):
    larger = (value.shape[0] + 1, *value.shape[1:])
    planes(file, value, chunks=larger, maxshape=larger)


def may_grow(file, value):
    planes(file, value, maxshape=(None, *value.shape[1:]))


def never_written(file, value):
    file.create_dataset(
        KERNEL, value.shape, value.dtype, chunks=value.shape, shuffle=True
    )


def stored(file, value, content, mask=0):
    """Writes a chunk as it is said to be stored."""
    never_written(file, value)
    file[KERNEL].id.write_direct_chunk((0,) * value.ndim, content, mask)


def shorter(file, value):
    stored(file, value, value.tobytes()[:-4])


def longer(file, value):
    stored(file, value, value.tobytes() + bytes(4))


def filter_passed_over(file, value):
    stored(file, value, value.tobytes(), mask=1)


def looks_like_planes(file, value):
    """Another filter, of the same argument (4) and as many bytes."""
    planes_of(file, value, lambda plan: plan.set_deflate(value.itemsize))


def sorted_twice(file, value):
    planes_of(file, value, lambda plan: (plan.set_shuffle(), plan.set_shuffle()))


def planes_of(file, value, set_filters):
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk(value.shape)
    set_filters(plan)
    space = h5py.h5s.create_simple(value.shape)
    kind = h5py.h5t.py_create(value.dtype)
    made = h5py.h5d.create(file.id, KERNEL.encode(), kind, space, plan)
    made.write_direct_chunk((0,) * value.ndim, value.tobytes(), 0)


def bfloat16(file, value):
    opaque = value.astype(ml_dtypes.bfloat16).view("V2")
    planes(file, opaque)
    file[KERNEL].attrs["dtype"] = "bfloat16"


def big_endian(file, value):
    planes(file, value.astype(">f4"))


def integers(file, value):
    planes(file, value.astype("int32"))


@pytest.mark.once
@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize(
    "edit",
    [
        *(gzip, gzip_alone, lzf, checksum, checksum_alone, no_filter, many_chunks),
        *(edge_chunk, larger_chunk, may_grow, never_written, shorter, longer),
        *(filter_passed_over, looks_like_planes, sorted_twice, bfloat16, big_endian),
        integers,
    ],
    ids=lambda edit: edit.__name__,
)
def test_any_other_way_of_storing_is_refused(preset, edit, libver):
    path = by_planes(preset)
    with h5py.File(path, "a", libver=libver) as file:
        value = file[KERNEL][()]
        del file[KERNEL]
        edit(file, value)
    resign(preset)
    with pytest.raises(CheckpointError, match=f"{KERNEL} of .* pieces or compressed"):
        keras_pe.PECore.from_preset(preset)


@pytest.mark.once
def test_a_user_block_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=512) as file:
        value = np.ones((4, 4), "float32")
        file.create_dataset("x", data=value, chunks=value.shape, shuffle=True)
    with pytest.raises(CheckpointError, match=r"x of a\.h5 is stored in pieces"):
        H5File(tmp_path / "a.h5")


@pytest.mark.once
def test_ones_own_presets_are_plain(preset):
    with h5py.File(preset / "model.weights.h5") as file:
        assert file[KERNEL].chunks is None


@pytest.mark.once
def test_a_chunk_behind_the_end_is_refused(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        value = np.ones((4, 4), "float32")
        file.create_dataset("x", data=value, chunks=value.shape, shuffle=True)
    monkeypatch.setattr(
        "keras_pe.presets.preset_weights._start_of_planes",
        lambda dataset: (tmp_path / "a.h5").stat().st_size - 63,
    )
    with pytest.raises(CheckpointError, match="ends behind the end of the file"):
        H5File(tmp_path / "a.h5")
