"""Sweeps find the layer that carries the answer, and call none best on noise."""

import csv
import json

import keras
import numpy as np
import pytest

from keras_pe import PEImageConverter, PEVisionEncoder
from keras_pe.probing import (
    Attentive,
    Clip,
    Depth,
    DPTDepth,
    NearestNeighbours,
    PointPairs,
    Ridge,
    RidgeRegression,
    Segmentation,
    SweepResult,
    Tracking,
    plot_sweeps,
    sweep,
)
from keras_pe.probing.sweep_summary import LayerOutcome, best_place
from tests.probing.planted import SIDE, classified, noise, planted_model, segmented
from tests.small_models import core, images, perturb, vision_encoder

QUIET = {"progress": False, "batch_size": 16}
CLASSIFIERS = ["knn", "ridge", "logistic", Attentive((0.01,), epochs=10, batch_size=16)]


# === The planted layer ===
@pytest.mark.slow
@pytest.mark.parametrize("layer", [1, 3])
@pytest.mark.parametrize("probe", CLASSIFIERS[:3])
def test_the_planted_layer_is_best(probe, layer):
    result = sweep(planted_model(layer), classified(), probe=probe, **QUIET)
    assert result.best_layer == layer
    assert result[layer].score > 0.9
    assert result.differs_from_last
    others = [row.score for row in result.layers if row.layer != layer]
    assert max(others) < 0.7


@pytest.mark.slow
@pytest.mark.compiled
def test_the_planted_layer_is_best_for_the_attentive_probe():
    result = sweep(planted_model(2), classified(), probe=CLASSIFIERS[3], **QUIET)
    assert (result.best_layer, result.differs_from_last) == (2, True)


@pytest.mark.quick
def test_the_planted_layer_is_best_for_regression():
    images, labels = classified()
    targets = np.stack([labels, -2.0 * labels], axis=1)
    result = sweep(planted_model(2), (images, targets), probe="ridge_regression",
                   **QUIET)  # fmt: skip
    assert (result.best_layer, result.differs_from_last) == (2, True)
    assert result[2].score > 0.9
    assert result.baseline == pytest.approx(0.0)


@pytest.mark.slow
@pytest.mark.compiled
def test_the_planted_layer_is_best_for_segmentation():
    probe = Segmentation(learning_rates=(0.03,), epochs=5)
    result = sweep(planted_model(3), segmented(), probe=probe, **QUIET)
    assert (result.best_layer, result.differs_from_last) == (3, True)
    # Logits are resized bilinearly: the rims of small squares can't be exact.
    assert result[3].score > 0.7


@pytest.mark.slow
@pytest.mark.parametrize(
    "probe",
    [Depth((0.03,), epochs=5), DPTDepth(channels=8, learning_rates=(0.02,), epochs=8)],
    ids=["linear", "dpt"],
)
@pytest.mark.compiled
def test_the_planted_layer_is_best_for_depth(probe):
    images, masks = segmented()
    depths = 1.0 + 2.0 * masks.astype("float32")
    depths[:, :2] = 0  # unknown
    result = sweep(
        planted_model(2), (images, depths), probe=probe, layers=[2, 4], **QUIET
    )
    assert (result.best_layer, result.differs_from_last) == (2, True)
    assert result[2].score < result.baseline / 1.3
    assert not result.higher_is_better


def clips(count=8):
    """A red square that moves by a patch a frame, over noise."""
    found = []
    for number in range(count):
        frames = noise(4, seed=number)
        masks = np.zeros(frames.shape[:3], "uint8")
        for t in range(4):
            row, column = 4 * (number % 3), 4 * t
            masks[t, row : row + 4, column : column + 4] = 1
        frames[..., 0] = frames[..., 0] * 0.1 + 2.0 * masks - 1.0
        found.append(Clip(frames, masks, f"clip {number}"))
    return found


@pytest.mark.quick
def test_the_planted_layer_is_best_for_tracking():
    result = sweep(planted_model(2), clips(), probe=Tracking(top_k=1), **QUIET)
    assert (result.best_layer, result.differs_from_last) == (2, True)
    assert result[2].score > 0.8
    assert result.baseline < 0.5


