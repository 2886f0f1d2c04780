"""Each family of KerasHub: embeddings as ids, cached as not, packed as apart."""

import numpy as np
import pytest

from keras_pe import PELang
from keras_pe.data.packing import Document, packed_row
from keras_pe.language import generate
from keras_pe.language.kerashub import FAMILIES, KerasHubDecoder
from keras_pe.layers import VisionProjector
from keras_pe.training import LanguageAlignmentTrainer
from tests.arrays import to_numpy
from tests.small_models import images, perturb, vision_encoder
from tests.training.gradients import loss_and_gradients

keras_hub = pytest.importorskip("keras_hub")
pytestmark = pytest.mark.slow

WORDS, WIDTH = 50, 32
COMMON = {
    "vocabulary_size": WORDS,
    "num_layers": 2,
    "hidden_dim": WIDTH,
    "intermediate_dim": 48,
    "num_query_heads": 4,
    "num_key_value_heads": 2,
}
SMOLLM3 = {
    **{k: v for k, v in COMMON.items() if k != "num_query_heads"},
    "num_attention_heads": 4,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "rope_layer_enabled_list": [True, False],
    "layer_types": ["full_attention"] * 2,
    "mlp_bias": False,
    "layer_norm_epsilon": 1e-5,
    "max_position_embeddings": 64,
    "rope_theta": 10_000.0,
    "partial_rotary_factor": 1.0,
}
OPTIONS = {
    "LlamaBackbone": {**COMMON, "tie_word_embeddings": True},
    "Qwen3Backbone": {**COMMON, "head_dim": 16},
    "GemmaBackbone": {**COMMON, "head_dim": 16},
    "Gemma3Backbone": {**COMMON, "head_dim": 16, "image_size": 16},
    "SmolLM3Backbone": SMOLLM3,
}
IDS = np.random.default_rng(0).integers(0, WORDS, (3, 7)).astype("int32")


def backbone(family):
    make = getattr(keras_hub.models, family)
    return perturb(make(**OPTIONS.get(family, COMMON)))


@pytest.fixture(scope="module", params=list(FAMILIES))
def decoder(request):
    return KerasHubDecoder(backbone(request.param), max_length=32)


def test_embeddings_give_what_ids_do(decoder):
    found = to_numpy(decoder.run(decoder.embed(IDS)))
    given = {"token_ids": IDS, "padding_mask": np.ones_like(IDS)}
    expected = decoder.backbone(given)
    if isinstance(expected, dict):
        expected = expected["sequence_output"]
    np.testing.assert_allclose(found, to_numpy(expected), atol=1e-5)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_with_a_cache_it_gives_the_same(decoder, rows):
    x = to_numpy(decoder.embed(IDS[:rows]))
    whole = to_numpy(decoder.run(x))
    caches, pieces = decoder.new_caches(rows, 9), []
    for start, stop in ((0, 4), (4, 5), (5, 6), (6, 7)):
        found, caches = decoder.run_cached(x[:, start:stop], caches, start)
        pieces.append(to_numpy(found))
    np.testing.assert_allclose(np.concatenate(pieces, 1), whole, atol=2e-5)


def test_padding_on_the_right_changes_nothing(decoder):
    x = to_numpy(decoder.embed(IDS)).copy()
    before = to_numpy(decoder.run(x[:, :5]))
    documents = np.array([[1] * 5 + [0] * 2] * 3)
    found = to_numpy(decoder.run(x, documents=documents))
    np.testing.assert_allclose(found[:, :5], before, atol=1e-5)
    assert np.isfinite(found).all()


def test_documents_in_one_row_are_as_apart(decoder):
    if not decoder.packs:
        pytest.skip("this family takes no mask")
    x = to_numpy(decoder.embed(IDS[:1]))
    documents = np.array([[1, 1, 1, 2, 2, 2, 2]])
    found = to_numpy(decoder.run(x, documents=documents))
    for part in (slice(0, 3), slice(3, 7)):
        alone = to_numpy(decoder.run(x[:, part]))
        np.testing.assert_allclose(found[:, part], alone, atol=2e-5)


def test_answers_are_those_of_each_prompt_alone(decoder):
    x = to_numpy(decoder.embed(IDS))
    lengths = [3, 7, 5]
    found = generate(decoder, x, 0, max_tokens=4, lengths=lengths)
    for row, length, answer in zip(x, lengths, found, strict=True):
        alone = generate(decoder, row[None, :length], 0, max_tokens=4)
        assert answer.tolist() == alone[0].tolist()


def test_logits_are_float32_of_all_words(decoder):
    found = decoder.logits(decoder.run(decoder.embed(IDS)))
    assert tuple(found.shape) == (3, 7, WORDS)
    assert to_numpy(found).dtype == np.float32


def test_it_is_made_again_of_its_configuration(decoder):
    twin = KerasHubDecoder.from_config(decoder.get_config())
    assert type(twin.backbone) is type(decoder.backbone)
    assert [w.shape for w in twin.weights] == [w.shape for w in decoder.weights]


def test_other_models_are_refused_by_name():
    with pytest.raises(TypeError, match=r"A BertBackbone is none .* Llama3Backbone"):
        KerasHubDecoder(
            keras_hub.models.BertBackbone(50, 1, 2, 32, 48, max_sequence_length=8)
        )


@pytest.mark.parametrize("family", ["Llama3Backbone", "Gemma3Backbone"])
def test_blocks_that_are_computed_again_change_nothing(family):
    def found(remat):
        encoder = perturb(PELang.from_core(vision_encoder(num_layers=2), drop_path=0.0))
        projector = perturb(VisionProjector(encoder.hidden_dim, WIDTH, pooling=2))
        decoder = KerasHubDecoder(backbone(family), max_length=32, remat=remat)
        trainer = LanguageAlignmentTrainer(encoder, projector, decoder)
        shown = np.repeat([False, True, False], [1, 4, 4])
        answer = np.arange(9) > 6
        row = packed_row([Document(np.arange(9), answer, shown)], 12, 3)
        batch = {name: array[None] for name, array in row.items()}
        return loss_and_gradients(trainer, {"images": images(1)[None], **batch})

    (loss, gradients), (other, others) = found(True), found(False)
    assert loss == pytest.approx(other, rel=1e-6)
    assert len(gradients) > 30
    for path, gradient in gradients.items():
        np.testing.assert_allclose(
            gradient, others[path], rtol=1e-5, atol=1e-5, err_msg=path
        )
