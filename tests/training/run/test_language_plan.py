"""What language alignment needs: against PyTorch's own count, and published sizes."""

import dataclasses
from importlib.util import find_spec

import keras
import numpy as np
import pytest

from keras_pe.training.run.language_config import LanguageConfig
from keras_pe.training.run.language_parts import (
    build_decoder,
    build_language_trainer,
    unallocated_trainer,
)
from keras_pe.training.run.language_plan import plan_language, step_inputs
from keras_pe.training.run.overrides import SettingError
from keras_pe.training.run.training_config import stages_of
from recipes.align_language import CONFIGS
from tests.small_models import VISION, vision_encoder
from tests.training.gradients import loss_and_gradients

BACKEND = keras.backend.backend()
SIDE = 32
PATCHES = (SIDE // VISION["patch_size"]) ** 2
TEXT = 12  # tokens of a sample beside its image

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("presets") / "core"
    vision_encoder(num_layers=3).save_to_preset(folder)
    return str(folder)


def config_of(preset, **changes):
    options = {
        "encoder": preset,
        "layers": 2,
        "drop_path": 0.0,
        "decoder_tokenizer": "pe_core_emoji_small_patch8_64",
        "decoder_dim": 16,
        "decoder_layers": 2,
        "decoder_heads": 2,
        # Two samples a row, which they fill.
        "row_length": 2 * (PATCHES // 4 + TEXT),
        "pooling": 2,
        "warmup_steps": 1,
        **changes,
    }
    return LanguageConfig(stages=stages_of(64, (SIDE,), (1,)), batch_size=4, **options)


# === Operations ===
@pytest.mark.skipif(BACKEND != "torch", reason="PyTorch can count what it runs")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"projector_layers": 1, "merge": "shuffle", "projector_norm": True},
        {"remat": True},
        {"image_chunk_size": 1},
        {"train_encoder": False},
    ],
    ids=lambda changes: "-".join(changes) or "plain",
)
def test_operations_are_those_that_pytorch_counts(preset, changes):
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    config = config_of(preset, **changes)
    trainer = build_language_trainer(config).trainer
    inputs = step_inputs(config, trainer, TEXT)
    data = {name: np.zeros(shape, dtype) for name, (shape, dtype) in inputs.items()}
    assert data["images"].shape == (2, 2, SIDE, SIDE, 3)
    assert data["answer_ids"].shape == (2, TEXT)
    data["answer_weights"] += 1
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        loss_and_gradients(trainer, data)
    planned = plan_language(config, text_tokens=TEXT).stages[0].executed_flops
    # The plan counts a gradient of the images, which nobody asks for.
    patches = 2 * PATCHES * VISION["hidden_dim"] * 3 * VISION["patch_size"] ** 2
    if not config.train_encoder:
        patches = 0
    last = 0
    if config.remat:  # PyTorch leaves out a block's last product, which none needs
        last = 2 * (PATCHES // 4 + TEXT) * 16 * 64 * 2
    assert counter.get_total_flops() == 4 * (planned - patches - last)


def test_a_frozen_decoder_costs_a_pass_less_and_has_no_moments(preset):
    config = config_of(preset, start="somewhere")
    whole = plan_language(config, text_tokens=TEXT)
    frozen = plan_language(
        dataclasses.replace(config, train_decoder=False), text_tokens=TEXT
    )
    assert frozen.trained == ("encoder", "projector")
    one, other = whole.stages[0], frozen.stages[0]
    decoder = unallocated_trainer(config).decoder
    words = TEXT // 2 * decoder.vocabulary_size * 16
    inside = 2 * (3 + 1 + 8) * 16 * 16  # layers: queries to values, output, expansion
    tokens = PATCHES // 4 + TEXT
    assert one.training_flops - other.training_flops == 2 * (tokens * inside + words)
    less = sum(np.prod(w.shape) for w in decoder.weights)
    assert one.memory.gradients - other.memory.gradients == 4 * less
    assert one.memory.parameters == other.memory.parameters


# === Memory ===
def test_what_makes_memory_smaller(preset):
    whole = plan_language(config_of(preset)).stages[0].memory

    def smaller(part, num_devices=1, **changes):
        plan = plan_language(config_of(preset, **changes), num_devices)
        memory = plan.stages[0].memory
        assert getattr(memory, part) < getattr(whole, part), changes
        return memory

    smaller("activations", remat=True)
    smaller("activations", image_chunk_size=1)
    smaller("activations", precision="mixed_bfloat16")
    smaller("activations", train_encoder=False)
    half = smaller("activations", num_devices=2)
    assert half.parameters == whole.parameters
    assert half.batch == whole.batch // 2


# === The paper's runs ===
def test_the_plan_is_printed_with_what_it_assumes(preset):
    printed = str(plan_language(config_of(preset), num_devices=4))
    assert "trained: encoder, projector, decoder" in printed
    assert "260 tokens a sample (4 of its image; 256 of text are an assum" in printed
    assert "small_decoder/block_*/attention/qkv/kernel" in printed


@pytest.mark.skipif(find_spec("keras_hub") is None, reason="KerasHub has the decoder")
def test_the_paper_s_largest_run():
    plan = plan_language(CONFIGS["paper-g14"], num_devices=64)
    assert (plan.samples, plan.steps) == (34_179 * 2048, 34_179)
    assert plan.encoder_parameters / 1e6 == pytest.approx(1740.9, abs=0.1)
    assert plan.decoder_parameters == 3_606_752_256  # KerasHub's own count
    assert plan.training_flops / 1e21 == pytest.approx(2.6, rel=0.05)
    blocks = [g for g in plan.groups if "transformer_layer" in g.pattern]
    assert {group.count for group in blocks} == {28}
    cut = [group for group in plan.groups if group.is_sharded]
    assert sum(g.size for g in cut) / sum(g.size for g in plan.groups) > 0.999


@pytest.mark.skipif(find_spec("keras_hub") is None, reason="KerasHub has the decoder")
def test_a_decoder_of_unknown_size_is_refused():
    config = dataclasses.replace(CONFIGS["paper-g14"], decoder="hub:mine")
    with pytest.raises(SettingError, match=r"knows the sizes of llama3\.2_instruct_1b"):
        plan_language(config, num_devices=64)


def test_a_decoder_of_kerashub_without_it_is_refused(monkeypatch):
    monkeypatch.setattr(
        "keras_pe.training.run.hub_decoders.find_spec", lambda name: None
    )
    with pytest.raises(SettingError, match="pip install keras-hub"):
        plan_language(CONFIGS["paper-g14"], num_devices=64)


def test_the_decoder_that_is_counted_is_the_one_that_is_built(preset):
    config = config_of(preset)
    planned = unallocated_trainer(config).decoder
    built = build_decoder(config, planned.vocabulary_size)
    assert [w.path for w in planned.weights] == [w.path for w in built.weights]
