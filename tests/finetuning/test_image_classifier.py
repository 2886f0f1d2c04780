"""Classifiers of a small encoder: what they learn, keep and refuse."""

import json

import keras
import numpy as np
import pytest

from keras_pe import ImageClassifier, PEImageConverter, PEVisionEncoder
from keras_pe.arrays import NonFiniteError
from keras_pe.finetuning.class_features import class_features
from keras_pe.finetuning.training_steps import BestEpoch
from keras_pe.presets import CheckpointError
from tests.presets.preset_files import resign
from tests.small_models import core, perturb, vision_encoder

pytestmark = pytest.mark.quick
NAMES = ["noise", "white", "dark"]
COUNT = 36


@pytest.fixture(scope="module")
def images():
    """Noise; white above; dark below."""
    found = np.random.default_rng(0).integers(0, 256, (COUNT, 32, 32, 3), "uint8")
    found[1::3, :16] = 255
    found[2::3, 16:] = 0
    return found


LABELS = np.arange(COUNT) % 3


def encoder(**changes):
    return perturb(vision_encoder(num_layers=2, **changes))


def classifier(*arguments, **options):
    return ImageClassifier(encoder(), NAMES, *arguments, batch_size=12, **options)


def values(model):
    return [np.array(keras.ops.convert_to_numpy(v)) for v in model.weights]


@pytest.fixture(scope="module")
def probed(images):
    found = classifier()
    found.fit(images, LABELS, progress=False)
    return found


def test_a_probe_learns_and_leaves_the_encoder_alone(images):
    found = classifier()
    before = values(found._encoder)
    report = found.fit(list(images), [NAMES[n] for n in LABELS], progress=False)
    assert found.report is report
    assert (report.num_images, report.num_validation) == (30, 6)
    assert report.trained_parameters == 16 * 3 + 3
    assert report.epochs == ()
    assert report.validation["accuracy"] > 0.8
    for old, new in zip(before, values(found.model.encoder), strict=True):
        np.testing.assert_array_equal(old, new)
    scores = found.evaluate(images, LABELS)
    best = np.array([b[0].index for b in found.predict(images)])
    right = best == LABELS
    assert scores["accuracy"].value == right.mean() > 0.85
    assert scores["accuracy of dark"] == right[LABELS == 2].mean()


def test_probabilities_are_those_of_the_keras_model(probed, images):
    prepared = PEImageConverter(32)(images[:5])
    logits = keras.ops.convert_to_numpy(probed.model(prepared))
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = powers / powers.sum(axis=1, keepdims=True)
    found = probed.predict_probabilities(images[:5])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    [[first, second]] = probed.predict(images[1], top_k=2)
    assert first.name == "white"
    assert first.probability == pytest.approx(found[1].max(), abs=1e-5)
    assert first.probability > second.probability
    likely = expected[np.arange(5), LABELS[:5]]
    loss = probed.evaluate(images[:5], LABELS[:5])["loss"]
    assert loss == pytest.approx(-np.log(likely).mean(), abs=1e-4)


def test_the_head_standardises_what_it_was_fitted_to(probed, images):
    rows = PEImageConverter(32)(images)
    features = class_features(probed.model.encoder, rows)
    features = keras.ops.convert_to_numpy(features).astype("float64")
    arrays = probed.model.head.arrays()
    standard = (features - arrays["mean"]) / arrays["deviation"]
    assert abs(standard.mean(axis=0)).max() < 0.3  # 30 of the 36
    logits = standard @ arrays["kernel"] + arrays["bias"]
    found = keras.ops.convert_to_numpy(probed.model(rows))
    np.testing.assert_allclose(found, logits, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", ["lora", pytest.param("full", marks=pytest.mark.compiled)]
)
def test_training_on_images(method, images):
    found = classifier(method, layers=1, lora_rank=2)
    before = {v.path: np.array(v) for v in map(_named, found._encoder.weights)}
    report = found.fit(
        images[:30],
        LABELS[:30],
        validation_data=(images[30:], LABELS[30:]),
        epochs=2,
        progress=False,
    )
    assert report.layer == found.layers == found.model.encoder.num_layers == 1
    assert (report.num_images, report.num_validation) == (30, 6)
    assert 1 <= len(report.epochs) <= 2
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} == set(report.epochs[0])
    trained = sum(int(np.prod(v.shape)) for v in found.model.trainable_variables)
    assert report.trained_parameters == trained
    # What is kept has the loss that was reported, measured by another path.
    scores = found.evaluate(images[30:], LABELS[30:])
    assert scores["loss"] == pytest.approx(report.validation["loss"], abs=1e-3)
    assert scores["accuracy"].value == pytest.approx(report.validation["accuracy"])
    now = {v.path: v for v in map(_named, found.model.encoder.weights)}
    same = [np.array_equal(now[path], before[path]) for path in before if path in now]
    if report.best_epoch and method == "full":
        assert not all(same)
    if method == "lora":
        assert all(same)
        assert trained < found.model.encoder.count_params() / 2


def _named(variable):
    array = np.array(keras.ops.convert_to_numpy(variable)).view(_Array)
    array.path = variable.path
    return array