@pytest.mark.quick
def test_the_planted_layer_is_best_for_correspondence():
    pairs = []
    for seed in range(8):
        first, second = noise(2, seed)
        second[..., 0] = np.roll(first[..., 0], (4, 8), axis=(0, 1))
        rows = np.array([[2.0, 2.0], [6.0, 3.0], [9.0, 5.0]])
        moved = np.mod(rows + np.array([4.0, 8.0]), SIDE)
        points = np.stack([rows, moved], axis=1)
        pairs.append(PointPairs(np.stack([first, second]), points))
    result = sweep(planted_model(4), pairs, probe="correspondence", **QUIET)
    assert result.best_layer == 4
    assert result[4].score == 1.0
    assert result.baseline == 0.0


# === What the score counts ===
@pytest.mark.slow
@pytest.mark.once
def test_a_class_that_some_seeds_never_train_on_is_named_and_counts():
    # Class 5 is in one image alone, which is trained on by some divisions only.
    images, masks = segmented(30)
    masks[7, :4] = 5
    test = segmented(10)
    test[1][0, :4] = 6
    result = sweep(
        planted_model(2), (images, masks), test, Segmentation((0.03,), epochs=3),
        [2], seeds=(0, 1, 2, 3), **QUIET,
    )  # fmt: skip
    targets = result.protocol["targets"]
    assert {t["trained_classes"] for t in targets} == {2, 3}
    assert all(t["test_classes_not_trained"] == [6] for t in targets)
    assert json.loads(json.dumps(result.to_dict()))["protocol"]["targets"] == targets
    # Of three classes one has 0: the mean can't be above two thirds.
    assert 0.1 < result[2].score < 2 / 3


@pytest.mark.quick
def test_scores_that_are_all_alike_have_the_exact_interval():
    pairs = []
    for seed in range(5):
        images = noise(2, seed)
        images[1, ..., 0] = np.roll(images[0, ..., 0], 8, axis=0)
        points = np.array([[[2.0, 2.0], [10.0, 2.0]]])
        pairs.append(PointPairs(images, points))
    result = sweep(planted_model(4), pairs, probe="correspondence", layers=[4], **QUIET)
    # Four of four found: 0.025 ** (1 / 4) is 0.398.
    assert (result[4].score, result[4].high) == (1.0, 1.0)
    assert result[4].low == pytest.approx(0.398, abs=1e-3)
    # The guess finds none of four: differences are from -1 to 1.
    assert result.gain_over_baseline == pytest.approx((2 * 0.398 - 1, 1.0), abs=1e-2)
    assert result.best_layer is None  # four pairs prove nothing
    assert result.gain_over_last == (0.0, 0.0)


# === Noise ===
@pytest.mark.quick
@pytest.mark.parametrize("probe", CLASSIFIERS[:3])
def test_no_layer_is_best_on_noise(probe):
    _, labels = classified()
    result = sweep(planted_model(1), (noise(90), labels), probe=probe, **QUIET)
    assert result.best_layer is None
    assert not result.differs_from_last
    assert "No layer is called best" in str(result)
    assert repr(result) == str(result)  # what a notebook shows
    with pytest.raises(ValueError, match="No layer is called best"):
        result.encoder_at_best()


@pytest.mark.slow
@pytest.mark.parametrize(
    "probe",
    [CLASSIFIERS[3], Segmentation(epochs=2), Depth(epochs=2), "ridge_regression"],
)
@pytest.mark.once  # the verdict is NumPy's; above, heads learn on every backend
def test_no_layer_is_best_on_noise_for_others(probe):
    rng = np.random.default_rng(3)
    kind = getattr(probe, "name", probe)
    targets = {
        "attentive": rng.integers(0, 3, 90),
        "segmentation": rng.integers(0, 2, (90, 16, 16)).astype("uint8"),
        "depth": rng.uniform(1, 2, (90, 16, 16)).astype("float32"),
        "ridge_regression": rng.normal(size=90),
    }[kind]
    result = sweep(planted_model(1), (noise(90), targets), probe=probe, **QUIET)
    assert result.best_layer is None


