"""Language alignment with KerasHub's models: both phases, to the bit, and answers."""

import dataclasses

import numpy as np
import pytest

from keras_pe import PELang
from keras_pe.cli.main import main as keras_pe
from keras_pe.language import VisionLanguageModel
from keras_pe.training.run.align_language import align_language, check_alignment
from keras_pe.training.run.checkpoint import RunCheckpoints
from keras_pe.training.run.language_parts import (
    build_language_trainer,
    unallocated_trainer,
)
from keras_pe.training.run.overrides import SettingError
from keras_pe.training.run.question_data import QuestionData
from keras_pe.training.run.train import RunOptions
from keras_pe.training.run.training_run import RunMismatch
from tests.arrays import to_numpy
from tests.language.hub_presets import GEMMA, save
from tests.recipes import test_align_language as recipe

pytest.importorskip("keras_hub")
pytestmark = pytest.mark.slow

preset, shards = recipe.preset, recipe.shards
SIDE = recipe.SIDE
FROZEN = {"train_encoder": False, "train_decoder": False}


def config_of(preset, folder, **changes):
    options = {"row_length": 256, "learning_rate": 1e-3, "drop_path": 0.0}
    options |= {"decoder_tokenizer": None, **changes}
    return recipe.config_of(preset, decoder=f"hub:{folder}", **options)


def options_of(folder, **changes):
    return RunOptions(folder, progress=False, **changes)


def same(one, other):
    pairs = zip(one.weights, other.weights, strict=True)
    return all(np.array_equal(to_numpy(a), to_numpy(b)) for a, b in pairs)


def test_both_phases_and_a_question_at_the_end(preset, shards, tmp_path, capsys):
    save(tmp_path / "hub", "Qwen3Backbone")
    data = QuestionData(shards)
    first = config_of(preset, tmp_path / "hub", **FROZEN)
    check_alignment(first)
    warm = align_language(first, data, options_of(tmp_path / "warm"))
    assert warm.prompt.template.name == "qwen3"
    kept, _ = RunCheckpoints(tmp_path / "warm" / "checkpoints").load()
    assert any("projector" in name for name in kept)
    assert not any("backbone" in name for name in kept)  # frozen: its handle is noted
    assert not (tmp_path / "warm" / "decoder").exists()

    where = str(tmp_path / "warm" / "preset")
    second = config_of(preset, tmp_path / "hub", start=where)
    trained = align_language(second, data, options_of(tmp_path / "all"))
    assert not same(trained.decoder, warm.decoder)
    assert PELang.from_preset(str(tmp_path / "all" / "preset")).layer_scale == 0.1

    # What was trained lies beside the preset, and answers with it.
    where, name = tmp_path / "all" / "preset", f"hub:{tmp_path / 'all' / 'decoder'}"
    again = VisionLanguageModel.from_preset(where, decoder=name)
    assert same(again.decoder, trained.decoder)
    picture = np.full((SIDE, SIDE, 3), 80, "uint8")
    asked = (picture, "What is it?", 3)
    answer = again.generate(*asked)
    assert answer == trained.generate(*asked)
    with pytest.raises(ValueError, match="has other weights"):
        VisionLanguageModel.from_preset(where, decoder=f"hub:{tmp_path / 'hub'}")

    from PIL import Image

    Image.fromarray(picture).save(tmp_path / "a.png")
    line = ["ask", str(tmp_path / "a.png"), "What is it?", "--max-tokens", "3"]
    capsys.readouterr()
    assert keras_pe([*line, "--preset", str(where), "--decoder", name]) == 0
    assert capsys.readouterr().out.rstrip("\n") == f"{tmp_path / 'a.png'}: {answer}"

    # It goes on from there, too, as any preset of KerasHub's.
    third = config_of(str(where), tmp_path / "all" / "decoder", start=str(where))
    check_alignment(third)
    assert same(build_language_trainer(third).model.decoder, trained.decoder)


