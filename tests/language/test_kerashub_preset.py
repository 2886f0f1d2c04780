"""KerasHub's models out of presets: weights, words and template of each family."""

import pickle

import numpy as np
import pytest

from keras_pe import PEImageConverter
from keras_pe.language import (
    ChatPrompt,
    VisionLanguageModel,
    foreign_decoder,
    foreign_prompt,
    hub_decoder,
    hub_prompt,
    save_hub_decoder,
)
from keras_pe.language.chat_templates import CHATML, LLAMA2, TEMPLATES
from keras_pe.language.chat_tokenizers import chat_tokenizer
from keras_pe.language.kerashub import FAMILIES
from keras_pe.language.kerashub_preset import TAUGHT, taught_template
from keras_pe.layers import VisionProjector
from keras_pe.presets import CheckpointError
from tests.arrays import to_numpy
from tests.language.chat_models import byte_pairs, sentence_pieces, written
from tests.language.hub_presets import (
    GEMMA,
    KINDS,
    MORE_IDS,
    PIECES,
    backbone,
    save,
    tokenizer,
)
from tests.language.test_chat_prompt import PUBLISHED, TURNS
from tests.small_models import vision_encoder

keras_hub = pytest.importorskip("keras_hub")
pytestmark = pytest.mark.slow

WIDTH = 32


@pytest.fixture(scope="module", params=list(FAMILIES))
def preset(request, tmp_path_factory):
    if request.param in (*PIECES, *GEMMA):
        pytest.importorskip("sentencepiece")
    folder = tmp_path_factory.mktemp("hub") / request.param
    return request.param, folder, save(folder, request.param)


def test_each_family_is_loaded_and_asked_as_it_was_taught(preset):
    family, folder, made = preset
    decoder = hub_decoder(folder, max_length=256)
    assert type(decoder.backbone).__name__ == family
    for one, other in zip(decoder.weights, made.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(one), to_numpy(other))
    prompt = hub_prompt(folder, decoder, image_tokens=4)
    template = TEMPLATES[KINDS[family][1]]
    assert (prompt.template, prompt.system) == (template, template.told)
    assert prompt.vocabulary_size == decoder.vocabulary_size
    assert prompt.vocabulary_size == prompt.words.size + MORE_IDS
    assert prompt.packs == decoder.packs == (family not in GEMMA)
    found = ChatPrompt(
        prompt.tokenizer if family not in (*PIECES, *GEMMA) else prompt.words,
        4,
        "Be brief.",
        template,
    ).conversation(TURNS, image=False)
    assert written(prompt, found.token_ids) == PUBLISHED[template.name]
    # KerasHub's own layer makes the same of words, and the prompt goes elsewhere.
    words = keras_hub.tokenizers.Tokenizer.from_preset(str(folder))
    for text in ("Is it 12 big? é", "\n\n a  cat\n"):
        assert prompt.words.encode(text) == np.asarray(words.tokenize(text)).tolist()
    again = pickle.loads(pickle.dumps(prompt))
    asked = [one.question("What is it?").token_ids for one in (prompt, again)]
    np.testing.assert_array_equal(*asked)
    assert asked[0].max() < decoder.vocabulary_size
    half = hub_decoder(folder, dtype="mixed_bfloat16", load_weights=False)
    assert half.compute_dtype == "bfloat16"
    assert half.dtype_policy.variable_dtype == "float32"


def model_of(folder, decoder):
    return VisionLanguageModel(
        vision_encoder(num_layers=1),
        VisionProjector(32, WIDTH, pooling=2),
        decoder,
        foreign_prompt(f"hub:{folder}", decoder, 4),
        PEImageConverter(32),
    )