@pytest.mark.quick
def test_no_layer_is_best_for_tracking_noise():
    found = [Clip(noise(4, i), c.masks) for i, c in enumerate(clips())]
    result = sweep(planted_model(2), found, probe="tracking", **QUIET)
    assert not result.differs_from_last


@pytest.mark.quick
def test_settings_of_numpy_go_to_json(tmp_path):
    images, labels = classified(40)
    probe = NearestNeighbours(np.array([1, 3]), temperature=np.float32(0.1))
    options = {"seeds": [np.int64(0)], "validation_share": np.float32(0.25)}
    result = sweep(planted_model(2), (images, labels), probe=probe, **options, **QUIET)
    result.to_json(tmp_path / "sweep.json")
    found = json.loads((tmp_path / "sweep.json").read_text())
    assert found["protocol"]["seeds"] == [0]
    assert found["protocol"]["probe"]["ks"] == [1, 3]


# === PE encoders ===
@pytest.mark.slow
def test_layers_of_an_encoder_and_its_truncation(tmp_path):
    encoder = perturb(vision_encoder())
    x = images(48)
    # What layer 2 says of the mean of its first channels is the label.
    values = encoder.features(x, layers=2, norm=False).values
    channel = np.asarray(keras.ops.convert_to_numpy(values)).mean(axis=1)[:, 0]
    labels = (channel > np.median(channel)).astype("int64")
    result = sweep(encoder, (x, labels), layers=[0, 2, -1], **QUIET)
    assert [row.layer for row in result.layers] == [0, 2, 3]
    assert result.protocol["test"] == 10
    if result.best_layer:
        assert result.encoder_at_best().num_layers == result.best_layer

    result.to_json(tmp_path / "sweep.json")
    result.to_csv(tmp_path / "sweep.csv")
    plot_sweeps({"ridge": result}, tmp_path / "sweep.png")
    found = json.loads((tmp_path / "sweep.json").read_text())
    assert found["layers"][1]["score"] == result[2].score
    read = SweepResult.from_dict(found)
    assert read == result
    assert str(read) == str(result)
    with pytest.raises(ValueError, match=r"without its encoder|No layer is called"):
        read.encoder_at_best()
    with (tmp_path / "sweep.csv").open(newline="") as stream:
        assert [row["layer"] for row in csv.DictReader(stream)] == ["0", "2", "3"]
    assert (tmp_path / "sweep.png").stat().st_size > 5000
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "sweep.csv",
        "sweep.json",
        "sweep.png",
    ]


@pytest.mark.slow
def test_truncation_records_the_norm():
    encoder = vision_encoder()
    x = np.concatenate([images(30) * 0.1 - 0.8, images(30) * 0.1 + 0.8])
    labels = np.repeat([0, 1], 30)
    result = sweep(encoder, (x, labels), norm=True, layers=[1, 2], **QUIET)
    best = result.encoder_at_best()
    assert isinstance(best, PEVisionEncoder)
    assert best.final_norm
    assert best.num_layers == result.best_layer


@pytest.mark.slow
def test_a_dual_encoder_is_swept_by_its_vision_tower():
    x, labels = images(20), np.arange(20) % 2
    result = sweep(core(), (x, labels), layers=[2], **QUIET)
    assert result.last_layer == 2


@pytest.mark.slow
def test_images_are_converted_and_batches_streamed():
    rng = np.random.default_rng(0)
    images = list(rng.integers(0, 256, (20, 40, 50, 3), dtype="uint8"))
    labels = np.arange(20) % 2
    encoder = vision_encoder()
    whole = sweep(encoder, (images, labels), layers=[1], probe="knn", **QUIET)
    prepared = PEImageConverter(32)(images)

    def batches():
        for start in range(0, 20, 7):  # not the sweep's own size
            yield prepared[start : start + 7], labels[start : start + 7]

    streamed = sweep(encoder, batches, layers=[1], probe="knn", **QUIET)
    assert [r.score for r in streamed.layers] == [r.score for r in whole.layers]


