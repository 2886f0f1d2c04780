"""The recipe of spatial alignment: configurations, a run, a run that goes on."""

import csv
import dataclasses

import keras
import numpy as np
import pytest

from keras_pe import PESpatial, PEVisionEncoder
from keras_pe.training.run.align import align_spatial
from keras_pe.training.run.image_data import ImageData
from keras_pe.training.run.overrides import SettingError
from keras_pe.training.run.spatial_config import SpatialConfig, check_spatial
from keras_pe.training.run.train import RunOptions
from keras_pe.training.run.training_config import stages_of
from keras_pe.training.run.training_run import RunMismatch
from recipes.align_spatial import CONFIGS, main, parse
from recipes.plan import print_plan
from tests.arrays import to_numpy
from tests.data.shards import write_shards
from tests.small_models import perturb, vision_encoder


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
    main()
    return capsys.readouterr().out


@pytest.mark.quick
def test_the_plan_of_the_paper_s_largest_run(monkeypatch, capsys):
    monkeypatch.setattr("recipes.plan.compile_aside", lambda *_: print("compiled"))
    printed = planned(monkeypatch, capsys, "--devices", "256")
    assert printed.startswith("paper-g14\n\n1,851.89 M parameters of the student")
    assert "294.9 M samples in 24,000 steps of 12,288, on 256 devices" in printed
    assert "4.629 ZFLOP of training" in printed
    assert "device days at 40% of the peak: 135.4 H100 SXM, 291.8 TPU v5p" in printed
    # Each fetches pieces of the other's weights: JAX shows whether it can.
    assert ("compiled" in printed) == (keras.backend.backend() == "jax")


@pytest.mark.quick
@pytest.mark.once
def test_the_days_at_a_rate_and_what_sam_takes(monkeypatch, capsys):
    options = ("--set", "mask_teacher=sam:sam_huge_sa1b", "--teraflops", "400")
    printed = planned(monkeypatch, capsys, "--devices", "64", *options)
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


@pytest.mark.quick
def test_samples_without_masks_are_told_so(presets, tmp_path):
    write_shards(tmp_path, counts=(12,))
    config = config_of(presets, mask_teacher="masks")
    with pytest.raises(SettingError, match="have no masks"):
        ImageData(str(tmp_path / "*.tar")).batches(config, 8)


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