class _Array(np.ndarray):
    path = ""


def test_the_layer_that_validation_chooses(images):
    found = classifier(layers="auto")
    report = found.fit(images, LABELS, progress=False)
    assert set(report.layer_scores) == {1, 2}
    best = max(report.layer_scores.values())
    assert report.layer == next(k for k, v in report.layer_scores.items() if v == best)
    assert found.model.encoder.num_layers == report.layer
    with pytest.raises(ValueError, match="decided by validation images"):
        classifier(layers="auto").fit(images, LABELS, validation_share=0)


@pytest.mark.parametrize("layer", [-1, 1])
def test_what_is_read_of_a_layer(layer, images):
    found = ImageClassifier(encoder(), NAMES, layers=layer)
    prepared = PEImageConverter(32)(images[:2])
    features = class_features(found._encoder, prepared)
    if layer == -1:  # the embedding
        expected = encoder()(prepared)
    else:
        tokens = encoder().features(prepared, layers=1).values
        expected = keras.ops.mean(tokens, axis=1)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(features),
        keras.ops.convert_to_numpy(expected),
        atol=1e-4,
    )


def test_without_validation_all_images_are_learned_from(images):
    found = classifier()
    report = found.fit(images, LABELS, validation_share=0, progress=False)
    assert (report.num_images, report.num_validation) == (COUNT, 0)
    assert report.validation == {}
    assert found.evaluate(images, LABELS)["accuracy"].value > 0.85


def test_labels_of_no_meaning_are_not_learned(images):
    labels = np.random.default_rng(0).permutation(LABELS)
    found = classifier()
    report = found.fit(images, labels, validation_share=0.4, progress=False)
    assert report.validation["accuracy"] < 0.7


def test_a_loader(images):
    def batches():
        for start in range(0, COUNT, 8):
            yield images[start : start + 8].astype("float32"), LABELS[start : start + 8]

    found, listed = classifier(), classifier()
    report = found.fit(batches, progress=False)
    assert (report.num_images, report.num_validation) == (30, 6)
    listed.fit(images, LABELS, progress=False)
    np.testing.assert_allclose(
        found.predict_probabilities(images),
        listed.predict_probabilities(images),
        atol=1e-4,
    )
    assert found.evaluate(batches) == found.evaluate(images, LABELS)


@pytest.mark.slow
def test_a_loader_that_is_trained_on(images):
    def batches(first, last):
        return lambda: [
            (images[n : n + 5], LABELS[n : n + 5]) for n in range(first, last, 5)
        ]

    found = classifier("full", layers=1)
    with pytest.raises(ValueError, match="no share of it can be kept back"):
        found.fit(batches(0, 30))
    report = found.fit(
        batches(0, 30), validation_data=batches(30, 36), epochs=1, progress=False
    )
    assert (report.num_images, report.num_validation) == (30, 6)
    assert len(report.epochs) == 1


# === Files ===
@pytest.mark.slow
@pytest.mark.parametrize("method", ["probe", "lora"])
def test_it_comes_back(method, images, tmp_path):
    found = classifier(method, layers=1, lora_rank=2)
    found.fit(
        images, LABELS, progress=False, **({} if method == "probe" else {"epochs": 1})
    )
    found.save_to_preset(tmp_path / "a", metadata={"note": "mine"})
    again = ImageClassifier.from_preset(tmp_path / "a")
    assert again.class_names == NAMES
    assert again.method == method
    np.testing.assert_allclose(
        again.predict_probabilities(images),
        found.predict_probabilities(images),
        atol=1e-5,
    )
    alone = PEVisionEncoder.from_preset(tmp_path / "a")
    assert alone.num_layers == 1
    assert json.loads((tmp_path / "a/metadata.json").read_text())["note"] == "mine"
    # Other classes: a new head on the trained encoder.
    other = ImageClassifier.from_preset(tmp_path / "a", ["cat", "dog"])
    with pytest.raises(ValueError, match="learned nothing yet"):
        other.predict(images)


def test_it_is_a_keras_model(probed, images, tmp_path):
    probed.model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    prepared = PEImageConverter(32)(images[:3])
    np.testing.assert_allclose(
        again.predict(prepared, verbose=0),
        probed.model.predict(prepared, verbose=0),
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "is of format 2, expected 1"),
        ({"class_names": ["a", "b"]}, "has a head of"),
        ({"class_names": "abc"}, "class_names='abc'"),
        ({"class_names": [{"class_name": "Lambda"}] * 3}, "expected a list of texts"),
        ({"method": "pickle"}, "method='pickle'"),
    ],
)
def test_a_damaged_description(change, message, saved):
    path = saved / "classifier.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(CheckpointError, match=r"classifier\.json is damaged"):
        ImageClassifier.from_preset(saved)
    resign(saved)
    with pytest.raises(CheckpointError, match=message):
        ImageClassifier.from_preset(saved)


@pytest.fixture
def saved(probed, tmp_path):
    probed.save_to_preset(tmp_path / "saved")
    return tmp_path / "saved"


