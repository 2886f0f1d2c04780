"""A run: stops of all kinds, and what is left to go on from.

One run is left alone; its twin is stopped twice, by an error while data is read and by
a NaN in an image, and resumed, in the end by a trainer with other initial weights.
"""

import csv
import dataclasses
import json
import shutil
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import ops

import keras_pe
from keras_pe.arrays import NonFiniteError
from keras_pe.files import TargetBusyError
from keras_pe.training.optimizers.gradient_watch import watched
from keras_pe.training.optimizers.schedules import WarmupCosine
from keras_pe.training.resolution import ResolutionStage, plan_stages
from keras_pe.training.run.checkpoint import RunCheckpoints
from keras_pe.training.run.log import draw_curves
from keras_pe.training.run.train import RunOptions
from keras_pe.training.run.training_run import TrainingRun
from keras_pe.training.trainers.contrastive_trainer import ContrastiveTrainer
from tests.small_models import text_encoder, token_ids, vision_encoder

BATCH, STEPS = 8, 10
STAGES = plan_stages(
    [ResolutionStage(16, 6 * BATCH), ResolutionStage(32, 4 * BATCH)], 8
)
CONFIGURATION = {"seed": 1, "sizes": (16, 32)}
ERROR_AT, NAN_AT = 3, 5  # batches, counted from 0


class Recorder(ContrastiveTrainer):
    """Notes the image size whenever its code runs: once a compilation."""

    def call(self, inputs, training=None):
        self.sizes = [*getattr(self, "sizes", []), inputs["images"].shape[1]]
        return super().call(inputs, training)


def trainer(seed=0, rate=None):
    keras.utils.set_random_seed(seed)
    model = keras_pe.PECore(
        vision_encoder(num_layers=1, drop_path=0.2), text_encoder(num_layers=1)
    )
    found = Recorder(model)
    schedule = rate if rate is not None else WarmupCosine(1e-2, 2, STEPS)
    # Few operations a weight, and no XLA under TensorFlow: much is compiled here.
    optimizer = watched(keras.optimizers.SGD)(schedule, momentum=0.9)
    found.compile(optimizer, jit_compile=keras.backend.backend() == "jax")
    return found


@dataclasses.dataclass
class Batches:
    """Batches of a stage, each a function of its number; starts anew each time."""

    side: int
    numbers: range
    error_at: int | None
    nan_at: int | None

    def __iter__(self):
        for number in self.numbers:
            if number == self.error_at:
                raise OSError("the disk is gone")
            yield (self.batch(number),)

    def batch(self, number):
        rng = np.random.default_rng(number)
        images = rng.uniform(-1, 1, (BATCH, self.side, self.side, 3)).astype("float32")
        if number == self.nan_at:
            images[0, 0, 0, 0] = np.nan
        ids = token_ids(BATCH)
        ids[:, 1] = rng.integers(1, 598, BATCH)
        return {"images": images, "token_ids": ids}


def batches(error_at=None, nan_at=None):
    """Returns what makes the batches of a stage."""

    def make(stage, first, count):
        numbers = range(first, first + count)
        return Batches(stage.image_size, numbers, error_at, nan_at)

    return make


def training_run(directory, data, of=None, **options):
    options = {"configuration": CONFIGURATION, "save_every": 1, **options}
    return TrainingRun(
        of or trainer(),
        directory,
        options.pop("stages", STAGES),
        BATCH,
        data,
        progress=False,
        **options,
    )


def rows(directory, name="steps.csv"):
    with (directory / name).open(newline="") as stream:
        return list(csv.DictReader(stream))


def without_clock(table):
    clock = ("seconds", "samples_per_second")
    return [{k: v for k, v in row.items() if k not in clock} for row in table]


def arrays(directory):
    found, _ = RunCheckpoints(directory / "checkpoints").load()
    return {k: v for k, v in found.items() if not k.startswith("metrics/")}


