"""The recipe of spatial alignment: configurations, a run, a run that goes on."""

import csv
import dataclasses
from typing import ClassVar

import keras
import numpy as np
import pytest

from keras_pe import PESpatial, PEVisionEncoder
from keras_pe.presets import CheckpointError
from keras_pe.training.run.align import align_spatial
from keras_pe.training.run.image_data import ImageData
from keras_pe.training.run.overrides import SettingError
from keras_pe.training.run.spatial_config import SpatialConfig, check_spatial
from keras_pe.training.run.train import RunOptions
from keras_pe.training.run.training_config import stages_of
from keras_pe.training.run.training_run import RunMismatch
from recipes.align_spatial import CONFIGS, image_data, main, parse
from recipes.plan import print_plan
from tests.arrays import to_numpy
from tests.data.shards import write_shards
from tests.small_models import perturb, vision_encoder
from tests.training.run.test_image_data import write_shard


@pytest.mark.quick
@pytest.mark.once
def test_configurations_of_the_paper():
    large = CONFIGS["paper-g14"]  # table 21
    assert (large.batch_size, large.learning_rate, large.samples) == (
        12_288,
        5e-4,
        24_000 * 12_288,
    )
    assert (large.mask_ratio, large.mask_block) == (0.75, 2)
    assert (large.layer_scale, large.drop_path) == (0.1, 0.4)
    assert (large.teacher, large.teacher_layer) == ("self", 41)
    assert (large.mask_teacher, large.sam_points) == ("sam:sam_huge_sa1b", 32)
    assert (large.optimizer, large.weight_decay, large.warmup_steps) == (
        "lamb",
        0.05,
        0,
    )
    small = CONFIGS["paper-b16"]
    assert small.teacher == "pe_spatial_gigantic_patch14_448"
    assert (small.mask_teacher, small.layer_scale) == ("teacher", None)
    for config in CONFIGS.values():
        check_spatial(config)


# === The plan ===
def planned(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["align_spatial", "--plan", *arguments])
    monkeypatch.setattr("recipes.plan.compile_aside", lambda *_: print("compiled"))
    main()
    return capsys.readouterr().out


@pytest.mark.quick
def test_the_plan_of_the_paper_s_largest_run(monkeypatch, capsys):
    without = ("--set", "mask_teacher=none")
    printed = planned(monkeypatch, capsys, "--devices", "256", *without)
    assert printed.startswith("paper-g14\n\n1,851.89 M parameters of the student")
    assert "294.9 M samples in 24,000 steps of 12,288, on 256 devices" in printed
    assert "4.629 ZFLOP of training" in printed
    assert "device days at 40% of the peak: 135.4 H100 SXM, 291.8 TPU v5p" in printed
    # Each fetches pieces of the other's weights: JAX shows whether it can.
    assert ("compiled" in printed) == (keras.backend.backend() == "jax")


@pytest.mark.quick
@pytest.mark.once
def test_the_days_at_a_rate_and_what_sam_takes(monkeypatch, capsys):
    options = ("--devices", "64", "--teraflops", "400")
    printed = planned(monkeypatch, capsys, *options)
    assert "38% of it are SAM's" in printed
    assert "device days at 400 TFLOP/s: 216.6, which are 3.384 days on 64" in printed
    with pytest.raises(SystemExit):
        planned(monkeypatch, capsys, "--set", "mask_teacher=sam:mine")
    assert "a plan knows the sizes of sam_base_sa1b" in capsys.readouterr().err


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX compiles for others")
@pytest.mark.slow
def test_a_step_is_compiled_for_virtual_devices(presets, capfd):
    changes = {"sharding": "parameters", "mask_teacher": "masks", "batch_size": 8}
    config = config_of(presets, **changes)
    print_plan("smoke", config, devices=8)
    printed = capfd.readouterr().out
    assert "8 virtual devices, with a batch of 8 in place of 8" in printed
    assert "compiled for 8 cpu devices, batch 8 at 32 px" in printed
    assert "the plan's estimate for the same" in printed


# === Runs ===
@pytest.fixture(scope="module")
def presets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("presets")
    perturb(vision_encoder(num_layers=2)).save_to_preset(folder / "core")
    perturb(vision_encoder(num_layers=2), seed=1).save_to_preset(folder / "other")
    return folder


def config_of(presets, **changes):
    options = {
        "encoder": str(presets / "core"),
        "stages": stages_of(16, (32,), (1,)),
        "batch_size": 4,
        "teacher_layer": 1,
        "mask_teacher": "teacher",
        "sharpness": None,
        "drop_path": 0.1,
    }
    return SpatialConfig(**{**options, **changes})


