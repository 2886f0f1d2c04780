"""Our own models as captioners, language models and what clips are chosen by."""

import numpy as np
import pytest

from keras_pe import PEImageConverter, PETokenizer
from keras_pe.data_engine import (
    DecoderLanguageModel,
    Embed,
    Engine,
    FrameCaptions,
    JoinedCaption,
    ModelCaptioner,
    RefinedCaption,
    VideoCaption,
    clips_of_folder,
    run_engine,
)
from keras_pe.data_engine.ledger import ledger_key
from keras_pe.language import QuestionPrompt, VisionLanguageModel
from keras_pe.language.text_answers import answer_about_frames, answer_texts
from keras_pe.training.teachers.digest import weights_digest
from tests.arrays import to_numpy
from tests.data_engine.parts import LOOSE, clip, folder_of, lines
from tests.language.test_generation import slow_answer
from tests.language.test_language_preset import build
from tests.small_models import core, perturb

QUESTION, SIDE = "what is it", 16


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    model = build()
    directory = tmp_path_factory.mktemp("captioner") / "preset"
    model.save_to_preset(directory)
    return model, directory


def frames(count=3):
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 1, (count, SIDE, SIDE, 3)).astype("float32")


# === Frames together ===
@pytest.mark.parametrize("count", [1, 3])
def test_equal_frames_are_answered_as_one_of_them(saved, count):
    model, _ = saved
    one = frames()[:1]
    expected = model.answer(one, QUESTION, 4)[0]
    found = answer_about_frames(model, np.repeat(one, count, 0), QUESTION, 4)
    assert found == expected
    assert found


def test_different_frames_are_read_as_the_mean_of_their_tokens(saved):
    """The obvious way: no cache, the whole sequence anew for each token."""
    model, _ = saved
    tokens = to_numpy(model.image_tokens(frames())).mean(0)
    document = model.prompt.question(QUESTION)
    prompt = to_numpy(model.decoder.embed(document.token_ids[None]))[0].copy()
    prompt[document.image] = tokens
    ids = slow_answer(model.decoder, prompt, 4, model.prompt.stop_id)
    found = answer_about_frames(model, frames(), QUESTION, 4)
    assert found == model.prompt.text(ids)
    assert found == answer_about_frames(model, frames()[::-1], QUESTION, 4)


@pytest.mark.parametrize(
    "shape", [(0, SIDE, SIDE, 3), (SIDE, SIDE, 3), (2, 8, 8, 3), (2, SIDE, 24, 3)]
)
def test_frames_of_another_shape_are_refused(saved, shape):
    with pytest.raises(ValueError, match=r"\(|of shape|frames"):
        answer_about_frames(saved[0], np.zeros(shape, "float32"), QUESTION)


# === Texts alone ===
def test_a_text_is_answered_as_if_it_were_alone_and_unpadded(saved):
    model, _ = saved
    asked = ["what", "is it so", "tell me"]
    found = answer_texts(model.decoder, model.prompt, asked, 4)
    for question, answer in zip(asked, found, strict=True):
        document = model.prompt.question(question, image=False)
        prompt = to_numpy(model.decoder.embed(document.token_ids[None]))[0]
        ids = slow_answer(model.decoder, prompt, 4, model.prompt.stop_id)
        assert answer == model.prompt.text(ids)
    assert answer_texts(model.decoder, model.prompt, [], 4) == []


def test_one_text_instead_of_several_is_refused(saved):
    with pytest.raises(TypeError, match="expected a list of texts"):
        answer_texts(saved[0].decoder, saved[0].prompt, "what")