@pytest.fixture(scope="module")
def compiled_once(tmp_path_factory):
    """Lets the later trainers of this file load what JAX compiled for the first."""
    if keras.backend.backend() != "jax":
        yield
        return
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    options = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0.2,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in options}
    compilation_cache.reset_cache()
    for name, value in options.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="module")
def runs(tmp_path_factory, compiled_once):
    """Trains both; returns what is needed to look at them."""
    whole = tmp_path_factory.mktemp("whole")
    calls = []

    def evaluate():
        calls.append(float(ops.convert_to_numpy(undisturbed.trainer.model.logit_scale)))
        return {"scale": calls[-1]}

    undisturbed = training_run(whole, batches(), evaluate=evaluate, evaluate_every=4)
    undisturbed.train()

    stopped = tmp_path_factory.mktemp("stopped")
    first = trainer()
    with pytest.raises(Exception, match="the disk is gone"):
        training_run(stopped, batches(error_at=ERROR_AT), first).train()
    after_error = RunCheckpoints(stopped / "checkpoints").latest().name
    rows_after_error = rows(stopped)
    with (stopped / "steps.csv").open("a") as stream:
        stream.write("4,32,16,1.0,9.9")  # half a row of a step that was not saved
    with pytest.raises(NonFiniteError) as stop:
        training_run(stopped, batches(nan_at=NAN_AT), first).train(resume=True)
    after_nan = RunCheckpoints(stopped / "checkpoints").latest().name
    training_run(stopped, batches(), trainer(1)).train(resume=True)
    return SimpleNamespace(
        whole=whole,
        trainer=undisturbed.trainer,
        calls=calls,
        stopped=stopped,
        after_error=after_error,
        rows_after_error=rows_after_error,
        nan_message=str(stop.value),
        after_nan=after_nan,
    )


@pytest.mark.compiled
def test_a_stopped_run_ends_as_one_that_was_left_alone(runs):
    ours, theirs = arrays(runs.stopped), arrays(runs.whole)
    assert ours.keys() == theirs.keys()
    assert any("seed" in name for name in ours)
    for name, value in theirs.items():
        if keras.backend.backend() == "tensorflow":
            np.testing.assert_allclose(ours[name], value, rtol=1e-5, atol=1e-7)
        else:
            np.testing.assert_array_equal(ours[name], value, err_msg=name)


@pytest.mark.compiled
def test_the_log_holds_every_step_once(runs):
    ours, theirs = rows(runs.stopped), rows(runs.whole)
    assert [int(row["step"]) for row in ours] == list(range(1, STEPS + 1))
    assert [int(row["samples"]) for row in ours] == [
        BATCH * step for step in range(1, STEPS + 1)
    ]
    empty = {name for row in ours for name, value in row.items() if not value}
    assert empty == {"mask_loss"}
    if keras.backend.backend() != "tensorflow":
        assert without_clock(ours) == without_clock(theirs)
    for our_row, their_row in zip(ours, theirs, strict=True):
        for name in ("contrastive_loss", "logit_scale", "gradient_norm"):
            expected = float(their_row[name])
            assert float(our_row[name]) == pytest.approx(expected, rel=1e-5)
    seconds = [float(row["seconds"]) for row in ours]
    assert seconds == sorted(seconds)


@pytest.mark.compiled
def test_an_error_leaves_the_checkpoints_before_it(runs):
    # JAX and TensorFlow read batches ahead, so the error comes a few steps early.
    step = int(runs.after_error.removeprefix("step_"))
    assert 1 <= step <= ERROR_AT
    assert len(runs.rows_after_error) == step


@pytest.mark.compiled
def test_a_nan_stops_the_run_and_spares_the_checkpoint(runs):
    assert f"Step {NAN_AT + 1}: the gradient of " in runs.nan_message
    path = runs.nan_message.split("the gradient of ")[1].split(" ")[0]
    assert path in runs.trainer.optimizer.watched_paths
    assert "The update was not applied" in runs.nan_message
    assert "Weights that are not finite" not in runs.nan_message
    assert runs.after_nan == f"step_{NAN_AT:09d}"


