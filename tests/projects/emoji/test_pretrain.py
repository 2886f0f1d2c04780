"""Pretraining on drawings from shards to weights, on sixteen coloured shapes."""

import csv
import dataclasses
import json
import re
import shlex

import keras
import numpy as np
import pytest

from keras_pe.training.resolution import ResolutionStage
from keras_pe.training.run.config import (
    build_model,
    build_tokenizer,
    read_config,
    small_towers,
)
from keras_pe.training.run.train import BothTokenizers, RunOptions
from projects.emoji import distill, pretrain
from projects.emoji.configs import CONFIGS, DISTILLED, EmojiConfig
from projects.emoji.drawings_data import DrawingsData
from projects.emoji.pairs import AUGMENTATIONS, Drawings, EmojiBatches, shorten
from tests.projects.emoji.small_emoji import VENDORS, write_small_emoji

CONFIG = EmojiConfig(
    **small_towers(16, width=16, layers=1, text_layers=1),
    stages=(ResolutionStage(16, 5 * 8),),
    batch_size=8,
    optimizer="adamw",
    learning_rate=1e-3,
    warmup_steps=1,
    mask_every=4,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_small_emoji(tmp_path_factory.mktemp("emoji"))


def rows(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_train_leaves_a_model_and_its_history(data, tmp_path):
    output = tmp_path / "run"
    drawings = DrawingsData(data)
    options = RunOptions(output, save_every=2, evaluate_every=4, progress=False)
    model = pretrain.pretrain(CONFIG, drawings, options)
    steps, scores = rows(output / "steps.csv"), rows(output / "scores.csv")
    assert [row["step"] for row in steps] == ["1", "2", "3", "4", "5"]
    assert all(float(row["mask_loss"]) > 0 for row in steps)
    assert [row["step"] for row in scores] == ["4", "5"]
    assert all(0 <= float(row["top1"]) <= float(row["top5"]) <= 1 for row in scores)
    settings = json.loads((output / "config.json").read_text())
    assert dataclasses.asdict(read_config(settings)).items() <= (
        dataclasses.asdict(CONFIG).items()
    )
    assert (output / "curves.png").stat().st_size > 10_000
    again = build_model(read_config(settings))
    again.load_weights(output / "model.weights.h5")
    for ours, theirs in zip(again.variables, model.variables, strict=True):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(ours), keras.ops.convert_to_numpy(theirs)
        )

    with pytest.raises(ValueError, match="already holds a run"):
        pretrain.pretrain(CONFIG, drawings, options)
    other = dataclasses.replace(CONFIG, learning_rate=5e-4)
    with pytest.raises(ValueError, match="different: learning_rate"):
        pretrain.pretrain(other, drawings, dataclasses.replace(options, resume=True))


@pytest.mark.quick
@pytest.mark.once
@pytest.mark.parametrize(
    ("recipe", "configs"), [(pretrain, CONFIGS), (distill, DISTILLED)]
)
def test_the_commands_of_the_docstring_are_understood(recipe, configs):
    text = recipe.__doc__.replace("\\\n", " ")
    module = recipe.__name__
    commands = re.findall(rf"python -m {re.escape(module)} (.*)", text)
    assert commands
    for command in commands:
        options = recipe.parse(shlex.split(command))
        assert options.config in configs
        resumed = recipe.parse([*shlex.split(command), "--resume"])
        assert resumed.resume


# === Batches ===
def batches(data, tokenizer=None, leave_out=(), **options):
    return EmojiBatches(
        Drawings(data, ["train"], leave_out),
        tokenizer or build_tokenizer(CONFIG),
        8,
        24,
        seed=3,
        **options,
    )


@pytest.mark.quick
@pytest.mark.once
def test_a_batch_depends_on_seed_and_number_alone(data):
    first = batches(data, augmentation=AUGMENTATIONS["strong"])
    second = batches(data, augmentation=AUGMENTATIONS["strong"])
    second(4)
    for name, value in first(7).items():
        np.testing.assert_array_equal(value, second(7)[name])
    assert not np.array_equal(first(7)["images"], first(6)["images"])


@pytest.mark.quick
@pytest.mark.once
def test_a_round_shows_every_concept_once(data):
    found = batches(data)
    shown = [
        found.drawings.records[pick]["concept"]
        for number in (6, 7)  # two batches of 8 are a round of 16
        for pick in found._picks(number)
    ]
    assert sorted(shown) == list(range(16))


@pytest.mark.quick
@pytest.mark.once
def test_a_vendor_can_be_left_out(data):
    kept = batches(data, leave_out=VENDORS[:1]).drawings.records
    assert {record["vendor"] for record in kept} == {VENDORS[1]}
    assert len(kept) == 16


@pytest.mark.quick
@pytest.mark.once
def test_texts_are_cut_to_what_is_used(data):
    whole, short = batches(data)(1), batches(data, fixed_length=False)(1)
    width = short["token_ids"].shape[1]
    assert width % 4 == 0
    assert width < whole["token_ids"].shape[1] == 20
    np.testing.assert_array_equal(whole["token_ids"][:, :width], short["token_ids"])
    assert not whole["token_ids"][:, width:].any()
    assert shorten(np.ones((2, 6), "int32")).shape == (2, 6)


@pytest.mark.quick
@pytest.mark.once
def test_two_tokenizers_see_the_same_captions(data):
    one = build_tokenizer(CONFIG)
    both = BothTokenizers(one, one)
    found = batches(data, both, fixed_length=False)(2)
    np.testing.assert_array_equal(found["token_ids"], found["teacher_token_ids"])
    plain = batches(data, fixed_length=False)(2)
    np.testing.assert_array_equal(found["token_ids"], plain["token_ids"])


@pytest.mark.quick
@pytest.mark.once
def test_a_batch_can_not_exceed_the_concepts(data):
    with pytest.raises(ValueError, match="more than the 16 concepts"):
        EmojiBatches(Drawings(data, ["train"]), None, 17, 16, 0)