def rows(directory):
    with (directory / "steps.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_to_the_bit(presets, tmp_path):
    write_shards(tmp_path, counts=(12,))
    data = ImageData(str(tmp_path / "*.tar"))
    config = config_of(presets)
    whole = align_spatial(config, data, RunOptions(tmp_path / "whole", progress=False))
    assert isinstance(whole, PESpatial)
    assert whole.layer_scale == 0.1

    options = RunOptions(tmp_path / "halves", progress=False, save_every=1)
    short = dataclasses.replace(config, stages=stages_of(8, (32,), (1,)))
    # A run of half the length has another schedule: stop the whole one in the middle.
    with pytest.raises(InterruptedError):
        align_spatial(config, Stopping(data, after=2), options)
    with pytest.raises(RunMismatch, match="stages"):
        align_spatial(short, data, dataclasses.replace(options, resume=True))
    other = dataclasses.replace(config, teacher=str(presets / "other"))
    with pytest.raises(RunMismatch, match="teacher"):
        align_spatial(other, data, dataclasses.replace(options, resume=True))
    again = align_spatial(config, data, dataclasses.replace(options, resume=True))
    for ours, theirs in zip(again.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(ours), to_numpy(theirs))
    logs = [rows(tmp_path / name) for name in ("whole", "halves")]
    assert [len(log) for log in logs] == [4, 4]
    for name in ("loss", "feature_loss", "correspondence_loss"):
        assert [row[name] for row in logs[0]] == [row[name] for row in logs[1]]
    kept = next((tmp_path / "whole" / "checkpoints").glob("step_*"))
    assert not any("teacher" in path.name for path in kept.rglob("*"))
    loaded = PESpatial.from_preset(str(tmp_path / "whole" / "preset"))
    np.testing.assert_array_equal(
        to_numpy(loaded.weights[0]), to_numpy(whole.weights[0])
    )


class Stopping:
    """Data that end in an error after some batches."""

    def __init__(self, data, after):
        self.data, self.after = data, after

    def describe(self):
        return self.data.describe()

    def mask_teachers(self, config):
        return self.data.mask_teachers(config)

    def scores(self, config, model):
        return None

    def batches(self, config, patch_size):
        make = self.data.batches(config, patch_size)

        class Stopped:
            def __init__(self, batches, after):
                self.batches, self.after = batches, after

            def __iter__(self):
                for place, batch in enumerate(self.batches):
                    if place == self.after:
                        raise InterruptedError("stopped")
                    yield batch

        def stopping(stage, first, count):
            return Stopped(make(stage, first, count), self.after)

        return stopping


@pytest.mark.slow
def test_a_student_without_teacher_weights_that_changed_goes_not_on(presets, tmp_path):
    """A hash stands for the teacher: other weights under its name are refused."""
    write_shards(tmp_path, counts=(12,))
    data = ImageData(str(tmp_path / "*.tar"))
    teacher = tmp_path / "teacher"
    perturb(vision_encoder(num_layers=2), seed=1).save_to_preset(teacher)
    config = config_of(presets, teacher=str(teacher), stages=stages_of(8, (32,), (1,)))
    options = RunOptions(tmp_path / "run", progress=False)
    align_spatial(config, data, options)
    perturb(vision_encoder(num_layers=2), seed=2).save_to_preset(teacher)
    with pytest.raises(RunMismatch, match="teachers"):
        align_spatial(config, data, dataclasses.replace(options, resume=True))


@pytest.mark.quick
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher": "none"}, "nothing is taught"),
        ({"mask_teacher": "sam"}, "mask_teacher='sam'"),
        ({"mask_teacher": "sam:"}, "or sam:PRESET"),
        ({"most_shapes": 0}, "most_shapes=0"),
        ({"sam_points": 0}, "sam_points=0"),
        ({"sam_keep": "4"}, "sam_keep='4'"),
        ({"mask_ratio": 1.0}, "mask_ratio=1.0"),
        ({"sharpness": 0.0}, "sharpness=0.0"),
        ({"drop_path": 1.0}, "drop_path=1.0"),
        ({"feature_weight": -1.0}, "feature_weight=-1.0"),
        ({"image_chunk_size": 3}, "image_chunk_size=3"),
    ],
)
def test_configurations_that_can_not_run_are_refused(tmp_path, changes, message):
    with pytest.raises(SettingError, match=message):
        check_spatial(config_of(tmp_path, **changes))


@pytest.mark.slow
def test_a_run_on_masks_beside_images(presets, tmp_path):
    data = ImageData(write_shard(tmp_path))
    changes = {"mask_teacher": "masks", "most_shapes": 4, "background_weight": 0.1}
    config = config_of(presets, sharpness=20.0, loss_chunk_size=32, **changes)
    align_spatial(config, data, RunOptions(tmp_path / "run", progress=False))
    log = rows(tmp_path / "run")
    assert len(log) == 4
    assert all(0 < float(row["correspondence_loss"]) < 1 for row in log)