@pytest.mark.compiled
def test_each_stage_has_its_size_and_is_compiled_once(runs):
    assert [int(row["image_size"]) for row in rows(runs.whole)] == [16] * 6 + [32] * 4
    if keras.backend.backend() == "torch":  # which compiles nothing
        assert runs.trainer.sizes == [16] * 6 + [32] * 4
    else:
        assert runs.trainer.sizes == [16, 32]


@pytest.mark.compiled
def test_scores_are_of_the_weights_of_their_step(runs):
    table = rows(runs.whole, "scores.csv")
    assert [int(row["step"]) for row in table] == [4, 8, 10]
    assert [float(row["scale"]) for row in table] == [round(x, 5) for x in runs.calls]
    assert len(set(runs.calls)) == 3
    logged = [np.log(float(row["logit_scale"])) for row in rows(runs.whole)]
    # A row has the scale that the step began with.
    assert runs.calls[0] == pytest.approx(logged[4], rel=1e-5)


@pytest.mark.compiled
def test_what_else_a_run_leaves(runs):
    assert json.loads((runs.whole / "config.json").read_text()) == {
        "seed": 1,
        "sizes": [16, 32],
    }
    assert len(list((runs.whole / "tensorboard").iterdir())) == 1
    assert len(list((runs.stopped / "tensorboard").iterdir())) == 3
    assert draw_curves(runs.whole).read_bytes().startswith(b"\x89PNG")
    assert len(list((runs.whole / "checkpoints").glob("step_*"))) == 3


@pytest.mark.compiled
def test_a_used_directory_is_refused(runs):
    before = (runs.whole / "config.json").read_bytes()
    with pytest.raises(
        ValueError, match=r"already holds a run.*step_000000010.*resume"
    ):
        training_run(runs.whole, batches(), runs.trainer).train()
    changed = {"seed": 2, "a": 3}
    other = training_run(runs.whole, batches(), runs.trainer, configuration=changed)
    with pytest.raises(ValueError, match="different: a, seed, sizes"):
        other.train(resume=True)
    assert (runs.whole / "config.json").read_bytes() == before
    assert len(rows(runs.whole)) == STEPS


@pytest.mark.compiled
def test_a_finished_run_has_nothing_left_to_do(runs, tmp_path, capsys):
    # A copy: it leaves one more file of events.
    copy = shutil.copytree(runs.stopped, tmp_path / "copy")
    training_run(copy, batches(error_at=0), runs.trainer).train(resume=True)
    assert without_clock(rows(copy)) == without_clock(rows(runs.stopped))
    assert "going on after step 10 of 10" in "".join(capsys.readouterr())


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.compiled
def test_a_resume_that_finds_no_checkpoint_says_so(runs, tmp_path, capsys, resume):
    """A run that was killed before its first one, or another folder than was meant."""
    run = training_run(tmp_path, batches(error_at=0), runs.trainer)
    with pytest.raises(Exception, match="the disk is gone"):
        run.train(resume=resume)
    said = f"no checkpoint to go on from in {tmp_path / 'checkpoints'}: starting at"
    assert (said in "".join(capsys.readouterr())) is resume


# === A longer run ===
SHORT = [STAGES[0], STAGES[1]._replace(num_steps=2)]


def configuration(stages, **changes):
    return {"student": {"seed": 1, "stages": [list(s) for s in stages]}, **changes}


def planned(directory, stages, rate, **changes):
    return training_run(
        directory,
        batches(),
        trainer(rate=rate),
        stages=stages,
        configuration=configuration(stages, **changes),
        save_every=4,
    )


