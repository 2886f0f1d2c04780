"""A restored trainer goes on as if it had never stopped."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import ml_dtypes
import numpy as np
import pytest
from keras import ops

from keras_pe.layers.transformer import drop_path_factors
from keras_pe.presets.report import CheckpointError
from keras_pe.training.optimizers.gradient_watch import WatchedAdamW
from keras_pe.training.optimizers.lamb import WatchedLamb
from keras_pe.training.optimizers.schedules import WarmupCosine
from keras_pe.training.run.checkpoint import RunCheckpoints, collect, restore
from tests import small_models

pytestmark = pytest.mark.quick
BACKEND = keras.backend.backend()
STEPS, BATCH = 6, 4


class Stage(keras.Model):
    """Draws random numbers in three places: depth, dropout and noise of the input."""

    def __init__(self, seed, dtype=None):
        super().__init__(name="stage", dtype=dtype)
        self.noise = keras.layers.GaussianNoise(0.1, dtype=dtype)
        self.body = keras.layers.Dense(8, activation="gelu", dtype=dtype)
        self.depth_seeds = keras.random.SeedGenerator()
        self.dropout = keras.layers.Dropout(0.3, seed=seed, dtype=dtype)
        self.head = keras.layers.Dense(1, dtype=dtype, name="head")
        self.body.build((None, 8))
        self.head.build((None, 8))
        self.built = True

    def call(self, x, training=None):
        x = self.noise(x, training=training)
        branch = self.body(x)
        if training:
            factors = drop_path_factors(ops.shape(x)[0], [0.4], self.depth_seeds)
            branch = branch * ops.cast(factors[0, 0, :, 0], branch.dtype)
        return self.head(self.dropout(x + branch, training=training))


def trainer(optimizer, seed=0, dtype=None):
    keras.utils.set_random_seed(seed)
    model = Stage(seed, dtype)
    model.compile(optimizer, "mse", metrics=["mae"])
    return model


def lamb():
    schedule = WarmupCosine(1e-2, warmup_steps=2, total_steps=STEPS)
    return WatchedLamb(schedule, global_clipnorm=1.0)


def accumulating():
    return WatchedLamb(1e-2, gradient_accumulation_steps=2, use_ema=True)


def adamw():
    return WatchedAdamW(1e-2, use_ema=True, ema_overwrite_frequency=3)


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(STEPS * BATCH, 8)).astype("float32")
    return x, x[:, :1] * 3.0


def fit(model, first, count, callbacks=()):
    x, y = (part[first * BATCH : (first + count) * BATCH] for part in data())
    model.fit(
        x, y, batch_size=BATCH, shuffle=False, verbose=0, callbacks=list(callbacks)
    )


def values(model):
    """Returns copies of all variables by name."""
    return {k: np.copy(ops.convert_to_numpy(v)) for k, v in collect(model).items()}


def assert_same(one, other):
    assert list(one) == list(other)
    different = [name for name in one if one[name].tobytes() != other[name].tobytes()]
    assert not different


class SaveAt(keras.callbacks.Callback):
    """Saves in the middle of `fit`, where JAX holds the values elsewhere."""

    def __init__(self, checkpoints, step):
        super().__init__()
        self.checkpoints, self.step = checkpoints, step

    def on_train_batch_end(self, batch, logs=None):
        if batch + 1 == self.step:
            self.checkpoints.save(self.step, collect(self.model), {"seed": 0})


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer", [pytest.param(lamb, marks=pytest.mark.compiled), accumulating, adamw]
)
def test_three_steps_and_three_more_are_six_to_the_bit(tmp_path, optimizer):
    # Odd: the optimizer that accumulates has one batch of two in hand.
    half = STEPS // 2
    whole = trainer(optimizer())
    fit(whole, 0, STEPS)

    checkpoints = RunCheckpoints(tmp_path)
    stopped = trainer(optimizer())
    fit(stopped, 0, STEPS, [SaveAt(checkpoints, half)])
    assert_same(values(whole), values(stopped))  # saving disturbs nothing

    resumed = trainer(optimizer(), seed=99)
    arrays, state = checkpoints.load()
    restore(resumed, arrays)
    fit(resumed, state["step"], STEPS - half)
    ends = values(whole), values(resumed)
    # The average over an epoch counts the steps of one call of `fit`.
    ends = [{k: v for k, v in end.items() if "metrics" not in k} for end in ends]
    assert_same(*ends)


@pytest.mark.slow
def test_without_the_seeds_the_six_steps_differ(tmp_path):
    """The random numbers do matter: the test above can fail."""
    ends = []
    for seeds in (True, False):
        model = trainer(lamb())
        fit(model, 0, 3)
        saved = values(model)
        other = trainer(lamb(), seed=99)
        kept = values(other)
        restore(
            other,
            {
                name: array if seeds or "seed_generator" not in name else kept[name]
                for name, array in saved.items()
            },
        )
        fit(other, 3, 3)
        ends.append(values(other)["weights/dense/kernel"])
    assert not np.array_equal(*ends)


class Pair(keras.Model):
    """A tower and a head, compiled for its names only."""

    def __init__(self, *parts):
        super().__init__(name="pair")
        self.parts = list(parts)
        self.built = True


def test_names_are_unique_stable_and_readable():
    def names():
        tower = small_models.vision_encoder(drop_path=0.1, num_layers=1)
        head, dropout = keras.layers.Dense(1), keras.layers.Dropout(0.1)
        head.build((None, 16))
        model = Pair(tower, head, dropout)
        model.compile(accumulating(), "mse")
        found = collect(model)
        everything = [*model.variables, *model.optimizer.variables]
        everything += [v for metric in model.metrics for v in metric.variables]
        assert {id(v) for v in found.values()} == {id(v) for v in everything}
        assert len(found) == len(everything)
        return list(found)

    first = names()
    keras.layers.Dense(3)  # shifts the numbers that Keras makes up
    keras.layers.Dropout(0.5)
    assert names() == first
    block = "pe_vision_encoder/block_1/attention/qkv/kernel"
    assert {
        f"weights/{block}",
        f"optimizer/momentum/{block}",
        f"optimizer/velocity/{block}",
        f"optimizer/average/{block}",
        f"optimizer/gradient_accumulator/{block}",
        "weights/dense/bias",
        "weights/seed_generator/seed_generator_state",
        "weights/seed_generator_1/seed_generator_state",
        "optimizer/iteration",
        "optimizer/learning_rate",
        "optimizer/gradient_norm",
        "optimizer/first_non_finite",
        "metrics/loss/total",
    } <= set(first)


def test_equal_paths_are_told_apart():
    """Two models built alone give their weights the same path."""
    towers = []
    for _ in range(2):
        tower = keras.Sequential([keras.layers.Dense(2, name="same")], name="tower")
        tower.build((None, 3))
        towers.append(tower)
    model = Pair(*towers)
    model.compile("sgd", "mse")
    names = [name for name in collect(model) if name.startswith("weights")]
    assert names == [
        "weights/tower/same/kernel",
        "weights/tower/same/bias",
        "weights/tower/same/kernel#2",
        "weights/tower/same/bias#2",
    ]


@pytest.mark.slow
def test_bfloat16_weights_come_back_exactly(tmp_path):
    model = trainer(lamb(), dtype="bfloat16")
    fit(model, 0, 1)
    saved = values(model)
    checkpoints = RunCheckpoints(tmp_path)
    checkpoints.save(1, collect(model))
    arrays, _ = checkpoints.load()
    assert arrays["weights/head/kernel"].dtype == ml_dtypes.bfloat16
    other = trainer(lamb(), seed=5, dtype="bfloat16")
    restore(other, arrays)
    found = values(other)
    assert all(
        found[k].tobytes() == v.tobytes() for k, v in saved.items() if k in found
    )


def breaks(arrays, change):
    """Returns the arrays with one of them changed, and what the error must say."""
    broken = dict(arrays)
    name = "weights/dense/bias"
    if change == "missing":
        del broken[name]
        return broken, f"lacks {name}"
    if change == "extra":
        broken["weights/other/kernel"] = np.zeros(2, "float32")
        return broken, "trainer has not, weights/other/kernel"
    if change == "shape":
        broken[name] = np.zeros(7, "float32")
        return (
            broken,
            rf"{name} is float32 \(7,\) in the checkpoint and float32 \(8,\)",
        )
    broken[name] = broken[name].astype("float16")
    return broken, rf"{name} is float16 \(8,\) in the checkpoint and float32"


@pytest.mark.parametrize("change", ["missing", "extra", "shape", "dtype"])
def test_what_does_not_fit_is_named_and_nothing_assigned(change):
    model = trainer(lamb())
    saved = values(model)
    broken, message = breaks(saved, change)
    other = trainer(lamb(), seed=5)
    before = values(other)
    assert before["weights/dense/kernel"].tobytes() != (
        saved["weights/dense/kernel"].tobytes()
    )
    with pytest.raises(CheckpointError, match=message):
        restore(other, broken)
    assert_same(before, values(other))


def test_another_optimizer_is_named():
    saved = values(trainer(lamb()))
    with pytest.raises(CheckpointError, match="optimizer/average/"):
        restore(trainer(accumulating()), saved)


@pytest.mark.slow
def test_metrics_may_differ(tmp_path):
    model = trainer(lamb())
    fit(model, 0, 1)  # Keras makes the variables of `mae` only now
    saved = values(model)
    other = trainer(lamb(), seed=5)
    restore(other, saved)
    found = values(other)
    assert all(found[name].tobytes() == saved[name].tobytes() for name in found)
    restore(model, {k: v for k, v in saved.items() if "metrics" not in k})
    changed = dict(saved)
    changed["metrics/loss/total"] = np.zeros(3, "float32")
    with pytest.raises(CheckpointError, match="metrics/loss/total"):
        restore(model, changed)


def test_what_is_not_ready_says_so():
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(CheckpointError, match="not compiled"):
        collect(plain)
    unbuilt = keras.Sequential([keras.layers.Dense(2)])
    unbuilt.compile("sgd", "mse")
    with pytest.raises(CheckpointError, match="no weights yet"):
        collect(unbuilt)


@pytest.mark.slow
def test_sharded_arrays_come_back_sharded(tmp_path):
    if BACKEND != "jax":
        pytest.skip("keras.distribution is for JAX")
    program = Path(__file__).parents[1] / "programs" / "sharded_checkpoint.py"
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path)],
        env={
            **os.environ,
            "KERAS_BACKEND": "jax",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "same weights, sharded"
