"""Language alignment: what reaches the loss, packed or apart, and what is trained."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_pe import PELang
from keras_pe.data.packing import BRANCH, Document, packed_row
from keras_pe.language import SmallDecoder
from keras_pe.layers import VisionProjector
from keras_pe.losses import answer_loss
from keras_pe.training.trainers.language_trainer import LanguageAlignmentTrainer
from tests.arrays import to_numpy
from tests.small_models import images, perturb, vision_encoder
from tests.training.gradients import loss_and_gradients

WORDS, WIDTH, SIDE = 30, 16, 32
TOKENS = 4  # of an image: 4 x 4 patches in squares of two
LENGTH, SLOTS = 24, 8


def trainer(drop_path=0.0, decoder_drop_path=0.0, layers=1, **options):
    keras.utils.set_random_seed(0)
    core = vision_encoder(num_layers=layers + 1)
    encoder = perturb(PELang.from_core(core, layers=layers, drop_path=drop_path))
    projector = perturb(VisionProjector(encoder.hidden_dim, WIDTH, pooling=2), 1)
    decoder = SmallDecoder(
        WORDS,
        hidden_dim=WIDTH,
        num_layers=1,
        num_heads=2,
        max_length=LENGTH,
        drop_path=decoder_drop_path,
    )
    return LanguageAlignmentTrainer(encoder, projector, perturb(decoder, 2), **options)


def document(rng, with_image=True):
    before, words, answers = 1, int(rng.integers(1, 3)), int(rng.integers(1, 3))
    shown = TOKENS if with_image else 0
    kinds = np.repeat([0, 1, 2, 3], [before, shown, words, answers])
    ids = np.where(kinds == 1, 0, rng.integers(1, WORDS, len(kinds)))
    return Document(ids, kinds == 3, kinds == 1)


def batch(rows, pictures, most_images=2):
    """Returns packed rows and their images, by the number of each document."""
    arrays = [packed_row([found for _, found in row], LENGTH, SLOTS) for row in rows]
    shown = np.zeros((len(rows), most_images, SIDE, SIDE, 3), "float32")
    for place, row in enumerate(rows):
        numbers = [number for number, found in row if found.image.any()]
        shown[place, : len(numbers)] = pictures[numbers]
    stacked = {name: np.stack([row[name] for row in arrays]) for name in arrays[0]}
    return {"images": shown, **stacked}


def documents(count=4, seed=0, text_only=()):
    rng = np.random.default_rng(seed)
    return [(n, document(rng, n not in text_only)) for n in range(count)]


PICTURES = images(4, SIDE, SIDE)


# === The loss ===
@pytest.mark.quick
def test_the_loss_is_that_of_each_answer_after_its_image_and_question():
    model = trainer()
    found = documents()
    loss, _ = loss_and_gradients(model, batch([found[:2], found[2:]], PICTURES))
    costs, count = 0.0, 0
    for number, single in found:
        seen = model.image_tokens(ops.convert_to_tensor(PICTURES[None, [number]]))
        x = to_numpy(model.decoder.embed(single.token_ids[None])).copy()
        x[0, single.image] = to_numpy(seen)[0]
        logits = model.decoder.logits(model.decoder.run(ops.convert_to_tensor(x)))
        (places,) = np.flatnonzero(single.answer)[None]
        right = single.token_ids[places][None]
        taken = ops.convert_to_tensor(to_numpy(logits)[:, places - 1])
        costs += float(answer_loss(taken, right, np.ones_like(right), total=1.0))
        count += len(places)
    assert loss == pytest.approx(costs / count, rel=1e-5)


def assert_same(ours, theirs, tolerance=1e-5):
    (loss, gradients), (other, others) = ours, theirs
    assert loss == pytest.approx(other, rel=tolerance)
    for path, gradient in gradients.items():
        largest = max(np.abs(others[path]).max(), 1e-3)
        assert np.abs(gradient - others[path]).max() / largest < tolerance, path


@pytest.mark.slow
def test_packed_is_as_apart():
    of_rows, of_documents = trainer(), trainer()
    for seed in (0, 1):
        found = documents(seed=seed)
        rows = batch([found[:2], found[2:]], PICTURES)
        packed = loss_and_gradients(of_rows, rows)
        apart = batch([[one] for one in found], PICTURES)
        assert_same(packed, loss_and_gradients(of_documents, apart))


@pytest.mark.slow
def test_branches_are_as_documents_with_the_image_in_each():
    rng = np.random.default_rng(3)
    trunk = 1 + TOKENS
    single = [document(rng) for _ in range(3)]
    for one in single:
        one.token_ids[:trunk] = single[0].token_ids[:trunk]
    lengths = [trunk, *(len(one) - trunk for one in single)]

    def joined(name):
        parts = [getattr(one, name)[trunk:] for one in single]
        return np.concatenate([getattr(single[0], name)[:trunk], *parts])

    names = ("token_ids", "answer", "image")
    branches = np.repeat(np.arange(len(lengths)), lengths)
    tree = Document(*map(joined, names), "a tree", branches)
    other = [(1, document(rng))]
    together = batch([[(2, tree)], other], PICTURES)
    apart = batch([*([(2, one)] for one in single), other], PICTURES)
    whole = loss_and_gradients(trainer(), together)
    assert_same(whole, loss_and_gradients(trainer(), apart))


@pytest.mark.slow
@pytest.mark.compiled
def test_chunks_change_neither_loss_nor_gradient():
    found = documents()
    rows = batch([[one] for one in found], PICTURES)
    whole = loss_and_gradients(trainer(), rows, eagerly=True)
    assert_same(loss_and_gradients(trainer(image_chunk_size=2), rows), whole)


@pytest.mark.slow
@pytest.mark.compiled
def test_chunks_skip_blocks_at_random_as_a_whole_batch_does():
    """Drawn before: inside a chunk JAX refuses to draw, and others draw twice."""
    found = documents()
    rows = batch([[one] for one in found], PICTURES)
    losses = set()
    model = trainer(0.6, layers=2, image_chunk_size=2)
    for _ in range(3):
        losses.add(loss_and_gradients(model, rows)[0])
    assert len(losses) > 1  # blocks are left out
    assert np.isfinite(list(losses)).all()
    with pytest.raises(ValueError, match=r"leaves out 0\.5 at random"):
        trainer(image_chunk_size=2, decoder_drop_path=0.5)


@pytest.mark.slow
def test_rows_of_text_give_the_encoder_and_projector_no_gradient_at_all():
    found = documents(2, text_only=(0, 1))
    loss, gradients = loss_and_gradients(trainer(), batch([found], PICTURES))
    assert loss > 0.1
    for path, gradient in gradients.items():
        of_text = "small_decoder" in path
        assert np.any(gradient) == of_text, path


@pytest.mark.slow
def test_another_document_of_the_row_changes_nothing():
    """Its image and its words; that its answers are learned too is another matter."""
    model, found = trainer(), documents(2)
    rows = batch([found], PICTURES)
    rows["answer_weights"][0, int(found[0][1].answer.sum()) :] = 0.0
    before = loss_and_gradients(model, rows)
    other = {name: array.copy() for name, array in rows.items()}
    other["images"][0, 1:] *= -1.0
    elsewhere = (rows["documents"][0] > 1) & (rows["image_slots"][0] == 0)
    other["token_ids"][0, elsewhere] = 1 + other["token_ids"][0, elsewhere] % 20
    (loss, gradients), (same, others) = before, loss_and_gradients(model, other)
    assert loss == same
    for path, gradient in gradients.items():
        np.testing.assert_array_equal(gradient, others[path], err_msg=path)


# === What is trained ===
@pytest.mark.slow
@pytest.mark.parametrize("encoder", [True, False])
@pytest.mark.parametrize("decoder", [True, False])
def test_frozen_parts_stay_as_they_are(encoder, decoder):
    model = trainer(0.5, train_encoder=encoder, train_decoder=decoder)
    parts = {"encoder": model.model, "projector": model.projector}
    parts["decoder"] = model.decoder
    before = {k: [to_numpy(w).copy() for w in p.weights] for k, p in parts.items()}
    model.compile(keras.optimizers.SGD(0.1))
    model.fit([batch([documents()[:2]], PICTURES)][0], batch_size=1, verbose=0)
    for name, trained in (
        ("encoder", encoder), ("projector", True), ("decoder", decoder)
    ):  # fmt: skip
        pairs = zip(before[name], parts[name].weights, strict=True)
        moved = any(np.any(old != to_numpy(new)) for old, new in pairs)
        assert moved == trained, name
    assert len(model.teachers) == 2 - encoder - decoder


@pytest.mark.slow
@pytest.mark.once
def test_it_learns_answers_by_heart():
    model = trainer()
    model.compile(keras.optimizers.Adam(2e-2))
    found = documents()
    rows = batch([found[:2], found[2:]], PICTURES)
    first = model.train_on_batch(rows, return_dict=True)
    history = model.fit(rows, batch_size=2, epochs=60, verbose=0).history
    assert float(first["answer_loss"]) > 1.0
    assert history["answer_loss"][-1] < 0.2
    assert history["answer_accuracy"][-1] == 1.0


# === What makes no sense ===
@pytest.mark.quick
@pytest.mark.once
def test_parts_and_batches_that_do_not_fit_are_refused():
    model = trainer()
    with pytest.raises(ValueError, match="input_dim must be the channels of the enc"):
        LanguageAlignmentTrainer(model.model, VisionProjector(8, WIDTH), model.decoder)
    with pytest.raises(ValueError, match="output_dim must be the channels of the dec"):
        LanguageAlignmentTrainer(
            model.model, VisionProjector(model.model.hidden_dim, 8), model.decoder
        )
    model.compile(keras.optimizers.SGD(0.1))
    rows = batch([documents()[:2]], PICTURES)
    unknown = {**rows, "token_ids": rows["token_ids"] + WORDS}
    with pytest.raises(ValueError, match="token_ids"):
        model.train_on_batch(unknown)
    with pytest.raises(ValueError, match="answer_weights"):
        model.train_on_batch({k: v for k, v in rows.items() if k != "answer_weights"})
    with pytest.raises(ValueError, match=r"2 of images.*1 of positions"):
        model.train_on_batch({**rows, "images": np.repeat(rows["images"], 2, 0)})


@pytest.mark.slow
@pytest.mark.parametrize("name", ["image_slots", "answer_places"])
def test_places_that_do_not_exist_are_no_other_places(name):
    model, rows = trainer(), batch([documents()[:2]], PICTURES)
    rows[name] = rows[name].copy()
    rows[name][0, rows[name][0].argmax()] = 2 * TOKENS + 1 + LENGTH
    assert np.isnan(float(model(rows)["answer_loss"]))
    if name == "image_slots":
        model.compile(keras.optimizers.SGD(0.0))
        with pytest.raises(ValueError, match="places for those of"):
            model.evaluate(rows, verbose=0)


@pytest.mark.quick
@pytest.mark.parametrize("factor", [2, 0.5])
def test_images_of_another_size_than_the_rows_were_made_for_are_refused(factor):
    model, rows = trainer(), batch([documents()[:2], documents()[2:]], PICTURES)
    side = int(SIDE * factor)
    rows["images"] = np.zeros((2, 2, side, side, 3), "float32")
    model.compile(keras.optimizers.SGD(0.0))
    with pytest.raises(ValueError, match=f"{side}x{side} pixels have"):
        model.train_on_batch(rows)


@pytest.mark.quick
def test_branches_are_refused_where_positions_are_not_read():
    model = trainer()
    model.decoder.reads_positions = False
    rows = batch([[one] for one in documents(2)], PICTURES)
    model.further_check()(rows)
    rows["documents"][0, 4:] += BRANCH
    with pytest.raises(ValueError, match=r"Documents branch .* reads no positions"):
        model.further_check()(rows)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("image_slots", -1, "image_slots count from 0, got -1"),
        ("documents", -1, "documents count from 0, got -1"),
        ("answer_weights", -1.0, "answer_weights must be finite and at least 0"),
        ("answer_weights", np.nan, "answer_weights must be finite and at least 0"),
    ],
)
def test_rows_with_numbers_that_mean_nothing_are_refused(name, value, says):
    model = trainer()
    model.compile(keras.optimizers.SGD(0.1))
    rows = batch([documents()[:2]], PICTURES)
    rows[name][0, 0] = value
    with pytest.raises(ValueError, match=says):
        model.train_on_batch(rows)