def test_an_extended_run_is_one_that_was_planned_so(tmp_path, capsys, compiled_once):
    """With a constant rate; it had even come to its end."""
    planned(tmp_path / "long", STAGES, 0.01).train()
    planned(tmp_path / "short", SHORT, 0.01).train()
    again = planned(tmp_path / "short", STAGES, 0.01)
    with pytest.raises(ValueError, match=r"different: student\.stages.*--extend"):
        again.train(resume=True)
    again.train(resume=True, extend=True)
    said = "extended at step 8 from 8 to 10 steps; learning rate of the next step: 0.01"
    assert again.extension == f"{said}, as planned before"
    assert said in "".join(capsys.readouterr())
    ours, theirs = arrays(tmp_path / "short"), arrays(tmp_path / "long")
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        if keras.backend.backend() == "tensorflow":
            np.testing.assert_allclose(ours[name], value, rtol=1e-5, atol=1e-7)
        else:
            np.testing.assert_array_equal(ours[name], value, err_msg=name)
    assert [int(row["step"]) for row in rows(tmp_path / "short")] == list(range(1, 11))


def test_an_extended_schedule_is_the_new_one_from_there_on(tmp_path, compiled_once):
    old, new = WarmupCosine(1e-2, 2, 8), WarmupCosine(1e-2, 2, 10)
    planned(tmp_path, SHORT, old).train()
    again = planned(tmp_path, STAGES, new)
    again.train(resume=True, extend=True)
    assert f"{float(new(8)):.4g}, not {float(old(8)):.4g}" in again.extension
    rates = [float(row["learning_rate"]) for row in rows(tmp_path)]
    expected = [float((old if step < 8 else new)(step)) for step in range(10)]
    assert rates == pytest.approx(expected, rel=1e-5)
    for stages, changes, message in (
        ([STAGES[0]._replace(image_size=32), STAGES[1]], {}, "keeps the image sizes"),
        (SHORT[:1], {}, "keeps the image sizes"),
        (STAGES, {"data": 2}, "different: data"),
    ):
        other = planned(tmp_path, stages, new, **changes)
        with pytest.raises(ValueError, match=message):
            other.train(resume=True, extend=True)
    with pytest.raises(ValueError, match="give resume=True too"):
        again.train(extend=True)


def test_two_runs_at_once_in_one_directory(tmp_path, compiled_once):
    """The second would replace the checkpoints of the first."""
    refused = []

    def make(stage, first, count):
        other = training_run(tmp_path, batches(), configuration={"seed": 2})
        with pytest.raises(TargetBusyError, match="checkpoints is being written"):
            other.train()
        refused.append(stage.image_size)
        return batches()(stage, first, count)

    training_run(tmp_path, make, stages=STAGES[:1], save_every=100).train()
    assert refused == [16]
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 1
    # The lock went with its run.
    with pytest.raises(ValueError, match="already holds a run"):
        training_run(tmp_path, batches(), stages=STAGES[:1]).train()


@pytest.mark.parametrize("value", [0, -1, 2.5, True, float("nan")])
@pytest.mark.parametrize("name", ["save_every", "evaluate_every"])
def test_intervals_are_steps(name, value, tmp_path):
    said = f"{name} must be a whole number of at least 1, got {value}"
    with pytest.raises(ValueError, match=said):
        RunOptions(tmp_path, **{name: value})
    with pytest.raises(ValueError, match=said):
        TrainingRun(None, tmp_path, STAGES, BATCH, batches(), **{name: value})


def test_a_configuration_that_no_checkpoint_can_hold(tmp_path):
    """It would be found at the first save."""
    for value in (float("nan"), float("inf"), {1, 2}):
        with pytest.raises(ValueError, match="must be made of JSON values"):
            TrainingRun(
                None, tmp_path, STAGES, BATCH, batches(), configuration={"a": value}
            )


def test_several_steps_in_one_call_are_refused(tmp_path):
    several = trainer()
    several.compile(keras.optimizers.SGD(0.1), steps_per_execution=4)
    with pytest.raises(ValueError, match="steps_per_execution=4"):
        TrainingRun(several, tmp_path, STAGES, BATCH, lambda *_: [])
    assert not list(tmp_path.iterdir())
