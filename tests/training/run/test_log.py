"""What a run leaves to read: rows once each, whatever stopped it, and events."""

import csv

import keras
import numpy as np
import pytest

from keras_pe.training.optimizers.gradient_watch import watched
from keras_pe.training.optimizers.schedules import WarmupLinear
from keras_pe.training.resolution import PlannedStage
from keras_pe.training.run.log import EventFile, RunLog, Table, learning_rate

pytestmark = pytest.mark.quick


def rows(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


# === Tables ===
def table(path, first_step=0, last_step=0, columns=("step", "loss")):
    """Adds rows up to a step."""
    found = Table(path, columns, first_step)
    for step in range(first_step + 1, last_step + 1):
        found.add({"step": step, "loss": step / 2, "unknown": 1})
    found.sync()
    found.close()


def test_a_resumed_table_holds_every_step_once(tmp_path):
    path = tmp_path / "steps.csv"
    table(path, 0, 7)
    table(path, 4, 9)
    table(path, 9, 10)
    assert [int(row["step"]) for row in rows(path)] == list(range(1, 11))
    assert [float(row["loss"]) for row in rows(path)] == [s / 2 for s in range(1, 11)]
    assert [p.name for p in tmp_path.iterdir()] == ["steps.csv"]


@pytest.mark.parametrize("cut", range(1, 8))
def test_half_a_row_is_dropped(tmp_path, cut):
    path = tmp_path / "steps.csv"
    table(path, 0, 3)
    whole = path.read_bytes()
    path.write_bytes(whole + b"4,2.0\r\n"[:-cut])
    table(path, 3, 4)
    assert [row["step"] for row in rows(path)] == ["1", "2", "3", "4"]
    assert rows(path)[-1]["loss"] == "2.0"


@pytest.mark.parametrize(
    ("damage", "kept"),
    [
        (lambda whole: whole.replace(b"2,1.0", b"2,\xff\xfe"), ["1", "3"]),
        (lambda whole: whole.replace(b"2,1.0", b"2,1.0\0"), ["1", "3"]),
        (lambda whole: whole.replace(b"2,1.0", b"2,text"), ["1", "3"]),
        (lambda whole: whole.replace(b"2,1.0", b"2"), ["1", "3"]),
        (lambda whole: whole.replace(b"step", b"\x93tep"), []),
        (lambda whole: b"", []),
        (lambda whole: whole.decode().encode("utf-16"), []),
    ],
)
def test_a_damaged_table_is_set_aside_and_the_run_goes_on(tmp_path, damage, kept):
    path = tmp_path / "steps.csv"
    table(path, 0, 3)
    broken = damage(path.read_bytes())
    path.write_bytes(broken)
    with pytest.warns(UserWarning, match=r"set aside as steps\.csv\.damaged; "):
        table(path, 3, 4)
    assert [row["step"] for row in rows(path)] == [*kept, "4"]
    assert (tmp_path / "steps.csv.damaged").read_bytes() == broken
    path.write_bytes(broken)
    with pytest.warns(UserWarning, match=r"steps\.csv\.damaged_2"):
        table(path, 3, 4)


def test_rows_are_readable_while_the_table_is_open(tmp_path):
    open_table = Table(tmp_path / "steps.csv", ("step", "loss"), 0)
    open_table.add({"step": 1, "loss": None})
    assert rows(tmp_path / "steps.csv") == [{"step": "1", "loss": ""}]
    open_table.close()


# === Events ===
@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="TensorBoard's reader takes seconds to import elsewhere; the writer uses "
    "no backend",
)
def test_tensorboard_shows_a_resumed_run_once(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def write(first_step, last_step):
        events = EventFile(tmp_path, first_step)
        for step in range(first_step + 1, last_step + 1):
            events.add(step, {"step": step, "loss": step + first_step, "mask": None})
        events.close()

    write(0, 6)
    write(4, 8)
    shown = EventAccumulator(str(tmp_path))
    shown.Reload()
    assert shown.Tags()["scalars"] == ["loss"]
    points = [(point.step, point.value) for point in shown.Scalars("loss")]
    assert points == [(1, 1), (2, 2), (3, 3), (4, 4), (5, 9), (6, 10), (7, 11), (8, 12)]


# === The callback ===
def test_a_row_holds_what_the_step_did(tmp_path):
    schedule = WarmupLinear(0.1, 2, 10)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(watched(keras.optimizers.SGD)(schedule), "mse")
    log = RunLog(tmp_path, 4, 10, first_step=4, seconds=100.0, progress=False)
    log.stages = [PlannedStage(16, 0, 6), PlannedStage(32, 6, 4)]
    model.optimizer.iterations.assign(4)
    x = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
    model.fit(x, x[:, :1], batch_size=4, verbose=0, callbacks=[log])
    log.close()
    found = rows(tmp_path / "steps.csv")
    assert [row["step"] for row in found] == ["5", "6", "7", "8"]
    assert [row["samples"] for row in found] == ["20", "24", "28", "32"]
    assert [row["image_size"] for row in found] == ["16", "16", "32", "32"]
    rates = [float(row["learning_rate"]) for row in found]
    assert rates == pytest.approx([float(schedule(step)) for step in range(4, 8)])
    assert all(float(row["gradient_norm"]) > 0 for row in found)
    assert all(float(row["samples_per_second"]) > 0 for row in found)
    assert all(float(row["seconds"]) >= 100.0 for row in found)
    assert {row["mask_loss"] for row in found} == {""}


def test_learning_rate_of_a_schedule_and_of_a_number():
    schedule = WarmupLinear(1.0, 2, 10)
    assert learning_rate(keras.optimizers.SGD(schedule), 0) == float(schedule(0))
    assert learning_rate(keras.optimizers.SGD(0.25), 7) == 0.25
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(schedule))
    assert learning_rate(scaled, 1) == float(schedule(1)) != 0.0
