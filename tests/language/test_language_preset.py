"""Vision language models as presets: the same after a round trip, or refused."""

import dataclasses
import json
import shutil

import ml_dtypes
import numpy as np
import pytest

from keras_pe import PEImageConverter, PELang, PETokenizer
from keras_pe.language import QuestionPrompt, VisionLanguageModel
from keras_pe.language.chat_prompt import ChatPrompt
from keras_pe.language.chat_templates import CHATML
from keras_pe.layers import VisionProjector
from keras_pe.presets import CheckpointError
from keras_pe.presets.checksums import write_metadata
from tests.arrays import to_numpy
from tests.language.test_small_decoder import decoder
from tests.small_models import perturb, vision_encoder

pytestmark = pytest.mark.quick

WORDS = 540
GONE = object()  # instead of a value: there is none
CHAT = {"kind": "ChatPrompt", "image_tokens": 4, "system": None}


def build(depth=2, merge="average", **changes):
    core = vision_encoder(num_layers=2, image_size=16, patch_size=4)
    encoder = perturb(PELang.from_core(core, layers=1))
    options = {"pooling": 2, "merge": merge, "depth": depth, "norm": depth == 1}
    projector = VisionProjector(32, 16, **options)
    return VisionLanguageModel(
        encoder,
        perturb(projector, 1),
        decoder(vocabulary_size=WORDS, max_length=32, **changes),
        QuestionPrompt(PETokenizer(16, WORDS), 4),
        PEImageConverter(16),
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    model = build()
    directory = tmp_path_factory.mktemp("language") / "preset"
    model.save_to_preset(directory, metadata={"score": 0.5})
    return model, directory


def weights(model):
    parts = (model.encoder, model.projector, model.decoder)
    return [to_numpy(variable) for part in parts for variable in part.weights]


def picture():
    return np.random.default_rng(0).integers(0, 256, (20, 16, 3), "uint8")


def test_a_round_trip_keeps_every_bit_and_every_answer(saved):
    model, directory = saved
    again = VisionLanguageModel.from_preset(directory)
    for one, other in zip(weights(model), weights(again), strict=True):
        np.testing.assert_array_equal(one, other)
    answers = [m.generate(picture(), "what", max_tokens=4) for m in (model, again)]
    assert answers[0] == answers[1]
    assert again.prompt.image_tokens == 4
    assert again.image_converter.image_size == (16, 16)
    assert all((again.decoder.trainable, again.projector.trainable))
    assert isinstance(again.encoder, PELang)


def test_whoever_may_read_one_file_may_read_all(saved):
    assert len({path.stat().st_mode for path in saved[1].iterdir()}) == 1


def test_how_it_spells_is_kept(saved, tmp_path):
    model = build()
    assert not VisionLanguageModel.from_preset(saved[1]).prompt.spell_answers
    asked = ("What does it say?",)
    model.prompt = QuestionPrompt(PETokenizer(16, WORDS), 4, True, asked)
    model.save_to_preset(tmp_path / "spells")
    again = VisionLanguageModel.from_preset(tmp_path / "spells")
    assert again.prompt.spell_answers
    assert again.prompt.spelled_questions == asked
    answers = [m.generate(picture(), "what", max_tokens=4) for m in (model, again)]
    assert answers[0] == answers[1]


def test_the_encoder_loads_without_the_rest(saved):
    model, directory = saved
    alone = PELang.from_preset(directory)
    for one, other in zip(model.encoder.weights, alone.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(one), to_numpy(other))
    assert PETokenizer.from_preset(directory).vocabulary_size == WORDS


@pytest.mark.parametrize(("depth", "dtype"), [(1, "float16"), (2, "bfloat16")])
def test_other_projectors_and_half_precision(tmp_path, depth, dtype):
    model = build(depth, "shuffle", layer_scale=0.5)
    model.save_to_preset(tmp_path / "half", dtype=dtype)
    again = VisionLanguageModel.from_preset(tmp_path / "half")
    for one, other in zip(weights(model), weights(again), strict=True):
        halved = one.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
        np.testing.assert_array_equal(halved.astype("float32"), other)
    low = VisionLanguageModel.from_preset(tmp_path / "half", dtype="mixed_bfloat16")
    assert low.decoder.compute_dtype == low.projector.compute_dtype == "bfloat16"
    assert low.encoder.compute_dtype == "bfloat16"
    assert isinstance(low.generate(picture(), "what", max_tokens=2), str)


def test_lora_of_the_decoder_is_merged(tmp_path):
    model = build()
    model.decoder.enable_lora(2)
    for variable in model.decoder.trainable_variables:
        variable.assign(np.full(tuple(variable.shape), 0.05, "float32"))
    model.save_to_preset(tmp_path / "merged")
    again = VisionLanguageModel.from_preset(tmp_path / "merged")
    x = np.random.default_rng(0).normal(size=(1, 3, 16)).astype("float32")
    runs = [to_numpy(m.decoder.run(x)) for m in (model, again)]
    np.testing.assert_allclose(runs[0], runs[1], atol=1e-5)
    assert not again.decoder.has_lora


def chat_tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    marks = ["<|im_start|>", "<|im_end|>"]
    words = [*marks, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    ids = {word: number for number, word in enumerate(words)}
    found = Tokenizer(models.BPE(vocab=ids, merges=[]))
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = decoders.ByteLevel()
    found.add_special_tokens(marks)
    return found


def test_a_prompt_in_chatml_comes_back(tmp_path):
    made = build()
    words = chat_tokenizer()
    parts = (
        made.encoder,
        made.projector,
        decoder(vocabulary_size=words.get_vocab_size(), max_length=128),
        ChatPrompt(words, 4, "Answer."),
        made.image_converter,
    )
    VisionLanguageModel(*parts).save_to_preset(tmp_path / "chat")
    again = VisionLanguageModel.from_preset(tmp_path / "chat")
    one, other = (
        prompt.document("wh-at 12", "so") for prompt in (parts[3], again.prompt)
    )
    np.testing.assert_array_equal(one.token_ids, other.token_ids)
    assert again.prompt.text(other.token_ids[other.answer]) == "so"
    # As presets were before there was another template.
    older = changed((None, tmp_path / "chat"), tmp_path, prompt__template=GONE)
    before = VisionLanguageModel.from_preset(older).prompt
    assert before.template == parts[3].template == CHATML
    np.testing.assert_array_equal(
        before.document("wh-at 12", "so").token_ids, one.token_ids
    )
    path = tmp_path / "chat" / "chat_tokenizer.json"
    path.write_text(path.read_text().replace("BPE", "BPX"))
    with pytest.raises(CheckpointError, match="chat_tokenizer"):
        VisionLanguageModel.from_preset(tmp_path / "chat")


def test_a_template_of_ones_own_is_not_saved(tmp_path):
    model = build()
    mine = dataclasses.replace(CHATML, between="")
    words = chat_tokenizer()
    model.prompt = ChatPrompt(words, 4, None, mine, vocabulary_size=WORDS)
    with pytest.raises(CheckpointError, match="template 'chatml' can't be saved"):
        model.save_to_preset(tmp_path / "mine")
    assert not list(tmp_path.iterdir())


# === What is refused ===
def changed(saved, tmp_path, **changes):
    """Returns a copy with another language.json and checksums that are right."""
    _, directory = saved
    copy = tmp_path / "changed"
    shutil.copytree(directory, copy)
    found = json.loads((copy / "language.json").read_text())
    for path, value in changes.items():
        *before, last = path.split("__")
        inside = found
        for name in before:
            inside = inside[name]
        if value is GONE:
            del inside[last]
        else:
            inside[last] = value
    (copy / "language.json").write_text(json.dumps(found))
    (copy / "metadata.json").unlink()
    write_metadata(copy, {})
    return copy


@pytest.mark.once
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format is 2, expected 1"),
        ({"decoder__kind": "os.system"}, "decoder is a 'os.system', expected Small"),
        ({"decoder__module": "os"}, "decoder has .*module"),
        ({"decoder__num_layers": 10**9}, "1,000,000,000 blocks"),
        ({"decoder__num_layers": "2"}, "num_layers must be"),
        ({"decoder__hidden_dim": 10**12}, r"decoder/.* is \(.*, not"),
        ({"decoder__max_length": 10**9}, "max_length is 1000000000, expected at most"),
        ({"decoder__num_heads": 3}, "describes no language model"),
        ({"decoder__dtype": "int8"}, "dtype is 'int8'"),
        ({"decoder__drop_path": 2.0}, "drop_path"),
        ({"projector__merge": "eval"}, "merge must be"),
        ({"projector__depth": 1}, "expand/.* belongs to no weight"),
        ({"projector__norm": 1}, "norm is 1, expected true or false"),
        ({"projector__norm": True}, "projector/norm/.* is missing"),
        ({"projector__input_dim": 8}, r"is \(32, 16\), not \(8, 16\)"),
        ({"prompt__kind": "ChatPrompt"}, "prompt has .*expected .*system"),
        ({"prompt__kind": "Other"}, "prompt is a 'Other'"),
        ({"prompt": CHAT | {"template": "jinja"}}, "template is 'jinja', expected one"),
        ({"prompt": CHAT | {"template": {}}}, "template is {}, expected one"),
        ({"prompt__spell_answers": "no"}, "spell_answers is 'no'"),
        ({"prompt__spelled_questions": "no"}, "spelled_questions are 'no'"),
        ({"prompt__spelled_questions": [1]}, "are the texts of questions"),
        ({"prompt__spelled_questions": ["a"]}, "need spell_answers=True"),
        ({"prompt__image_tokens": 9}, "do not fit.* 4 tokens .* prompt has 9.* again"),
        ({"prompt__image_tokens": 0}, "image_tokens must be a whole number"),
        ({"prompt__image_tokens": "4"}, "image_tokens must be a whole number"),
        ({"projector__pooling": 10**9}, "do not fit together"),
        ({"encoder_layers": True}, "encoder_layers must be a whole number"),
        ({"encoder_layers": 3}, "of 3 blocks, and the one beside it has 1"),
        ({"more": 1}, "it has .*more"),
    ],
)
def test_other_descriptions_are_refused(saved, tmp_path, changes, message):
    with pytest.raises(CheckpointError, match=message):
        VisionLanguageModel.from_preset(changed(saved, tmp_path, **changes))