@pytest.mark.parametrize(
    "family",
    [
        "QwenBackbone",
        pytest.param("Gemma3Backbone", marks=pytest.mark.once),
        pytest.param("LlamaBackbone", marks=pytest.mark.once),
    ],
)
def test_a_preset_comes_back_with_the_decoder_that_is_named(tmp_path, family):
    if family != "QwenBackbone":
        pytest.importorskip("sentencepiece")
    save(tmp_path / "hub", family)
    name = f"hub:{tmp_path / 'hub'}"
    model = model_of(tmp_path / "hub", foreign_decoder(name, 512))
    model.save_to_preset(tmp_path / "preset", decoder_handle=name)
    file = "json" if family == "QwenBackbone" else "spm"
    assert (tmp_path / "preset" / f"chat_tokenizer.{file}").is_file()
    again = VisionLanguageModel.from_preset(tmp_path / "preset", decoder=name)
    picture = np.full((8, 8, 3), 90, "uint8")
    asked = ([picture, None], ["What is it?", "Is it big?"], 3)
    assert again.generate(*asked) == model.generate(*asked)
    for one in (model, again):
        assert one.prompt.template.name == KINDS[family][1]
        assert one.prompt.system == one.prompt.template.told
    with pytest.raises(CheckpointError, match=r"Pass decoder=.* --decoder"):
        VisionLanguageModel.from_preset(tmp_path / "preset")
    with pytest.raises(CheckpointError, match="names no language model"):
        VisionLanguageModel.from_preset(tmp_path / "preset", decoder="mine")
    save(tmp_path / "other", family, seed=1)
    other = f"hub:{tmp_path / 'other'}"
    with pytest.raises(CheckpointError, match="has other weights"):
        VisionLanguageModel.from_preset(tmp_path / "preset", decoder=other)


@pytest.mark.parametrize("family", ["LlamaBackbone", "Qwen3Backbone"])
def test_a_trained_decoder_is_written_for_kerashub(tmp_path, family):
    """A Llama's weights are tied, which KerasHub 0.32 does not say in its preset."""
    decoder = foreign_decoder_of(family)
    save_hub_decoder(decoder, tmp_path / "trained")
    again = hub_decoder(tmp_path / "trained")
    assert len(again.weights) == len(decoder.weights)
    for one, other in zip(decoder.weights, again.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(one), to_numpy(other))
    ids = np.array([[3, 1, 4]])
    found = [to_numpy(x.logits(x.run(x.embed(ids)))) for x in (decoder, again)]
    np.testing.assert_allclose(*found, atol=1e-6)
    with pytest.raises(CheckpointError, match="loads no tokenizer"):
        hub_prompt(tmp_path / "trained", again, 4)
    with pytest.warns(UserWarning, match="has no vocabulary"):
        save_hub_decoder(decoder, tmp_path / "again", str(tmp_path / "trained"))
    assert hub_decoder(tmp_path / "again").hidden_dim == WIDTH


def foreign_decoder_of(family):
    from keras_pe.language import KerasHubDecoder

    return KerasHubDecoder(backbone(family, 60), max_length=64)


@pytest.mark.parametrize(
    "family", ["QwenBackbone", pytest.param("GemmaBackbone", marks=pytest.mark.once)]
)
def test_its_vocabulary_is_written_along_and_replaced_with_it(tmp_path, family):
    if family in GEMMA:
        pytest.importorskip("sentencepiece")
    save(tmp_path / "hub", family)
    decoder = hub_decoder(tmp_path / "hub")
    for _ in range(2):
        save_hub_decoder(decoder, tmp_path / "trained", str(tmp_path / "hub"))
    prompts = [hub_prompt(tmp_path / name, decoder, 2) for name in ("hub", "trained")]
    asked = [prompt.question("What?").token_ids for prompt in prompts]
    np.testing.assert_array_equal(*asked)