# === SAM ===
class Thirds:
    """A teacher of three masks: the thirds of the image's height."""

    calls = 0

    @classmethod
    def from_preset(cls, preset, points, keep):
        if preset != "mine":
            raise FileNotFoundError(f"there is no {preset}")
        assert (points, keep) == (3, "best")
        return cls()

    models: ClassVar[tuple[keras.Model, ...]] = ()

    def __call__(self, images, grid):
        Thirds.calls += 1
        assert to_numpy(images).dtype == np.float32
        which = np.arange(grid[0]) * 3 // grid[0]
        masks = np.eye(3, dtype="float32")[which][None, :, None]
        return np.tile(masks, (len(images), 1, grid[1], 1))


@pytest.mark.slow
@pytest.mark.once
def test_a_run_on_masks_of_sam_and_its_cache(presets, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_pe.training.run.image_data.SamTeacher", Thirds)
    monkeypatch.setattr("keras_pe.training.run.align.find_spec", lambda _: True)
    weights = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    monkeypatch.setattr(Thirds, "models", (weights,))
    write_shards(tmp_path, counts=(4,))
    data = ImageData(str(tmp_path / "*.tar"), mask_cache=tmp_path / "cache")
    changes = {"augment": False, "sam_points": 3, "sam_keep": "best"}
    config = config_of(presets, mask_teacher="sam:mine", sharpness=20.0, **changes)
    align_spatial(config, data, RunOptions(tmp_path / "run", progress=False))
    assert len(rows(tmp_path / "run")) == 4
    assert Thirds.calls == 1  # four images: the first batch has them all
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 4
    weights.weights[0].assign_add([[1.0]])  # another SAM of the same name
    again = RunOptions(tmp_path / "run", progress=False, resume=True)
    with pytest.raises(ValueError, match="mask_teachers"):
        align_spatial(config, data, again)
    other = dataclasses.replace(config, mask_teacher="sam:another")
    with pytest.raises(CheckpointError, match=r"KerasHub does not load it.*no another"):
        data.batches(other, 8)


@pytest.mark.quick
@pytest.mark.once
def test_sam_without_kerashub_is_refused_before_the_run(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("keras_pe.training.run.align.find_spec", lambda _: None)
    write_shards(tmp_path, counts=(4,))
    line = ["--config", "smoke", "--data", str(tmp_path / "*.tar")]
    line += ["--output", str(tmp_path / "run"), "--set", "mask_teacher=sam:mine"]
    monkeypatch.setattr("sys.argv", ["align_spatial", *line])
    with pytest.raises(SystemExit):
        main()
    assert "pip install keras-hub" in capsys.readouterr().err


@pytest.mark.quick
@pytest.mark.once
def test_a_cache_that_is_no_folder_is_refused_before_the_run(tmp_path):
    (tmp_path / "file").write_text("")
    line = ["--data", "x.tar", "--mask-cache", str(tmp_path / "file")]
    with pytest.raises(ValueError, match="file"):
        image_data(parse(line))


def ends_with(monkeypatch, capsys, folder, *arguments):
    """Returns what the command line says before it gives up."""
    line = ["align_spatial", "--config", "smoke", "--data", write_shard(folder)]
    line += ["--output", str(folder / "run"), *arguments]
    monkeypatch.setattr("sys.argv", line)
    with pytest.raises(SystemExit):
        main()
    return capsys.readouterr().err


@pytest.mark.quick
def test_a_layer_that_the_teacher_has_not_is_no_traceback(
    monkeypatch, capsys, tmp_path
):
    said = ends_with(monkeypatch, capsys, tmp_path, "--set", "teacher_layer=99")
    assert "error: teacher_layer=99: This encoder has layers 0" in said


@pytest.mark.quick
def test_a_cache_without_sam_is_refused(monkeypatch, capsys, tmp_path):
    cache = ("--mask-cache", str(tmp_path / "masks"))
    said = ends_with(monkeypatch, capsys, tmp_path, *cache)
    assert "error: mask_teacher=teacher: SAM's masks alone are kept" in said


@pytest.mark.quick
@pytest.mark.once
def test_the_command_line_reaches_every_setting():
    from keras_pe.training.run.options import aligned_settings

    line = ["--config", "smoke", "--teacher", "none", "--batch-size", "8"]
    options = parse([*line, "--set", "rescale=false", "--samples", "64"])
    config = aligned_settings(CONFIGS["smoke"], options)
    assert (config.teacher, config.batch_size, config.rescale) == ("none", 8, False)
    assert config.samples == 64
    assert config.encoder == CONFIGS["smoke"].encoder


def test_the_smoke_configuration_names_what_is_there():
    encoder = PEVisionEncoder.from_preset(CONFIGS["smoke"].encoder)
    assert encoder.patch_size == 8