@pytest.mark.once
@pytest.mark.parametrize("name", ["language.json", "language.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_damaged_files_are_named(saved, tmp_path, name, damage):
    copy = tmp_path / "damaged"
    shutil.copytree(saved[1], copy)
    content = (copy / name).read_bytes()
    if damage == "gone":
        (copy / name).unlink()
    elif damage == "cut":
        (copy / name).write_bytes(content[:-20])
    else:
        middle = len(content) // 2
        flipped = bytes([content[middle] ^ 1])
        (copy / name).write_bytes(content[:middle] + flipped + content[middle + 1 :])
    with pytest.raises(CheckpointError, match=name):
        VisionLanguageModel.from_preset(copy)


@pytest.mark.once
@pytest.mark.parametrize("dtype", ["int8", "int8_from_float32", "wide", 3, [16]])
def test_a_dtype_that_is_none_is_not_called_a_damaged_file(saved, tmp_path, dtype):
    model, directory = saved
    with pytest.raises(CheckpointError, match=r"dtype=.*: expected a dtype or policy"):
        VisionLanguageModel.from_preset(directory, dtype=dtype)
    with pytest.raises(CheckpointError, match=r"dtype=.*: expected one of float16"):
        model.save_to_preset(tmp_path / "new", dtype=dtype)
    assert not (tmp_path / "new").exists()


@pytest.mark.once
def test_a_converter_of_another_size_is_told_by_the_preset(saved, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(saved[1], copy)
    PEImageConverter(32).save_to_preset(copy)
    with pytest.raises(CheckpointError, match="copy holds parts that do not fit"):
        VisionLanguageModel.from_preset(copy)


@pytest.mark.once
def test_an_encoder_alone_and_a_decoder_too_many_are_refused(saved, tmp_path):
    model, directory = saved
    model.encoder.save_to_preset(tmp_path / "alone")
    with pytest.raises(CheckpointError, match="encoder alone"):
        VisionLanguageModel.from_preset(tmp_path / "alone")
    with pytest.raises(CheckpointError, match="Leave out decoder="):
        VisionLanguageModel.from_preset(directory, decoder=model.decoder)


@pytest.mark.once
def test_nothing_is_half_written(tmp_path):
    model = build()
    model.projector.contract.bias.assign(np.full(16, np.nan, "float32"))
    with pytest.raises(CheckpointError, match="projector/contract/bias"):
        model.save_to_preset(tmp_path / "nan")
    assert not list(tmp_path.iterdir())
    large = build()
    large.decoder.norm.beta.assign(np.full(16, 1e6, "float32"))
    with pytest.raises(CheckpointError, match=r"decoder/norm/beta .* float16"):
        large.save_to_preset(tmp_path / "large", dtype="float16")
    assert not list(tmp_path.iterdir())


# === Language models of KerasHub: noted, not written ===
@pytest.mark.slow
def test_a_decoder_of_kerashub_is_given_and_compared(tmp_path):
    pytest.importorskip("keras_hub")
    from tests.language.test_kerashub import KerasHubDecoder, keras_hub

    def foreign(seed=0, **changes):
        sizes = {
            "vocabulary_size": WORDS,
            "num_layers": 1,
            "num_query_heads": 2,
            "num_key_value_heads": 1,
            "hidden_dim": 16,
            "intermediate_dim": 24,
        }
        backbone = keras_hub.models.LlamaBackbone(**{**sizes, **changes})
        return KerasHubDecoder(perturb(backbone, seed), max_length=32)

    model = build()
    model.decoder = foreign()
    model.save_to_preset(tmp_path / "preset", decoder_handle="hf://a/llama")
    names = {path.name for path in (tmp_path / "preset").iterdir()}
    assert {"language.json", "language.safetensors", "config.json"} < names
    size = (tmp_path / "preset" / "language.safetensors").stat().st_size
    assert size < 4 * model.projector.count_params() + 1000
    again = VisionLanguageModel.from_preset(tmp_path / "preset", decoder=foreign())
    answers = [m.generate(picture(), "what", max_tokens=4) for m in (model, again)]
    assert answers[0] == answers[1]
    for given, message in (
        (None, "LlamaBackbone, hf://a/llama.* Pass decoder="),
        (foreign(seed=1), "has other weights"),
        (foreign(num_layers=2), "'num_layers': 1.* 'num_layers': 2"),
        (model.projector, "Pass decoder="),
    ):
        with pytest.raises(CheckpointError, match=message):
            VisionLanguageModel.from_preset(tmp_path / "preset", decoder=given)
    half = foreign(dtype="bfloat16")
    with pytest.warns(UserWarning, match="was not compared"):
        VisionLanguageModel.from_preset(tmp_path / "preset", decoder=half)
