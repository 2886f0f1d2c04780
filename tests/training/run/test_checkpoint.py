"""Run checkpoints: whole or absent, whatever happens while they are written."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import keras
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

from keras_pe.presets.report import CheckpointError
from keras_pe.training.run.checkpoint import RunCheckpoints
from keras_pe.training.run.saved_tensors import STATE, VARIABLES
from tests.training.programs.saving import content, sound

pytestmark = pytest.mark.quick
PROGRAM = Path(__file__).parents[1] / "programs" / "saving.py"
KILLS = 20


def arrays(step=1):
    return {"w": np.full((3, 2), step, "float32"), "n": np.array(step, "int32")}


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments):
    process = start(*arguments)
    out, err = process.communicate()
    assert process.returncode == 0, err
    return json.loads(out)


# === What is kept ===
def test_every_dtype_and_shape_comes_back(tmp_path):
    rng = np.random.default_rng(0)
    dtypes = "float64 float32 float16 int64 int32 int16 int8 uint64 uint32 uint16 uint8"
    given = {
        f"{dtype}/{'x'.join(map(str, shape))}": np.array(
            rng.integers(0, 100, shape), dtype
        )
        for dtype in [*dtypes.split(), ml_dtypes.bfloat16, "bool"]
        for shape in ((), (3,), (2, 1, 3), (0, 4))
    }
    given["seed"] = np.array([2**32 - 1, 2**31], "uint32")
    given["nan"] = np.array([np.nan, np.inf, -0.0], ml_dtypes.bfloat16)
    given["strided"] = np.arange(24.0).reshape(4, 6)[::2, ::-1].T
    given["big endian"] = np.arange(3, dtype=">f4")
    checkpoints = RunCheckpoints(tmp_path)
    path = checkpoints.save(1, given)
    found, _ = checkpoints.load()
    assert set(found) == set(given)
    for name, array in given.items():
        native = array.astype(array.dtype.newbyteorder("="))
        assert found[name].dtype == native.dtype, name
        assert found[name].shape == array.shape, name
        assert found[name].tobytes() == native.tobytes(), name
    # Any tool that reads safetensors can read it.
    assert set(load_file(path / VARIABLES)) == set(given)


def test_numbers_and_tensors_of_the_backend(tmp_path):
    checkpoints = RunCheckpoints(tmp_path)
    variable = keras.Variable([1.5, 2.5], dtype="bfloat16", name="v")
    tensor = keras.ops.ones((2, 2), dtype="int32")
    checkpoints.save(1, {"variable": variable, "tensor": tensor, "number": 3.5})
    found, _ = checkpoints.load()
    assert found["variable"].dtype == ml_dtypes.bfloat16
    assert found["variable"].tolist() == [1.5, 2.5]
    assert found["tensor"].tolist() == [[1, 1], [1, 1]]
    assert found["number"].shape == ()
    assert found["number"] == 3.5


def test_state_comes_back_with_its_step(tmp_path):
    checkpoints = RunCheckpoints(tmp_path)
    state = {"seconds": 0.1 + 0.2, "stage": {"size": 64}, "text": "é\n", "none": None}
    checkpoints.save(7, arrays(), state)
    assert checkpoints.load()[1] == {"step": 7, **state}
    checkpoints.save(np.int64(8), arrays(), {"step": 8, "pair": (1, 2)})
    assert checkpoints.load()[1] == {"step": 8, "pair": [1, 2]}


def test_names_order_and_number_kept(tmp_path):
    checkpoints = RunCheckpoints(tmp_path / "deep" / "run", keep=2)
    assert checkpoints.latest() is None
    for step in (5, 40, 300):
        path = checkpoints.save(step, arrays(step))
        assert checkpoints.latest() == path
    names = sorted(path.name for path in checkpoints.directory.iterdir())
    assert names == ["step_000000040", "step_000000300"]
    assert checkpoints.load()[0]["n"] == 300
    assert checkpoints.load(checkpoints.directory / "step_000000040")[0]["n"] == 40
    # Beyond nine digits numbers still sort as numbers.
    checkpoints.save(10**10, arrays())
    assert checkpoints.latest().name == "step_10000000000"


def test_all_are_kept_if_asked(tmp_path):
    checkpoints = RunCheckpoints(tmp_path, keep=None)
    for step in range(6):
        checkpoints.save(step, arrays())
    assert len(list(tmp_path.iterdir())) == 6


def test_going_back_deletes_no_later_step(tmp_path):
    checkpoints = RunCheckpoints(tmp_path, keep=1)
    checkpoints.save(300, arrays(300))
    checkpoints.save(100, arrays(100))
    assert len(list(tmp_path.iterdir())) == 2
    checkpoints.save(200, arrays(200))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["step_000000200", "step_000000300"]


def test_same_step_is_replaced(tmp_path):
    checkpoints = RunCheckpoints(tmp_path)
    checkpoints.save(3, arrays(1))
    checkpoints.save(3, arrays(2))
    assert checkpoints.load()[0]["n"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["step_000000003"]


# === Damage ===
def truncate(path, _):
    os.truncate(path, path.stat().st_size - 1)


def flip(path, rng):
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def remove(path, _):
    path.unlink()


@pytest.mark.parametrize("damage", [truncate, flip, remove])
@pytest.mark.parametrize("name", [VARIABLES, STATE])
def test_a_damaged_newest_falls_back_and_is_named(tmp_path, damage, name):
    checkpoints = RunCheckpoints(tmp_path)
    for step in (1, 2, 3):
        checkpoints.save(step, arrays(step), {"text": "x" * 200})
    damage(tmp_path / "step_000000003" / name, random.Random(0))
    with pytest.warns(UserWarning, match="step_000000003"):
        found, state = checkpoints.load()
    assert state["step"] == 2
    assert found["n"] == 2
    with pytest.raises(CheckpointError, match="step_000000003"):
        checkpoints.load(tmp_path / "step_000000003")
    # The damaged one is replaced when training comes by again.
    checkpoints.save(3, arrays(3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert checkpoints.load()[1]["step"] == 3


@pytest.mark.once
@pytest.mark.slow
def test_every_cut_and_hundreds_of_flips_are_found(tmp_path):
    checkpoints = RunCheckpoints(tmp_path)
    checkpoints.save(1, {"w": np.arange(8, dtype="float32")}, {"text": "abc", "x": 1.5})
    path, rng = tmp_path / "step_000000001", random.Random(1)
    expected = checkpoints.load(path)
    for name in (VARIABLES, STATE):
        whole = (path / name).read_bytes()
        for length in range(len(whole)):
            (path / name).write_bytes(whole[:length])
            with pytest.raises(CheckpointError):
                checkpoints.load(path)
        for _ in range(500):
            (path / name).write_bytes(whole)
            flip(path / name, rng)
            try:
                found = checkpoints.load(path)
            except CheckpointError:
                continue
            # One space of the layout for another is no damage, in state.json alone.
            assert name == STATE
            assert found[1] == expected[1]
            np.testing.assert_array_equal(found[0]["w"], expected[0]["w"])
        (path / name).write_bytes(whole)


def test_none_sound_and_none_at_all(tmp_path):
    checkpoints = RunCheckpoints(tmp_path / "run")
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        checkpoints.load()
    for step in (1, 2):
        truncate(checkpoints.save(step, arrays()) / VARIABLES, None)
    with (
        pytest.warns(UserWarning, match="passed over"),
        pytest.raises(CheckpointError, match="2 are damaged"),
    ):
        checkpoints.load()


def test_a_newer_format_says_so(tmp_path):
    import hashlib

    checkpoints = RunCheckpoints(tmp_path)
    path = checkpoints.save(1, arrays()) / STATE
    newer = json.loads(path.read_text())
    newer.pop("sha256")
    newer["format"] = 2
    checksum = hashlib.sha256(json.dumps(newer).encode()).hexdigest()
    path.write_text(json.dumps({"sha256": checksum, **newer}))
    with pytest.raises(CheckpointError, match="Update keras_pe"):
        checkpoints.load(path.parent)


# === Kills ===
@pytest.mark.once
@pytest.mark.slow
def test_twenty_kills_at_random_instants(tmp_path):
    """Nothing that was reported as saved is ever lost, and what is there is whole."""
    rng = random.Random(0)
    saved, interrupted = -1, 0
    for _ in range(KILLS):
        process = start("loop", tmp_path, saved + 1)
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        for _ in range(rng.randrange(3)):
            saved = int(process.stdout.readline().split()[1])
        time.sleep(rng.uniform(0, 0.03))  # about the time of a save
        os.kill(process.pid, signal.SIGKILL)
        out, _ = process.communicate()
        # What it reported between the last line read and its end.
        saved = max([saved, *map(int, re.findall(r"saved (\d+)\n", out))])
        interrupted += any(p.name.startswith(".") for p in tmp_path.iterdir())
        checkpoints = RunCheckpoints(tmp_path, keep=2)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # such as for a fallback
            newest = checkpoints.latest()
            if newest is not None:
                found, state = checkpoints.load()
                assert sound(found, state)
                assert newest.name == f"step_{state['step']:09d}"
        assert (saved < 0) if newest is None else (state["step"] >= saved)
        assert not any(p.name.startswith(".") for p in tmp_path.iterdir())
    assert saved > 0
    assert interrupted > 0, "no kill hit a save: the test proves nothing"


@pytest.mark.once
def test_a_kill_at_every_file_operation(tmp_path):
    """With one checkpoint kept, a kill anywhere leaves the old one or the new one."""
    found = run("everywhere", tmp_path)
    for kind, versions in (("new", {0, 1}), ("replaced", {0, 1})):
        mine = [entry for entry in found if entry["kind"] == kind]
        assert len(mine) > 15
        assert all(entry["killed"] for entry in mine[:-1])
        assert not mine[-1]["killed"]
        # Kills before the rename leave the old one, kills after it the new one.
        assert {entry["state"]["version"] for entry in mine} == versions
    for entry in found:
        assert entry["sound"], entry
        assert not entry["hidden"], entry
        assert entry["left"] == ["step_000000009"], entry


def test_what_a_kill_left_is_removed_at_the_start(tmp_path):
    RunCheckpoints(tmp_path).save(1, arrays())
    for name in (".saving_abc", ".deleting_step_000000000"):
        (tmp_path / name).mkdir()
        (tmp_path / name / VARIABLES).write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("mine")
    RunCheckpoints(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["notes.txt", "step_000000001"]


def test_a_reader_leaves_a_save_in_progress_alone(tmp_path):
    """Whoever looks at a run while it saves must not clean up behind it."""
    if sys.platform == "win32":
        pytest.skip("no locks on Windows; there a reader never cleans up")
    import fcntl

    RunCheckpoints(tmp_path).save(1, arrays())
    (tmp_path / ".saving_abc").mkdir()
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)  # as a process that is saving
    reader = RunCheckpoints(tmp_path)
    assert reader.load()[1]["step"] == 1
    assert (tmp_path / ".saving_abc").exists()
    os.close(descriptor)
    RunCheckpoints(tmp_path)
    assert not (tmp_path / ".saving_abc").exists()


# === No space, no right ===
@pytest.mark.once
def test_a_full_disk_leaves_the_old_ones(tmp_path):
    full, after = run("no_space", tmp_path)
    assert "step_000000002 could not be written" in full["error"]
    assert "the newest is step_000000001" in full["error"]
    assert full["sound"]
    assert full["step"] == 1
    assert full["names"] == ["step_000000001"]
    assert after["error"] is None
    assert after["step"] == 3


@pytest.mark.once
def test_a_read_only_directory_leaves_the_old_ones():
    found = run("read_only")
    assert "could not be written" in found["error"]
    assert "ermission denied" in found["error"]
    assert found["sound"]
    assert found["step"] == 1
    assert found["names"] == ["step_000000001"]


def test_a_file_in_place_of_the_directory(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(CheckpointError, match="could not be written"):
        RunCheckpoints(tmp_path / "run").save(1, arrays())
    assert (tmp_path / "run").read_text() == "mine"


# === Nonsense ===
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda c: c.save(-1, arrays()), ValueError, "step=-1"),
        (lambda c: c.save(1.5, arrays()), ValueError, "step=1.5"),
        (lambda c: c.save(1, arrays(), {"step": 2}), ValueError, "says step 2"),
        (lambda c: c.save(1, arrays(), {"x": float("nan")}), ValueError, "JSON"),
        (lambda c: c.save(1, arrays(), {"x": object()}), ValueError, "JSON"),
        (lambda c: c.save(1, {"x": np.zeros(2, "complex64")}), ValueError, "complex64"),
        (lambda c: c.save(1, {"x": np.array(["a"])}), ValueError, "dtype str"),
        (lambda c: RunCheckpoints(c.directory, keep=0), ValueError, "keep=0"),
        (lambda c: c.load("nowhere"), CheckpointError, "nowhere"),
    ],
)
def test_nonsense_is_refused_and_leaves_nothing(tmp_path, call, error, message):
    checkpoints = RunCheckpoints(tmp_path)
    checkpoints.save(0, arrays())
    with pytest.raises(error, match=message):
        call(checkpoints)
    assert [path.name for path in tmp_path.iterdir()] == ["step_000000000"]


def test_arrays_of_the_program_are_what_they_seem():
    """The helper that the kill tests rely on can tell a mixture of two steps."""
    found, state = content(4, 100)
    assert sound(found, state)
    found["moments"] = content(5, 100)[0]["moments"]
    assert not sound(found, state)
