"""Fine-tuning of a preset on own shards, from the command line."""

import csv
import dataclasses

import numpy as np
import pytest
from keras import ops

from keras_pe import PECore, PETokenizer
from keras_pe.training.run.config import (
    build_model,
    build_tokenizer,
    build_trainer,
    freeze,
)
from keras_pe.training.run.initial_weights import towers_of, with_architecture
from keras_pe.training.run.options import with_overrides
from keras_pe.training.run.shard_data import ShardData
from keras_pe.training.run.train import RunOptions
from recipes import pretrain
from recipes.configs import CONFIGS, FINETUNE
from tests.data.shards import write_shards
from tests.recipes.small_runs import SMALL, save_small_preset

PRESETS = ("pe_core_emoji_patch8_64", "pe_core_emoji_small_patch8_64")


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return save_small_preset(tmp_path_factory.mktemp("preset") / "small")


# === The architecture of weights ===
@pytest.mark.quick
@pytest.mark.parametrize("name", PRESETS)
def test_the_towers_of_a_bundled_preset(name):
    config = with_architecture(FINETUNE, name)
    model, given = build_model(config), PECore.from_preset(name)
    shapes = [tuple(variable.shape) for variable in model.variables]
    assert shapes == [tuple(variable.shape) for variable in given.variables]
    assert [stage.image_size for stage in config.stages] == [64]
    assert build_tokenizer(config)("an owl").tolist() == (
        PETokenizer.from_preset(name)("an owl").tolist()
    )


@pytest.mark.quick
@pytest.mark.parametrize("name", ["PE-Core-T16-384", "PE-Core-S16-384"])
def test_the_towers_of_a_published_model_need_no_download(name):
    config = with_architecture(CONFIGS["paper-b16"], name)
    paper = CONFIGS[f"paper-{name[8:11].lower()}"]
    assert (config.vision, config.text) == (paper.vision, paper.text)
    assert [stage.image_size for stage in config.stages] == [192, 272, 384]
    assert [s.samples for s in config.stages] == [
        s.samples for s in CONFIGS["paper-b16"].stages
    ]


@pytest.mark.quick
def test_sizes_of_the_small_published_models():
    # Source: the model card, apps/pe/README.md upstream.
    t, s = CONFIGS["paper-t16"], CONFIGS["paper-s16"]
    assert (t.vision["hidden_dim"], s.vision["hidden_dim"]) == (192, 384)
    assert t.vision["num_layers"] == s.vision["num_layers"] == 12
    assert t.text["hidden_dim"] == s.text["hidden_dim"] == 512
    assert t.stages[-1].image_size == s.stages[-1].image_size == 384


@pytest.mark.quick
def test_weights_that_do_not_tell(tmp_path):
    with pytest.raises(ValueError, match="weights alone"):
        towers_of("run/model.weights.h5")
    with pytest.raises(ValueError, match="has no text tower"):
        towers_of("PE-Spatial-B16-512")
    with pytest.raises(ValueError, match="give --initial-weights"):
        pretrain.pretrain(FINETUNE, ShardData("nothing"), RunOptions(tmp_path))
    options = pretrain.parse(["--config", "smoke", "--architecture", "weights"])
    with pytest.raises(ValueError, match="needs --initial-weights"):
        with_overrides(CONFIGS["smoke"], options)


# === The run ===
def values(model):
    return {v.path: ops.convert_to_numpy(v).copy() for v in model.variables}


@pytest.mark.parametrize(
    "frozen", [pytest.param("none", marks=pytest.mark.once), "vision", "text"]
)
def test_a_preset_is_tuned_and_a_frozen_tower_stays(
    frozen, preset, tmp_path, monkeypatch, capsys
):
    folder = tmp_path / "data"
    folder.mkdir()
    write_shards(folder)
    line = (
        f"recipe --config finetune --data {folder} --output {tmp_path / 'run'} --quiet "
        f"--initial-weights {preset} --samples 12 --batch-size 4 --warmup-steps 1 "
        f"--learning-rate 1e-2 --freeze {frozen} --set image_chunk_size=2"
    )
    monkeypatch.setattr("sys.argv", line.split())
    pretrain.main()
    before = values(PECore.from_preset(str(preset)))
    after = values(PECore.from_preset(str(tmp_path / "run" / "preset")))
    assert before.keys() == after.keys()
    moved = {path for path in before if not np.array_equal(before[path], after[path])}
    for tower in ("vision", "text"):
        own = {path for path in before if f"pe_{tower}_encoder" in path}
        assert own
        if tower == frozen:
            assert not moved & own
        else:
            # Rows of words that never came and biases of keys get no gradient.
            assert len(moved & own) > len(own) / 2
    rows = list(csv.DictReader((tmp_path / "run" / "steps.csv").open()))
    assert len(rows) == 3
    other = {"none": "text", "vision": "none", "text": "vision"}[frozen]
    again = line.replace(f"--freeze {frozen}", f"--freeze {other} --resume")
    monkeypatch.setattr("sys.argv", again.split())
    with pytest.raises(SystemExit):
        pretrain.main()
    assert "different: freeze" in capsys.readouterr().err


@pytest.mark.quick
def test_a_frozen_tower_has_no_trainable_weights():
    for frozen, tower in (("vision", "vision_encoder"), ("text", "text_encoder")):
        model = build_model(SMALL)
        freeze(model, frozen)
        trainer = build_trainer(
            dataclasses.replace(SMALL, mask_weight=0.0, warmup_steps=0), model
        )
        held = {id(v) for v in getattr(model, tower).variables}
        assert not held & {id(v) for v in trainer.trainable_variables}
        assert len(trainer.trainable_variables) == len(model.variables) - len(held)