@pytest.mark.parametrize("frozen", [True, pytest.param(False, marks=pytest.mark.once)])
def test_a_run_that_was_stopped_goes_on_to_the_bit(preset, shards, tmp_path, frozen):
    save(tmp_path / "hub", "Llama3Backbone")
    config = config_of(preset, tmp_path / "hub", **(FROZEN if frozen else {}))
    whole = align_language(config, QuestionData(shards), options_of(tmp_path / "whole"))
    options = options_of(tmp_path / "halves", save_every=1)
    with pytest.raises(InterruptedError):
        align_language(config, recipe.Stopping(shards), options)
    again = dataclasses.replace(options, resume=True)

    save(tmp_path / "hub", "Llama3Backbone", seed=1)  # another model in its place
    if frozen:
        with pytest.raises(RunMismatch, match="teachers"):
            align_language(config, QuestionData(shards), again)
    marks = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>"]
    save(tmp_path / "hub", "Llama3Backbone", marks=["<|eot_id|>", *marks])
    with pytest.raises(RunMismatch, match=r"prompt\.sha256"):
        align_language(config, QuestionData(shards), again)

    save(tmp_path / "hub", "Llama3Backbone")
    resumed = align_language(config, QuestionData(shards), again)
    for part in ("encoder", "projector", "decoder"):
        assert same(getattr(resumed, part), getattr(whole, part))
    logs = [recipe.rows(tmp_path / name) for name in ("whole", "halves")]
    assert [row["loss"] for row in logs[0]] == [row["loss"] for row in logs[1]]


@pytest.mark.once
@pytest.mark.parametrize("family", GEMMA)
def test_a_model_without_masks_has_a_row_for_each_document(
    preset, shards, tmp_path, family
):
    pytest.importorskip("sentencepiece")
    save(tmp_path / "hub", family)
    config = config_of(preset, tmp_path / "hub", **FROZEN)
    parts = build_language_trainer(config)
    data = QuestionData(shards)
    (batch, *_) = data.batches(config, parts.model.prompt)(recipe_stage(config), 0, 1)
    batch = batch[0] if isinstance(batch, tuple) else batch
    assert batch["documents"].max() == 1
    assert batch["images"].shape[1] == 1
    assert batch["answer_weights"].any(axis=1).sum() == config.batch_size
    align_language(config, data, options_of(tmp_path / "run"))


def recipe_stage(config):
    from keras_pe.training.resolution import plan_stages

    return plan_stages(config.stages, config.batch_size)[0]


@pytest.mark.once
def test_the_decoder_that_is_counted_is_the_one_that_is_built(preset, tmp_path):
    save(tmp_path / "hub", "QwenBackbone")
    config = config_of(preset, tmp_path / "hub")
    planned = unallocated_trainer(config).decoder
    built = build_language_trainer(config).model.decoder
    assert [w.path for w in planned.weights] == [w.path for w in built.weights]
    assert [w.shape for w in planned.weights] == [w.shape for w in built.weights]


# === What is refused ===
@pytest.mark.once
def test_what_can_not_be_had_is_said_before_the_run(preset, tmp_path):
    for name in ("mine", "kaggle://a"):  # neither asks the network
        message = f"decoder=hub:{name}: KerasHub loads no model from '{name}'"
        with pytest.raises(SettingError, match=message):
            check_alignment(config_of(preset, name))
    save(tmp_path / "base", "QwenBackbone", marks=())
    with pytest.raises(SettingError, match=r"lacks marks of qwen2\.5"):
        check_alignment(config_of(preset, tmp_path / "base"))
    import keras_hub

    bert = keras_hub.models.BertBackbone(50, 1, 2, 32, 48, max_sequence_length=8)
    bert.save_to_preset(str(tmp_path / "bert"))
    with pytest.raises(SettingError, match=r"A BertBackbone is none .*decoder=small"):
        check_alignment(config_of(preset, tmp_path / "bert"))
    from keras_pe.language import hub_decoder

    save(tmp_path / "bare", "QwenBackbone")
    (tmp_path / "bare" / "tokenizer.json").unlink()
    assert hub_decoder(tmp_path / "bare").hidden_dim == 32
    with pytest.raises(SettingError, match="loads no tokenizer"):
        check_alignment(config_of(preset, tmp_path / "bare"))


@pytest.mark.once
def test_without_kerashub_it_says_so(preset, monkeypatch):
    monkeypatch.setattr(
        "keras_pe.training.run.hub_decoders.find_spec", lambda name: None
    )
    with pytest.raises(SettingError, match="pip install keras-hub"):
        check_alignment(config_of(preset, "llama3.2_instruct_1b"))
