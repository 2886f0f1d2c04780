"""Whether clips need several frames and their order: planted sets, both ways."""

import json

import numpy as np
import pytest

from keras_pe import PETokenizer
from keras_pe.cli.main import main
from keras_pe.evaluation import card_of_frames, order_probe, video_card
from keras_pe.evaluation.datasets import read_video_classes
from keras_pe.evaluation.order_probe import _Head, _Scale
from tests.small_models import core, perturb

SIDE, FRAMES = 32, 8


def moving(count, seed, still=False):
    """Squares that move to the right (class 0) or to the left (class 1), on noise."""
    rng = np.random.default_rng(seed)
    clips, labels = [], np.arange(count) % 2
    for label in labels:
        clip = np.repeat(rng.integers(90, 120, (1, SIDE, SIDE, 3), "uint8"), FRAMES, 0)
        top = int(rng.integers(4, 20))
        for number in range(FRAMES):
            at = FRAMES // 2 if still else number
            left = 3 * at
            clip[number, top : top + 8, left : left + 8] = 255
        clips.append(clip[::-1] if label and not still else clip)
    return clips, labels


@pytest.fixture(scope="module")
def parts():
    return perturb(core()), PETokenizer(8, 600, on_truncation="ignore")


def card(parts, clips, labels, **options):
    return video_card(
        *parts, clips, labels, ["right", "left"], ["{}"], num_resamples=500, **options
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_forward_against_reversed_needs_order_and_still_clips_do_not(parts, seed):
    found = card(parts, *moving(40, seed), seed=seed)
    assert found.order_matters is True
    assert found.order.ordered.low > 0.6
    assert found.order.backwards.value < 0.4  # the head takes them for the other class
    # The average is blind, which the card says and shows.
    for blind in ("shuffled", "reversed"):
        assert found.gain[blind].value == 0.0
        assert found.accuracy[blind] == found.accuracy["all frames"]
    assert "Does order matter? Yes" in str(found)
    assert "which no order can change" in str(found)
    still = card(parts, *moving(40, seed, still=True), seed=seed)
    assert still.order_matters is False
    assert still.more_frames_help is False
    assert abs(still.order.gain.value) < 1e-12
    assert "Does order matter? No, as far as these clips show" in str(still)


class Blind:
    """A model to which all frames of a clip look alike: their mean colour is equal."""

    def __init__(self, model):
        self.model = model

    def __getattr__(self, name):
        return getattr(self.model, name)

    def encode_image(self, images, normalize=True):
        grey = np.asarray(images).mean(axis=(1, 2, 3), keepdims=True)
        flat = np.broadcast_to(np.round(grey, 3), np.shape(images)).astype("float32")
        return self.model.encode_image(flat.copy(), normalize=normalize)


@pytest.mark.slow
def test_a_model_that_cannot_see_the_motion_says_no(parts):
    clips, labels = moving(40, 0)
    found = card((Blind(parts[0]), parts[1]), clips, labels)
    assert found.order_matters is False
    assert card(parts, clips, labels).order_matters is True


# === Of embeddings ===
def planted(count, kind, seed, noise=0.3):
    """Embeddings of frames with two classes, and the class vectors."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    frames = rng.normal(0, noise, (count, FRAMES, 16))
    frames += rng.normal(0, 0.3, (count, 1, 16))
    sign = np.where(labels, 1.0, -1.0)[:, None]
    if kind == "way":
        frames[:, :, 5] += sign * np.linspace(-1, 1, FRAMES)
    if kind == "later":  # the class is seen in all frames but the first
        frames[:, 1:, 0] += sign
    if kind == "once":  # ... in the middle alone
        frames[:, FRAMES // 2, 0] += 3 * sign[:, 0]
    if kind == "always":
        frames[:, :, 0] += 3 * sign
    vectors = np.zeros((2, 16), "float32")
    vectors[:, 0] = -1, 1
    return frames.astype("float32"), labels, vectors


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("kind", "helps", "order"),
    [
        ("way", False, True),
        ("later", True, False),
        ("always", False, False),
        ("nothing", False, False),
    ],
)
def test_planted_answers(kind, helps, order, seed):
    frames, labels, vectors = planted(60, kind, seed)
    for average in ("raw", "normalized"):
        found = card_of_frames(frames, labels, vectors, average, seed)
        assert (found.more_frames_help, found.order_matters) == (helps, order)


def test_the_middle_repeated_is_the_middle():
    frames, labels, vectors = planted(60, "once", 0)
    found = card_of_frames(frames, labels, vectors)
    best = found.accuracy["middle frame repeated"]
    assert best.value > found.accuracy["first frame"].value + 0.2
    assert found.gain["middle frame repeated"].value == pytest.approx(
        found.accuracy["all frames"].value - best.value
    )


def test_copies_in_two_classes_are_no_sign_of_order():
    # Each clip lies in both classes: what is fitted to one is wrong about the other, so
    # the average does worse than a guess, and noise seems better.
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(30, 1, 16)) + rng.normal(0, 0.5, (30, FRAMES, 16))
    probe = order_probe(np.concatenate([frames, frames]), np.arange(60) // 30)
    assert probe.average.value < probe.chance
    assert probe.order_matters is False


def test_the_head_is_ridge_regression():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(20, 30)), np.arange(20) % 3
    head = _Head(features, labels)
    targets = np.eye(3)[labels] - np.eye(3)[labels].mean(axis=0)
    squares = np.linalg.svd(features)[1] ** 2
    gaps = []
    for strength in 10.0 ** np.arange(-4, 4) * squares.sum() / 20:
        gram = features.T @ features + strength * np.eye(30)
        gaps.append(np.abs(np.linalg.solve(gram, features.T @ targets) - head.weights))
    assert min(gap.max() for gap in gaps) < 1e-9


def test_the_average_part_knows_no_order_and_the_others_do():
    videos = np.random.default_rng(0).normal(size=(6, FRAMES, 4))
    scale = _Scale(videos)
    back = videos[:, ::-1]
    np.testing.assert_allclose(scale.average(videos), scale.average(back), atol=1e-12)
    line = scale.features(videos)[:, 4:8] + scale.means[1] * scale.scales[1]
    line_back = scale.features(back)[:, 4:8] + scale.means[1] * scale.scales[1]
    np.testing.assert_allclose(line, -line_back, atol=1e-12)
    still = np.repeat(videos[:, :1], FRAMES, axis=1)
    assert _Scale(still).scales[1:] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("frames", "labels", "said"),
    [
        (np.zeros((8, 2, 4)), np.arange(8) % 2, "three frames or more"),
        (np.zeros((8, 4)), np.arange(8) % 2, "three frames or more"),
        (np.zeros((8, 3, 4)), np.arange(7) % 2, "one label a video"),
        (np.zeros((8, 3, 4)), np.zeros(8, int), "at least two classes"),
        (np.zeros((8, 3, 4)), np.arange(8) % 3, "at least 4"),
    ],
)
def test_what_a_probe_refuses(frames, labels, said):
    with pytest.raises(ValueError, match=said):
        order_probe(frames, labels)


def test_small_classes_have_no_order_probe():
    frames, labels, vectors = planted(6, "always", 0)
    found = card_of_frames(frames, labels, vectors)
    assert found.order_matters is None
    assert "It was not asked" in str(found)
    assert found.to_dict()["order"] is None


# === The command ===
@pytest.fixture
def folder(tmp_path):
    av = pytest.importorskip("av")
    clips, labels = moving(8, 0)
    for number, (clip, label) in enumerate(zip(clips, labels, strict=True)):
        path = tmp_path / "clips" / ("to_left" if label else "to_right")
        path.mkdir(parents=True, exist_ok=True)
        with av.open(str(path / f"{number}.mp4"), "w") as output:
            video = output.add_stream("libx264", rate=10)
            video.width = video.height = SIDE
            video.pix_fmt = "yuv420p"
            for frame in clip:
                image = av.VideoFrame.from_ndarray(frame, format="rgb24")
                output.mux(video.encode(image))
            output.mux(video.encode())
    return tmp_path / "clips"


@pytest.mark.slow
def test_the_command_on_a_folder_and_on_a_table(folder, capsys, tmp_path):
    preset = ["--preset", "pe_core_emoji_small_patch8_64", "--templates", "{}"]
    assert main(["video-card", str(folder), *preset]) == 0
    shown = capsys.readouterr().out
    assert "8 clips, 0 skipped" in shown
    assert "middle frame repeated" in shown
    assert "Do more frames help?" in shown
    rows = [
        f"{place.relative_to(folder)},{place.parent.name.replace('_', ' ')}"
        for place in sorted(folder.rglob("*.mp4"))
    ]
    (folder / "clips.csv").write_text("\n".join(["video,class", *rows]) + "\n")
    given = [str(folder / "clips.csv"), "--output", str(tmp_path / "card.json")]
    assert main(["video-card", *given, *preset]) == 0
    assert capsys.readouterr().out == shown
    written = json.loads((tmp_path / "card.json").read_text())
    assert written["accuracy"].keys() >= {"first frame", "shuffled", "reversed"}
    assert written["order_matters"] in (True, False)
    assert len(written["protocol"]["data_hash"]) == 64
    assert main(["video-card", str(tmp_path / "nothing")]) == 1
    assert "expected a folder with one folder a class" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["video-card", *given, "--seed", "-1"])
    assert "--seed: expected 0 or more, got -1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,class\na,b\n", "expected video and class"),
        ("video,class\na,\n", "line 2: no video, or no class"),
        ("video,class\na.mp4,b\n", r"a\.mp4 \(line 2\)"),
        ("video,class\na.mp4,b\na.mp4,b\n", "line 3 repeats the video of line 2"),
        ("video,class\na.mp4,b\na.mp4,c\n", "line 3 repeats the video of line 2"),
        ("video,class\na.mp4,b,c\n", "line 2: 3 fields under 2 columns"),
    ],
)
def test_bad_tables_of_classes(tmp_path, text, said):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        read_video_classes(path)


def test_numbers_and_holes_in_a_table_of_classes(tmp_path):
    (tmp_path / "0").write_bytes(b"")
    path = tmp_path / "a.jsonl"
    path.write_text('{"video": 0, "class": 7}\n')
    assert read_video_classes(path).class_names == ("7",)
    for hole in ("NaN", "null", '["a"]', "true", '" "'):
        path.write_text(f'{{"video": 0, "class": {hole}}}\n')
        with pytest.raises(ValueError, match="line 1: no video, or no class"):
            read_video_classes(path)
    with pytest.raises(ValueError, match=r"expected a table that ends in \.csv"):
        read_video_classes(tmp_path)


@pytest.mark.parametrize(
    ("frames", "classes", "said"),
    [
        ((0, 4, 3), (2, 3), r"\(0, 4, 3\); expected .*at least one video"),
        ((2, 4, 0), (2, 0), r"\(2, 4, 0\)"),
        ((2, 2, 3), (2, 3), "three frames or more"),
        ((2, 4, 3), (2, 5), r"class_vectors has shape \(2, 5\); .* 3 channels"),
        ((2, 4, 3), (3,), "class_vectors has shape"),
    ],
)
def test_shapes_that_do_not_fit_together(frames, classes, said):
    labels = np.zeros(frames[0], int)
    with pytest.raises(ValueError, match=said):
        card_of_frames(np.ones(frames, "float32"), labels, np.ones(classes, "float32"))
