"""The language probe with models of KerasHub: what reads, and what sees."""

import numpy as np
import pytest

from keras_pe.language import ChatPrompt, KerasHubDecoder
from keras_pe.language.chat_templates import QWEN
from keras_pe.probing import LanguageProbe, intermediate_model, layer_for_llm
from tests.arrays import to_numpy
from tests.language.hub_presets import MORE_IDS, backbone, tokenizer
from tests.probing.asked import questions, quick_probe
from tests.probing.test_language_probe import random_features, samples_of

keras_hub = pytest.importorskip("keras_hub")
pytestmark = pytest.mark.slow


def asked(family="QwenBackbone"):
    """Returns a decoder, and what makes its prompt for so many tokens an image."""
    words = tokenizer(family)
    size = words.vocabulary_size() + MORE_IDS
    decoder = KerasHubDecoder(backbone(family, size), max_length=128)
    # Short: this one has a token for each letter.
    return decoder, lambda tokens: ChatPrompt(words, tokens, None, QWEN, size)


def test_its_answers_are_read_of_a_projector_alone():
    decoder, prompt = asked()
    before = [to_numpy(weight).copy() for weight in decoder.weights]
    probe = quick_probe(decoder=decoder, prompt=prompt, steps=3)
    with samples_of(random_features()) as (train, validation, test):
        fitted = probe.fit(train, validation, 0)
        rows, answers, _ = fitted.answers(test)
    assert len(fitted.weights) == 6  # norm and projector
    assert len(rows) == len(answers) > 6
    for old, new in zip(before, decoder.weights, strict=True):
        np.testing.assert_array_equal(old, to_numpy(new))


@pytest.mark.once
def test_a_function_that_wraps_the_same_model_again_is_refused():
    decoder, prompt = asked()
    probe = quick_probe(
        decoder=lambda: KerasHubDecoder(decoder.backbone, max_length=128), prompt=prompt
    )
    with (
        samples_of(random_features()) as (train, validation, _),
        pytest.raises(ValueError, match="Return a new one each time"),
    ):
        probe.fit(train, validation, 0)


@pytest.mark.once
def test_the_layers_of_its_vision_models_are_read():
    vit = keras_hub.models.ViTBackbone(
        image_shape=(16, 16, 3),
        patch_size=4,
        num_layers=2,
        num_heads=2,
        hidden_dim=16,
        mlp_dim=32,
    )
    layers = ["vit_patching_and_embedding", "vit_encoder"]
    model = intermediate_model(vit, layers)
    decoder, prompt = asked()
    result = layer_for_llm(
        model,
        data=questions(30),
        probe=quick_probe(decoder=decoder, prompt=prompt, steps=2),
        prefix_tokens=1,
        seeds=(0,),
        progress=False,
    )
    assert [row.layer for row in result.overall.layers] == layers
    assert LanguageProbe.metric in str(result)