# === As a captioner ===
def test_a_preset_captions_a_folder_and_its_weights_are_in_the_key(saved, tmp_path):
    model, directory = saved
    captioner = ModelCaptioner(str(directory), None, QUESTION, 2, 4)
    assert captioner.converter.image_size == (SIDE, SIDE)
    stages = [VideoCaption(captioner), RefinedCaption({}), FrameCaptions(captioner)]
    whole = Engine([*stages, JoinedCaption(["video", "frames"])])
    found = clips_of_folder(folder_of(tmp_path / "clips", 2))
    run_engine(found, whole, tmp_path / "output", LOOSE)
    for row in lines(tmp_path / "output" / "rows.jsonl"):
        shown = captioner.converter.convert(row["path"])
        expected = " ".join(answer_about_frames(model, shown, QUESTION, 4).split())
        assert row["video_caption"] == expected
        assert len(row["frame_captions"]) == 2
    row = {"content": "0"}
    again = ModelCaptioner(str(directory), None, QUESTION, 2, 4)
    assert ledger_key(VideoCaption(again), row) == ledger_key(stages[0], row)
    perturb(model.projector, 5)
    other = tmp_path / "other"
    model.save_to_preset(other)
    perturb(model.projector, 1)
    changed = ModelCaptioner(str(other), None, QUESTION, 2, 4)
    assert changed.settings()["weights"] != captioner.settings()["weights"]
    assert ledger_key(VideoCaption(changed), row) != ledger_key(stages[0], row)


def test_a_hash_is_of_values_and_not_of_names():
    import keras

    def dense(value, dtype="float32"):
        layer = keras.layers.Dense(2, kernel_initializer=value, dtype=dtype)
        layer.build((None, 3))
        return layer

    first = weights_digest(dense("ones"))
    assert first == weights_digest(dense("ones"))
    assert (
        len(
            {
                first,
                weights_digest(dense("zeros")),
                weights_digest(dense("ones"), dense("ones")),
            }
        )
        == 3
    )


# === What clips are chosen by ===
def test_an_embedding_is_the_models_of_the_video(tmp_path):
    model = core()
    directory = tmp_path / "preset"
    tokenizer, converter = PETokenizer(8, 600), PEImageConverter(32)
    model.save_to_preset(directory, tokenizer=tokenizer, image_converter=converter)
    stage = Embed(str(directory), num_frames=2)
    row = {"key": "a", "path": str(clip(tmp_path / "a.gif"))}
    from keras_pe.data_engine.clips import with_content

    found = stage.run(stage.load(), with_content(row))["embedding"]
    shown = stage.converter.convert(row["path"])[None]
    expected = to_numpy(model.encode_video(shown))[0]
    assert np.allclose(found, expected, atol=1e-4)
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-3)
    assert all(round(value, 5) == value for value in found)
    assert stage.settings()["weights"] == weights_digest(model)


# === A language model of KerasHub's ===
def test_a_decoder_of_kerashub_answers_a_prompt_and_is_kept(tmp_path):
    pytest.importorskip("keras_hub")
    from tests.language.hub_presets import save

    save(tmp_path / "qwen", "QwenBackbone")
    model = DecoderLanguageModel(f"hub:{tmp_path / 'qwen'}", 24, 256)
    loaded, question = model.load(), "What is the owl?"
    answer = model.answer(loaded, question)
    assert answer == answer_texts(*loaded, [question], 24, no_repeat=3)[0]
    free = DecoderLanguageModel(f"hub:{tmp_path / 'qwen'}", 24, 256, no_repeat=None)
    assert free.answer(loaded, question) == answer_texts(*loaded, [question], 24)[0]
    assert free.answer(loaded, question) != answer  # it says one thing again and again
    assert free.settings() != model.settings()
    decoder, _ = loaded
    assert model.settings()["weights"] == weights_digest(decoder)
    save(tmp_path / "other", "QwenBackbone", seed=1)
    other = DecoderLanguageModel(f"hub:{tmp_path / 'other'}", 24, 256)
    assert other.settings() != model.settings()


def test_the_tokenizer_of_a_prompt_bounds_a_question(saved):
    model, _ = saved
    assert isinstance(model.prompt, QuestionPrompt)
    assert isinstance(model, VisionLanguageModel)
    with pytest.raises(ValueError, match="token"):
        answer_texts(model.decoder, model.prompt, ["what is it " * 50], 4)
