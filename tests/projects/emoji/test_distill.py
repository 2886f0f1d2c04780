"""The distillation recipe, with a preset made here as the teacher."""

import csv
import dataclasses
import json

import keras
import numpy as np
import pytest

from keras_pe import PECore
from keras_pe.training.resolution import ResolutionStage
from keras_pe.training.run.config import (
    DistillConfig,
    build_model,
    build_tokenizer,
    small_towers,
)
from keras_pe.training.run.options import with_overrides, with_samples
from keras_pe.training.run.train import RunOptions
from projects.emoji import distill
from projects.emoji.configs import DISTILLED, EmojiConfig
from projects.emoji.drawings_data import DrawingsData
from tests.projects.emoji.small_emoji import write_small_emoji

STUDENT = EmojiConfig(
    **small_towers(8, width=16, layers=1, text_layers=1),
    stages=(ResolutionStage(16, 3 * 8),),  # of the teacher's size
    batch_size=8,
    warmup_steps=1,
    mask_weight=0.0,
)


@pytest.mark.slow
@pytest.mark.skipif(
    keras.backend.backend() == "jax",
    reason="compiles for many seconds; trainer, run and data are tested on JAX by "
    "themselves, and the recipe that puts them together knows no backend",
)
def test_train_and_go_on(tmp_path):
    data = write_small_emoji(tmp_path / "emoji")
    keras.utils.set_random_seed(5)
    towers = small_towers(16, width=32, layers=1, text_layers=1)
    towers["text"]["context_length"] = 12  # a tokenizer of its own
    teacher_config = dataclasses.replace(STUDENT, **towers)
    teacher = build_model(teacher_config)
    preset = tmp_path / "teacher"
    tokenizer = build_tokenizer(teacher_config)
    teacher.save_to_preset(preset, tokenizer=tokenizer)

    config = DistillConfig(STUDENT, str(preset))
    output = tmp_path / "run"
    drawings, options = DrawingsData(data), RunOptions(output, progress=False)
    model = distill.distill(config, drawings, options)
    with (output / "steps.csv").open(newline="") as stream:
        steps = list(csv.DictReader(stream))
    assert [row["step"] for row in steps] == ["1", "2", "3"]
    assert all(float(row["loss"]) > 0 for row in steps)
    assert json.loads((output / "config.json").read_text())["teacher"] == str(preset)
    student = build_model(STUDENT)
    student.load_weights(output / "model.weights.h5")
    for ours, theirs in zip(student.variables, model.variables, strict=True):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(ours), keras.ops.convert_to_numpy(theirs)
        )
    for ours, theirs in zip(
        PECore.from_preset(str(preset)).variables, teacher.variables, strict=True
    ):
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(ours), keras.ops.convert_to_numpy(theirs)
        )
    with pytest.raises(ValueError, match="already holds a run"):
        distill.distill(config, drawings, options)

    command = ["--resume", "--extend", "--samples", "40", "--output", str(output)]
    for _ in range(2):  # the second time it is a resume of the extended run
        longer = with_samples(STUDENT, distill.parse(command))
        assert longer.stages == (ResolutionStage(16, 5 * 8),)
        config = dataclasses.replace(config, student=longer)
        more = dataclasses.replace(options, resume=True, extend=True)
        distill.distill(config, drawings, more)
    with (output / "steps.csv").open(newline="") as stream:
        steps = [row["step"] for row in csv.DictReader(stream)]
    assert steps == ["1", "2", "3", "4", "5"]


@pytest.mark.quick
def test_an_extension_needs_a_run_and_a_length(tmp_path):
    for command in (["--extend"], ["--extend", "--samples", "64"]):
        with pytest.raises(ValueError, match="--extend needs --output"):
            with_samples(STUDENT, distill.parse(command))
    command = ["--extend", "--samples", "64", "--output", str(tmp_path)]
    with pytest.raises(FileNotFoundError, match="holds no run to extend"):
        with_samples(STUDENT, distill.parse(command))


@pytest.mark.quick
def test_the_command_line_changes_the_student():
    options = distill.parse(
        ["--config", "smoke", "--samples", "640", "--precision", "mixed_bfloat16"]
    )
    base = DISTILLED["smoke"].student
    student = with_overrides(base, options)
    assert (student.samples, student.precision) == (640, "mixed_bfloat16")
    assert student.learning_rate == base.learning_rate
