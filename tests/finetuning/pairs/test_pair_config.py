"""What decides a fine-tuning on pairs, and what of a model it trains."""

import keras
import pytest

from keras_pe.finetuning.pairs.pair_config import (
    BASE,
    check_pair_config,
    fitted,
    make_trainable,
    pair_config,
)
from keras_pe.training.run.overrides import SettingError
from tests.small_models import core

pytestmark = pytest.mark.quick
PRESET = "pe_core_emoji_small_patch8_64"


def test_settings_fit_the_pairs():
    config = pair_config(PRESET, 20, epochs=3)
    assert (config.samples, config.batch_size, config.warmup_steps) == (60, 20, 0)
    assert config.learning_rate == 1e-5
    config = pair_config(PRESET, 100_000, epochs=2, lora_rank=8, batch_size=10)
    assert (config.samples, config.batch_size, config.warmup_steps) == (200_000, 10, 50)
    assert config.learning_rate == 1e-4
    config = pair_config(PRESET, 100, lora_rank=8, learning_rate=1e-3, warmup_steps=1)
    assert (config.learning_rate, config.warmup_steps) == (1e-3, 1)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lora_rank": -1}, "lora_rank=-1"),
        ({"lora_rank": 2, "freeze": "vision"}, "--towers image"),
        ({"lora_towers": "image"}, "without LoRA"),
        ({"lora_rank": 2, "lora_towers": "vision"}, "both or image or text"),
        ({"layer_decay": 0.0}, "layer_decay=0.0"),
        ({"layer_decay": 1.5}, "at most 1"),
        ({"batch_size": 1}, "teaches nothing"),
    ],
)
def test_settings_that_can_not_be(settings, said):
    with pytest.raises(SettingError, match=said):
        pair_config(PRESET, 100, **settings)
    with pytest.raises(SettingError, match="epochs=0"):
        fitted(BASE, 100, 0, lora=False)
    with pytest.raises(SettingError, match="--initial-weights"):
        check_pair_config(BASE)


@pytest.mark.parametrize(
    ("settings", "trained"),
    [
        ({}, {"pe_core", "pe_vision_encoder", "pe_text_encoder"}),
        ({"lora_rank": 2}, {"pe_vision_encoder", "pe_text_encoder"}),
        ({"lora_rank": 2, "lora_towers": "image"}, {"pe_vision_encoder"}),
        ({"lora_rank": 2, "lora_towers": "text"}, {"pe_text_encoder"}),
        ({"freeze": "vision"}, {"pe_core", "pe_text_encoder"}),
    ],
)
def test_what_is_trained(settings, trained):
    keras.backend.clear_session()
    model = core()
    make_trainable(model, pair_config(PRESET, 100, **settings))
    found = [variable.path for variable in model.trainable_variables]
    assert {path.split("/")[0] for path in found} == trained
    if "lora_rank" in settings:
        assert all("lora_kernel" in path for path in found)
