"""Zero-shot accuracy against its definition, on images and videos."""

import json

import keras
import numpy as np
import pytest

from keras_pe import PEImageConverter
from keras_pe.evaluation import VideoProtocol, evaluate_zero_shot, weights_hash
from keras_pe.evaluation.accuracy import label_ranks
from keras_pe.evaluation.sample_embedder import SampleEmbedder
from keras_pe.preprocessing.image_errors import ImageError
from keras_pe.preprocessing.video import PEVideoConverter

pytestmark = pytest.mark.slow
NAMES = ["cat", "dog", "red car", "tree", "house", "cup"]
TEMPLATES = ["{}", "a {c}."]
LABELS = np.array([0, 1, 2, 2, 4, 0, 5, 3, 3])


def images(count=9):
    rng = np.random.default_rng(0)
    return list(rng.integers(0, 255, (count, 40, 60, 3)).astype("uint8"))


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def class_vectors(model, tokenizer):
    """Computes the class vectors as the paper says, class by class."""
    rows = []
    for name in NAMES:
        prompts = tokenizer([t.replace("{c}", "{}").format(name) for t in TEMPLATES])
        embeddings = keras.ops.convert_to_numpy(model.encode_text(prompts))
        rows.append(unit(unit(embeddings).mean(axis=0)))
    return np.stack(rows)


def scores(similarities):
    order = np.argsort(-similarities, axis=1)
    first = order[:, 0] == LABELS
    recalls = [first[label == LABELS].mean() for label in np.unique(LABELS)]
    return {
        "top1": first.mean(),
        "top5": (order[:, :5] == LABELS[:, None]).any(axis=1).mean(),
        "mean_class_recall": np.mean(recalls),
    }


def test_images_in_both_modes(model, tokenizer, tmp_path):
    result = evaluate_zero_shot(
        model, tokenizer, images(), LABELS, NAMES, TEMPLATES, batch_size=4
    )
    vectors = class_vectors(model, tokenizer)
    assert list(result.scores) == ["squash", "center_crop"]
    for mode, found in result.scores.items():
        converted = PEImageConverter(32, mode)(images())
        embeddings = keras.ops.convert_to_numpy(model.encode_image(converted))
        for name, value in scores(embeddings @ vectors.T).items():
            assert found[name].value == pytest.approx(value), (mode, name)
            assert found[name].low <= found[name].value <= found[name].high
    best = max(result.scores.values(), key=lambda found: found["top1"].value)
    assert result.best == best
    assert result.num_samples == 9

    path = tmp_path / "result.json"
    path.write_text("an older file")
    result.to_json(path)
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]
    content = json.loads(path.read_text())
    assert content["scores"]["squash"]["top1"]["count"] == 9
    assert content["protocol"]["templates"] == TEMPLATES
    assert content["protocol"]["converter"]["interpolation"] == "bilinear"
    assert content["weights_hash"] == weights_hash(model)
    assert content["versions"]["backend"] == keras.backend.backend()
    assert content["best_mode"] == result.best_mode
    assert "center_crop" in str(result)
    assert repr(result) == str(result)  # what a notebook shows
    assert "as in the paper" in str(result)
    again = evaluate_zero_shot(
        model, tokenizer, images(), LABELS, NAMES, TEMPLATES, batch_size=4
    )
    assert again == result


def test_ties_count_against_the_model():
    vectors = np.ones((3, 2))
    assert label_ranks(np.ones((2, 2)), vectors, np.array([0, 2])).tolist() == [2, 2]


@pytest.mark.parametrize("labels", [[0, 1, -1], [0, 1, 3], [0, 1], [0, 1, 2.0]])
def test_ranks_of_labels_that_are_no_classes(labels):
    with pytest.raises(ValueError, match="labels"):
        label_ranks(np.eye(3), np.eye(3), np.array(labels))


