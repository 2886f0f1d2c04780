"""Questions about images: each answered as if it were alone, and as it was trained."""

import io
import itertools
import os

import keras
import numpy as np
import pytest
from keras import ops
from PIL import Image

import keras_pe.language.asked
from keras_pe import PEImageConverter, PELang, PETokenizer
from keras_pe.data.packing import packed_row
from keras_pe.language import QuestionPrompt, SmallDecoder, VisionLanguageModel
from keras_pe.language.prompts import padded
from keras_pe.layers import VisionProjector
from keras_pe.preprocessing.image_errors import ImageError
from keras_pe.training.trainers.language_trainer import LanguageAlignmentTrainer
from tests.arrays import to_numpy
from tests.language.test_generation import slow_answer
from tests.small_models import perturb, vision_encoder

pytestmark = pytest.mark.quick

WORDS, WIDTH, SIDE, LENGTH = 540, 24, 16, 40
TOKENS = 4  # of an image: 4 x 4 patches in squares of two


def parts(**changes):
    keras.utils.set_random_seed(0)
    core = vision_encoder(num_layers=2, image_size=SIDE, patch_size=4)
    encoder = perturb(PELang.from_core(core, layers=1, drop_path=0.1))
    projector = perturb(VisionProjector(encoder.hidden_dim, WIDTH, pooling=2), 1)
    decoder = SmallDecoder(
        WORDS, hidden_dim=WIDTH, num_layers=1, num_heads=2, max_length=LENGTH
    )
    found = {
        "encoder": encoder,
        "projector": projector,
        "decoder": perturb(decoder, 2),
        "prompt": QuestionPrompt(PETokenizer(16, WORDS), TOKENS),
        "image_converter": PEImageConverter(SIDE),
    }
    return {**found, **changes}


@pytest.fixture(scope="module")
def model():
    return VisionLanguageModel(**parts())


def pictures(count=3):
    rng = np.random.default_rng(0)
    return list(rng.integers(0, 256, (count, SIDE, SIDE, 3), "uint8"))


# === Who is asked what ===
@pytest.mark.compiled
def test_a_batch_is_answered_as_each_question_alone(model):
    shown = [*pictures(), None, pictures()[1], None]
    asked = ["a?", "what", "is it so", "a", "tell me more", "no image?"]
    alone = [
        model.generate(image, question, max_tokens=4)
        for image, question in zip(shown, asked, strict=True)
    ]
    assert len(set(alone)) > 3
    assert model.generate(shown, asked, max_tokens=4) == alone
    assert model.generate(shown, asked, max_tokens=4, batch_size=4) == alone
    assert model.generate(shown[:2], "a?", max_tokens=4)[0] == alone[0]


def test_it_answers_as_the_parts_do_one_after_the_other(model):
    """The obvious way: no batch, no cache, the whole sequence anew for each token."""
    image, question = pictures(1)[0], "what is it"
    document = model.prompt.question(question)
    pixels = image[None].astype("float32") / 127.5 - 1.0
    (seen,) = model.encoder.layer_tokens(ops.convert_to_tensor(pixels), [-1])
    prompt = to_numpy(model.decoder.embed(document.token_ids[None]))[0].copy()
    prompt[document.image] = to_numpy(model.projector(seen[:, 1:], grid=(4, 4)))[0]
    ids = slow_answer(model.decoder, prompt, 4, model.prompt.stop_id)
    assert model.generate(image, question, max_tokens=4) == model.prompt.text(ids)


def test_one_image_may_be_asked_several_questions_and_is_encoded_once(
    model, monkeypatch
):
    counts = []
    image_tokens = model.image_tokens

    def counted(images):
        counts.append(len(images))
        return image_tokens(images)

    monkeypatch.setattr(model, "image_tokens", counted)
    first, second, _ = pictures()
    asked = ["a", "b?", "why c"]
    found = model.generate(first, asked, max_tokens=3)
    mixed = model.generate([first, second, first], asked, max_tokens=3)
    assert counts == [1, 2]
    assert [found[0], found[2]] == [mixed[0], mixed[2]]