@pytest.mark.quick
def test_the_answer_is_a_sentence_and_names_the_probe():
    last = sweep(planted_model(4), classified(), probe=Ridge([0.5, 2.0]), **QUIET)
    assert str(last).endswith("accuracy 1.0000, the last one.")
    assert last.protocol["probe"] == {"alphas": [0.5, 2.0]}
    early = sweep(planted_model(1), classified(), **QUIET)
    assert early.differs_from_last
    assert str(early).endswith("(95 %): more than chance.")
    with pytest.raises(KeyError, match="5"):
        early[5]


@pytest.mark.quick
@pytest.mark.parametrize(
    ("names", "scores", "best"),
    [
        ((0, 1, 2), (1.0, 1.0, 1.0), 1),  # nothing can be cut off at layer 0
        ((0, 1, 2), (1.0, 0.5, 1.0), 2),
        ((0, 1, 2), (1.0, 0.9, 0.9), 0),
        ((1, 2, 3), (0.5, 1.0, 1.0), 1),
        (("stem", "a"), (1.0, 1.0), 0),
    ],
)
def test_of_equal_layers_the_first(names, scores, best):
    found = [LayerOutcome(np.zeros((1, 1)), score, [{}], [score]) for score in scores]
    assert best_place(Ridge(), names, found) == best


@pytest.mark.quick
def test_seeds_are_averaged():
    one = sweep(planted_model(1), classified(), seeds=(0,), **QUIET)
    two = sweep(planted_model(1), classified(), seeds=(1,), **QUIET)
    both = sweep(planted_model(1), classified(), seeds=(0, 1), **QUIET)
    for a, b, mean in zip(one.layers, two.layers, both.layers, strict=True):
        assert mean.seed_scores == (*a.seed_scores, *b.seed_scores)
        assert mean.score == pytest.approx((a.score + b.score) / 2)


@pytest.mark.quick
def test_a_set_of_its_own_tests():
    images, labels = classified()
    result = sweep(planted_model(2), (images[:60], labels[:60]),
                   (images[60:], labels[60:]), **QUIET)  # fmt: skip
    assert (result.protocol["train"], result.protocol["test"]) == (48, 30)
    assert result.best_layer == 2


# === Errors ===
@pytest.mark.quick
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probe": "svm"}, "There is no probe 'svm'. Known: knn"),
        ({"layers": [9]}, "There is no layer 9"),
        ({"layers": "some"}, 'expected "all"'),
        ({"reading": "map"}, "reads average or class_token"),
        ({"reading": "class_token"}, "without a class token"),
        ({"validation_share": 0.0}, "expected shares between 0 and 1"),
        ({"seeds": ()}, "seeds must be a tuple of at least one"),
        ({"norm": True}, "norm=True is for PE encoders"),
        ({"probe": "segmentation"}, "needs uint8 masks"),
        ({"probe": "depth"}, "needs float maps"),
        ({"probe": "tracking"}, "needs Clip objects"),
    ],
)
def test_bad_arguments_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        sweep(planted_model(1), classified(), **{**QUIET, **change})


@pytest.mark.quick
def test_bad_data_is_named():
    images, labels = classified()
    model = planted_model(1)
    with pytest.raises(ValueError, match="90 images and 5 targets"):
        sweep(model, (images, labels[:5]), **QUIET)
    with pytest.raises(ValueError, match="one whole number an image"):
        sweep(model, (images, labels * 0.5), **QUIET)
    with pytest.raises(ValueError, match="Too few samples"):
        sweep(model, (images[:2], labels[:2]), **QUIET)
    with pytest.raises(ValueError, match="need an image_converter"):
        sweep(model, ([np.zeros((9, 9, 3), "uint8")] * 4, labels[:4]), **QUIET)
    single = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Flatten()])
    with pytest.raises(TypeError, match="returns one tensor"):
        sweep(single, (images, labels), **QUIET)
    with pytest.raises(ValueError, match="at least two items"):
        sweep(model, clips(1), probe="tracking", **QUIET)


@pytest.mark.quick
def test_regression_settings_are_checked():
    with pytest.raises(ValueError, match="all above 0"):
        RidgeRegression(alphas=[0.0])