def test_a_damaged_head(saved):
    from safetensors.numpy import load_file, save_file

    path = saved / "classifier.safetensors"
    good = load_file(path)
    for name, value, message in (
        (
            "kernel",
            np.full_like(good["kernel"], np.nan),
            "values in kernel that are NaN",
        ),
        ("deviation", 0 * good["deviation"], "not above 0"),
        ("bias", good["bias"][:2], "has a head of"),
    ):
        save_file({**good, name: value}, path)
        resign(saved)
        with pytest.raises(CheckpointError, match=message):
            ImageClassifier.from_preset(saved)


def test_a_preset_without_classes(tmp_path):
    encoder().save_to_preset(tmp_path / "a", PEImageConverter(32))
    with pytest.raises(CheckpointError, match="knows no classes of its own"):
        ImageClassifier.from_preset(tmp_path / "a")
    fresh = ImageClassifier.from_preset(tmp_path / "a", NAMES, "lora", layers=1)
    assert (fresh.method, fresh.layers) == ("lora", 1)
    assert "not fitted" in repr(fresh)


# === Refusals ===
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("preset", NAMES), TypeError, r"ImageClassifier\.from_preset"),
        ((None, ["a"]), ValueError, "two or more, all different"),
        ((None, ["a", "b", "a"]), ValueError, "two or more, all different"),
        ((None, ["a", "b" * 1001]), ValueError, r"class_names\[1\] has 1001 charact"),
        ((None, ["a", "b\udcff"]), ValueError, r"class_names\[1\] .* no Unicode text"),
        ((None, NAMES, "head"), ValueError, "method='head'"),
        ((None, NAMES, "probe", 7), ValueError, "layers 0"),
        ((None, NAMES, "probe", "best"), ValueError, "layers='best'"),
    ],
)
def test_arguments(arguments, error, message):
    given = [vision_encoder(num_layers=1) if a is None else a for a in arguments]
    with pytest.raises(error, match=message):
        ImageClassifier(*given)


def test_what_can_not_be_learned_from(images):
    found = classifier()
    with pytest.raises(ValueError, match="No training image shows 'dark'"):
        found.fit(images, LABELS % 2)
    with pytest.raises(ValueError, match="A probe is fitted in one step"):
        found.fit(images, LABELS, epochs=3)
    for share in (1, -0.1, np.nan, "x"):
        with pytest.raises(ValueError, match=f"validation_share={share!r}"):
            found.fit(images, LABELS, validation_share=share)
    for seed in (-1, None, 1.5, 2**32):
        with pytest.raises(ValueError, match=f"seed={seed}: expected a whole number"):
            found.fit(images, LABELS, seed=seed)
    with pytest.raises(ValueError, match="learning_rate=0"):
        classifier("full").fit(images, LABELS, learning_rate=0)
    with pytest.raises(ValueError, match="top_k"):
        found.predict(images, top_k=0)


def test_a_dual_encoder_gives_its_tower():
    assert ImageClassifier(core(), NAMES)._encoder.modality == "vision"


def test_numbers_that_are_none(images):
    broken = encoder()
    broken.norm.gamma.assign(np.full(32, np.nan, "float32"))
    with pytest.raises(NonFiniteError, match="layer 2"):
        ImageClassifier(broken, NAMES).fit(images, LABELS, progress=False)
    best = BestEpoch(3, judged=True)
    best.set_model(broken)
    with pytest.raises(NonFiniteError, match="val_loss of epoch 1 is nan"):
        best.on_epoch_end(0, {"loss": 1.0, "val_loss": float("nan")})


def test_a_training_that_came_to_nan_leaves_sound_weights(images):
    found = classifier("full")
    before = values(found._encoder)
    with pytest.raises(NonFiniteError, match="of epoch 1 is"):
        found.fit(images, LABELS, progress=False, learning_rate=1e30, epochs=1)
    for value, kept in zip(before, values(found._encoder), strict=True):
        np.testing.assert_array_equal(value, kept)


def test_the_best_epoch_is_kept():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    weight, model.stop_training = model.trainable_variables[0], False
    best = BestEpoch(2, judged=True, loss_before=2.0)
    best.set_model(model)
    best.on_train_begin()
    for epoch, loss in enumerate([3.0, 1.0, 1.5, 1.2, 0.1]):
        weight.assign([[float(epoch)]])
        best.on_epoch_end(epoch, {"loss": 1.0, "val_loss": loss})
        if model.stop_training:
            break
    assert (epoch, best.best) == (3, 2)
    best.restore(model)
    assert keras.ops.convert_to_numpy(weight).item() == 1


def test_no_epoch_better_than_what_was_there_before():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    before = keras.ops.convert_to_numpy(model.trainable_variables[0]).copy()
    best = BestEpoch(2, judged=True, loss_before=0.5)
    best.set_model(model)
    best.on_train_begin()
    model.trainable_variables[0].assign([[7.0]])
    best.on_epoch_end(0, {"val_loss": 0.6})
    best.restore(model)
    assert best.best == 0
    found = keras.ops.convert_to_numpy(model.trainable_variables[0])
    np.testing.assert_array_equal(found, before)