def pipe(content):
    """Returns a file that can be read once: nobody can go back in it."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as file:
        file.write(content)
    return os.fdopen(reader, "rb")


def test_an_image_that_can_be_read_but_once_is_asked_in_several_batches(model):
    stored = io.BytesIO()
    Image.fromarray(pictures(1)[0]).save(stored, "PNG")
    asked = ["a", "b?", "why c", "what", "so?"]
    expected = model.generate(pictures(1)[0], asked, max_tokens=3)
    with pipe(stored.getvalue()) as image:
        found = model.generate(image, asked, max_tokens=3, batch_size=2)
    assert found == expected
    with pipe(stored.getvalue()) as image:
        listed = [image, pictures()[1], image]
        found = model.generate(listed, asked[:3], max_tokens=3, batch_size=1)
    assert [found[0], found[2]] == [expected[0], expected[2]]


@pytest.mark.once
def test_questions_that_can_be_read_but_once_are_its_lines(model):
    asked = ["a", "b?", "why c"]
    text = np.array(asked[2])  # of no axis
    found = model.generate(pictures(1)[0], text, max_tokens=3)
    assert [found] == model.generate(pictures(1)[0], asked[2:], max_tokens=3)
    with io.TextIOWrapper(pipe("\n".join(asked).encode())) as questions:
        found = model.generate(pictures(1)[0], questions, max_tokens=3, batch_size=2)
    assert found == model.generate(pictures(1)[0], asked, max_tokens=3)


@pytest.mark.parametrize(
    "images",
    [np.zeros((1, 8, 8, 3), "uint8"), [np.zeros((8, 8, 3), "uint8")], [None]],
)
def test_a_list_of_one_gives_a_list_of_one(model, images):
    assert isinstance(model.generate(images, "a", max_tokens=2), list)


def test_one_image_and_one_question_give_one_answer(model):
    one = np.zeros((8, 8, 3), "uint8")
    for image in (one, ops.convert_to_tensor(one), None):
        assert isinstance(model.generate(image, "a", max_tokens=2), str)
        assert isinstance(model.generate(image, ["a"], max_tokens=2), list)
    assert model.generate([], "a") == model.generate([], []) == []
    assert model.generate(one, []) == []


def test_images_that_are_converted_already_are_answered_alike(model):
    shown = pictures()
    found = model.answer(model.image_converter(shown), "what", max_tokens=3)
    assert found == model.generate(shown, "what", max_tokens=3)


# === Training and answering agree ===
@pytest.mark.parametrize("text_only", [False, True])
def test_answers_logits_are_those_of_training(model, monkeypatch, text_only):
    """A packed row against the prompts of its documents, answers read along."""
    trainer = LanguageAlignmentTrainer(
        **{k: getattr(model, k) for k in ("encoder", "projector", "decoder")}
    )
    texts = [("a", "b"), ("why is", "so it is")]
    shown = [True, not text_only]
    found = [
        model.prompt.document(*text, image)
        for text, image in zip(texts, shown, strict=True)
    ]
    row = packed_row(found, LENGTH, 12)
    images = np.stack([model.image_converter.convert(x) for x in pictures(2)])
    kept = []
    logits = model.decoder.logits

    def keeping(hidden):
        kept.append(to_numpy(logits(hidden)))
        return logits(hidden)

    monkeypatch.setattr(model.decoder, "logits", keeping)
    batch = {name: value[None] for name, value in {"images": images, **row}.items()}
    trainer(batch)
    rows = padded(found)
    slots = np.where(rows["image"], np.cumsum(rows["image"], axis=1), 0)
    prompts = model.prompts(rows["token_ids"], slots, images, np.arange(2))
    alone = to_numpy(logits(model.decoder.run(prompts)))
    answers = np.concatenate(
        [alone[n, np.flatnonzero(one.answer) - 1] for n, one in enumerate(found)]
    )
    assert len(answers) == row["answer_weights"].sum()
    np.testing.assert_allclose(kept[0][0, : len(answers)], answers, atol=2e-5)


@pytest.mark.compiled
def test_what_it_has_learned_it_answers():
    made = parts()
    trainer = LanguageAlignmentTrainer(
        made["encoder"], made["projector"], made["decoder"], train_encoder=False
    )
    texts, shown = ["ab", "ba", "b"], pictures(2)
    asked = ["what?", "what?", "who?"]
    rows = []
    for text, question, image in zip(texts, asked, (True, True, False), strict=True):
        document = made["prompt"].document(question, text, image)
        rows.append(packed_row([document], 16, 4))
    batch = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    images = np.zeros((3, 1, SIDE, SIDE, 3), "float32")
    images[:2, 0] = made["image_converter"](shown)
    trainer.compile(keras.optimizers.Adam(1e-2))
    model = VisionLanguageModel(**made)
    assert model.generate([*shown, None], asked, max_tokens=4) != texts
    for _ in range(40):
        trainer.train_on_batch({"images": images, **batch})
    assert model.generate([*shown, None], asked, max_tokens=4) == texts
    assert model.generate(shown[::-1], "what?", max_tokens=4) == ["ba", "ab"]


# === What does not fit ===
@pytest.mark.once
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"projector": VisionProjector(8, WIDTH)}, "input_dim must be .* 32, got 8"),
        ({"projector": VisionProjector(32, 8)}, "output_dim must be .* 24, got 8"),
        ({"projector": VisionProjector(32, WIDTH)}, "gives 16 tokens .* has 4"),
        ({"image_converter": PEImageConverter(32)}, "gives 16 tokens .* 32x32"),
        ({"image_converter": PEImageConverter(18)}, "18"),
        ({"prompt": QuestionPrompt(PETokenizer(16), TOKENS)}, "has 49408 ids.* 540"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        VisionLanguageModel(**parts(**changes))


@pytest.mark.once
def test_what_can_not_be_answered_is_refused(model, monkeypatch):
    first, second, _ = pictures()
    for images, questions, message in (
        ([first, second], ["a"], "each of 2 images, got 1"),
        ([first], ["a", "b"], "each of 1 images, got 2"),
        ([first], [3], r"got 3 \(int\)"),
        ("what is this?", first, r"got array\(.{,80} \(ndarray\)\.$"),
        ([first, second], itertools.repeat("a"), "each of 2 images, got 3"),
        (first, "word " * 20, "context"),
    ):
        with pytest.raises(ValueError, match=message):
            model.generate(images, questions, max_tokens=2)
    with pytest.raises(ValueError, match="at most 40 tokens"):
        model.generate(first, "a", max_tokens=LENGTH)
    with pytest.raises(ValueError, match="batch_size must be"):
        model.generate(first, "a", batch_size=0)
    with pytest.raises(ImageError, match=r"images\[1\]"):
        model.generate([first, b"no image"], "a")
    monkeypatch.setattr(keras_pe.language.asked, "MOST_QUESTIONS", 5)
    with pytest.raises(ValueError, match="More than 5 questions about one image"):
        model.generate(first, itertools.repeat("a"))
    for questions in (None, 5, np.array(5), b"what?", {"what?"}, {"what?": 1}):
        with pytest.raises(TypeError, match="Questions are one text or a list of text"):
            model.generate(first, questions)


def test_converted_images_of_another_size_are_refused(model):
    other = np.zeros((1, 2 * SIDE, 2 * SIDE, 3), "float32")
    with pytest.raises(ValueError, match=f"for one of {SIDE}x{SIDE}"):
        model.answer(other, "what?")
    with pytest.raises(ValueError, match=r"\(16, 16, 3\).* add an axis"):
        model.answer(np.zeros((SIDE, SIDE, 3), "float32"), "what?")