def test_few_classes_have_no_top5(model, tokenizer):
    result = evaluate_zero_shot(
        *(model, tokenizer, images(4), [0, 1, 2, 3], NAMES[:4]),
        resize_modes="squash",
        batch_size=4,
    )
    assert list(result.best) == ["top1", "mean_class_recall"]


@pytest.mark.parametrize("average", [None, "normalized"])
def test_videos(model, tokenizer, average):
    rng = np.random.default_rng(0)
    videos = rng.integers(0, 255, (9, 7, 40, 60, 3)).astype("uint8")
    result = evaluate_zero_shot(
        *(model, tokenizer, videos, LABELS, NAMES, TEMPLATES),
        resize_modes=["center_crop"],
        video=VideoProtocol(num_frames=3, frame_average=average),
        batch_size=12,
    )
    frames = PEVideoConverter(32, 3, resize_mode="center_crop")(videos)
    flat = keras.ops.convert_to_numpy(
        model.encode_image(frames.reshape(27, 32, 32, 3), normalize=False)
    )
    each = flat.reshape(9, 3, -1) if average is None else unit(flat.reshape(9, 3, -1))
    similarities = unit(each.mean(axis=1)) @ class_vectors(model, tokenizer).T
    for name, value in scores(similarities).items():
        assert result.best[name].value == pytest.approx(value), name
    assert result.protocol["video"] == {
        "num_frames": 3,
        "frame_rule": "benchmark",
        "frame_average": average or "raw",
        "unit_length": True,
    }
    assert result.task == "zero-shot video classification"


def test_bad_images_are_left_out_and_named(model, tokenizer, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    given = images()
    given[3] = bad
    with pytest.raises(ImageError, match="too many images skipped"):
        evaluate_zero_shot(
            model, tokenizer, given, LABELS, NAMES, TEMPLATES, batch_size=4
        )
    result = evaluate_zero_shot(
        *(model, tokenizer, given, LABELS, NAMES, TEMPLATES),
        max_skipped_share=0.2,
        batch_size=4,
    )
    assert result.num_samples == 8
    assert [skipped.index for skipped in result.skipped] == [3]
    assert result.best["top1"].count == 8
    assert "1 skipped" in str(result)
    rest = evaluate_zero_shot(
        *(model, tokenizer, given[:3] + given[4:], np.delete(LABELS, 3), NAMES),
        TEMPLATES,
        batch_size=4,
    )
    assert rest.scores == result.scores
    assert rest.data_hash != result.data_hash


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": [0] * 8}, "one whole number for each of 9"),
        ({"labels": [0.5] * 9}, "whole number"),
        ({"labels": [6] * 9}, "0 to 5"),
        ({"class_names": "cat"}, "list of at least one name"),
        ({"templates": "imagenet"}, "kinetics"),
        ({"templates": []}, "at least one"),
        ({"resize_modes": ["pad"]}, "resize_modes"),
        ({"resize_modes": []}, "resize_modes"),
        ({"batch_size": 0}, "batch_size"),
        ({"images": [], "labels": np.zeros(0, int)}, "no images"),
    ],
)
def test_bad_arguments_are_explained(model, tokenizer, changes, message):
    arguments = {"images": images(), "labels": LABELS, "class_names": NAMES}
    with pytest.raises(ValueError, match=message):
        evaluate_zero_shot(model, tokenizer, **{**arguments, **changes})


def test_bad_video_protocols(model):
    with pytest.raises(ValueError, match="frame_average"):
        VideoProtocol(frame_average="mean")
    with pytest.raises(ValueError, match="rule"):
        VideoProtocol(frame_rule="all")
    with pytest.raises(ValueError, match="at least one"):
        VideoProtocol(num_frames=0)
    for frames in (2.5, "8", True, float("nan")):
        with pytest.raises(ValueError, match="expected a whole number"):
            VideoProtocol(num_frames=frames)
    with pytest.raises(ValueError, match="for_task"):
        SampleEmbedder(model, video=VideoProtocol())