@pytest.mark.once
def test_a_folder_of_other_things_is_left_alone(tmp_path):
    decoder, folder = foreign_decoder_of("LlamaBackbone"), tmp_path / "mine"

    def refused(*names):
        before = sorted(folder.rglob("*"))
        with pytest.raises(CheckpointError, match=f"mine holds .*{names[0]}"):
            save_hub_decoder(decoder, folder)
        assert sorted(folder.rglob("*")) == before
        assert all((folder / name).exists() for name in names)

    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    refused("thesis.txt")
    (folder / "thesis.txt").unlink()
    save_hub_decoder(decoder, folder)  # an empty one
    save_hub_decoder(decoder, folder)  # one of its own
    (folder / "assets" / "tokenizer").mkdir(parents=True)
    (folder / "assets" / "tokenizer" / "thesis.txt").write_text("years of work")
    refused("assets/tokenizer/thesis.txt")
    # A vision encoder's files have the same names.
    vision_encoder(num_layers=1).save_to_preset(tmp_path / "encoder")
    folder = tmp_path / "encoder"
    with pytest.raises(CheckpointError, match=r"encoder holds .*config\.json"):
        save_hub_decoder(decoder, folder)
    assert (folder / "model.weights.h5").is_file()


# === Templates ===
@pytest.mark.once
def test_each_family_has_templates():
    assert set(TAUGHT) == set(FAMILIES)


@pytest.mark.once
def test_the_vocabulary_says_which_template_it_is():
    decoder = foreign_decoder_of("LlamaBackbone")
    of_chatml = chat_tokenizer(byte_pairs(CHATML.tokens))
    assert taught_template(decoder, of_chatml) == CHATML  # SmolLM2
    of_llama2 = chat_tokenizer(byte_pairs(LLAMA2.tokens))
    assert taught_template(decoder, of_llama2) == LLAMA2
    mistral = foreign_decoder_of("MistralBackbone")
    for name in ("mistral", "mistral-v1"):
        words = chat_tokenizer(byte_pairs(TEMPLATES[name].tokens))
        assert taught_template(mistral, words).name == name


# === What is refused ===
@pytest.mark.once
def test_a_model_of_text_alone_is_refused_by_name(tmp_path):
    save(tmp_path / "base", "QwenBackbone", marks=())
    decoder = hub_decoder(tmp_path / "base")
    with pytest.raises(
        CheckpointError,
        match=r"base: .* this QwenBackbone lacks marks of qwen2\.5 \(<\|im_start\|>, "
        r"<\|im_end\|>\).* instruct model",
    ):
        hub_prompt(tmp_path / "base", decoder, 4)


@pytest.mark.once
def test_other_models_and_places_are_refused(tmp_path):
    bert = keras_hub.models.BertBackbone(50, 1, 2, 32, 48, max_sequence_length=8)
    bert.save_to_preset(str(tmp_path / "bert"))
    with pytest.raises(CheckpointError, match="A BertBackbone is none"):
        hub_decoder(tmp_path / "bert")
    with pytest.raises(CheckpointError, match="loads no model from 'mine'"):
        hub_decoder("mine")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"empty.* has no config\.json"):
        hub_decoder(tmp_path / "empty")
    for name in ("hub:", "llama"):
        with pytest.raises(ValueError, match="names no language model"):
            foreign_decoder(name)


@pytest.mark.once
def test_a_vocabulary_of_another_model_is_refused(tmp_path):
    save(tmp_path / "hub", "QwenBackbone")
    with pytest.raises(CheckpointError, match=r"ids, and the decoder 60"):
        hub_prompt(tmp_path / "hub", foreign_decoder_of("QwenBackbone"), 4)


@pytest.mark.once
def test_a_layer_that_adds_tokens_is_refused():
    words = tokenizer("QwenBackbone")
    words.sequence_length = 64
    with pytest.raises(CheckpointError, match="may be set to add tokens"):
        chat_tokenizer(words)
    pytest.importorskip("sentencepiece")
    content = sentence_pieces(("<s>", "</s>"))
    words = keras_hub.tokenizers.LlamaTokenizer(content, add_bos=True)
    with pytest.raises(CheckpointError, match="may be set to add tokens"):
        chat_tokenizer(words)
    assert chat_tokenizer(keras_hub.tokenizers.LlamaTokenizer(content)).size
