"""Captions by functions and people, what is cleaned, and what they are joined to."""

import functools

import numpy as np
import pytest

from keras_pe.data_engine import (
    FrameCaptions,
    FunctionCaptioner,
    FunctionLanguageModel,
    JoinedCaption,
    Keep,
    Probe,
    RefinedCaption,
    StageFailure,
    Summary,
    VideoCaption,
)
from keras_pe.data_engine.captioners import name_of
from keras_pe.data_engine.captions import clean
from keras_pe.data_engine.clips import with_content
from keras_pe.data_engine.frames import frames_of
from tests.data_engine.parts import brightness, clip, small_captioner

pytestmark = [pytest.mark.quick, pytest.mark.once]


@pytest.fixture
def row(tmp_path):
    path = clip(tmp_path / "a.gif", frames=3)
    return with_content({"key": "a", "path": str(path), "metadata": {}})


# === Cleaned ===
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" an owl\r\n\tflies ", "an owl flies"),
        ("an\x00owl\x9b\x1b[2J", "an owl [2J"),
        ("eine Eule \U0001f989", "eine Eule \U0001f989"),
        ("ふくろう", "ふくろう"),
        ("x" * 2000, "x" * 2000),
    ],
)
def test_a_caption_is_one_line(text, expected):
    assert clean(text, "It") == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "an empty caption"),
        (" \n", "an empty caption"),
        ("-- ?!", "an empty caption"),
        ("x" * 2001, "a caption is too long"),
        ("half \ud800", "a caption is no text"),
    ],
)
def test_what_is_no_caption_fails_by_its_reason(text, reason):
    with pytest.raises(StageFailure) as caught:
        clean(text, "It")
    assert caught.value.reason == reason
    assert len(caught.value.detail) < 120


def test_what_is_no_text_is_a_mistake_of_the_captioner():
    with pytest.raises(TypeError, match="It is a list, expected text"):
        clean(["owl"], "It")


# === By functions ===
def test_a_function_sees_pixels_of_the_video_and_of_each_frame(row):
    seen = []

    def look(frames):
        seen.append(frames)
        return brightness(frames)

    captioner = FunctionCaptioner(look, "1", image_size=8, num_frames=3)
    video = VideoCaption(captioner).run(None, row)["video_caption"]
    single = FrameCaptions(captioner).run(None, row)["frame_captions"]
    assert [frames.shape for frames in seen] == [(3, 8, 8, 3), *[(1, 8, 8, 3)] * 3]
    assert {frames.dtype for frames in seen} == {np.dtype("uint8")}
    assert np.array_equal(np.concatenate(seen[1:]), seen[0])
    assert single == [brightness(frames) for frames in seen[1:]]
    assert video == brightness(seen[0])
    assert len(set(single)) == 3


def test_captions_that_are_not_as_many_as_frames_are_a_mistake(row):
    captioner = small_captioner()
    captioner.of_frames = lambda loaded, frames: ["owl"]
    with pytest.raises(ValueError, match="1 captions of 2 frames"):
        FrameCaptions(captioner).run(None, row)


def test_a_function_is_known_by_its_name_and_source_or_version():
    captioner = FunctionCaptioner(brightness)
    assert captioner.settings()["function"] == "tests.data_engine.parts.brightness"
    assert "def brightness" in captioner.settings()["version"]
    assert FunctionCaptioner(brightness, "2").settings()["version"] == "2"
    with pytest.raises(ValueError, match=r"no source .* give version="):
        FunctionCaptioner(len)
    with pytest.raises(ValueError, match=r"no source .* give version="):
        FunctionLanguageModel(functools.partial(str.upper))
    partial = FunctionLanguageModel(functools.partial(str.upper), "1")
    assert partial.settings() == {"function": "functools.partial", "version": "1"}
    assert name_of(str.upper) == "builtins.str.upper"


# === Frames ===
def test_frames_are_decoded_once_and_can_not_be_changed(row):
    converter = small_captioner().converter
    first = frames_of(row, converter)
    assert frames_of(dict(row), converter) is first
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0
    assert frames_of(row, Probe(2).converter).shape == (2, 64, 64, 3)


def test_a_folder_of_frames_is_no_clip(tmp_path):
    clip(tmp_path / "folder" / "a.gif")
    row = with_content({"key": "a", "path": str(tmp_path / "folder")})
    assert row["failure"]["reason"] == "unreadable file"


# === By people ===
def test_a_persons_caption_takes_the_models_place_or_refuses_the_clip():
    stage = RefinedCaption({"1": " An  owl. ", "2": None})
    row = {"video_caption": "cat"}
    assert stage.run(None, {**row, "content": "0"}) == {
        "refined_caption": "cat",
        "by_hand": False,
    }
    assert stage.run(None, {**row, "content": "1"}) == {
        "refined_caption": "An owl.",
        "by_hand": True,
    }
    with pytest.raises(StageFailure, match="refused by hand"):
        stage.run(None, {**row, "content": "2"})


# === Joined ===
SAID = {
    "metadata": {"title": "Birds {0}", "tags": ["a", "b"], "none": ""},
    "refined_caption": "an owl; it turns",
    "frame_captions": ["an owl", "an owl", "a branch"],
}


def test_a_summary_is_asked_with_all_that_is_said_each_once():
    asked = []
    model = FunctionLanguageModel(lambda text: asked.append(text) or " an owl ", "1")
    assert Summary(model, words=9).run(None, SAID) == {"caption": "an owl"}
    (text,) = asked
    assert "at most 9 words" in text
    assert "Metadata: a, b; Birds {0}\n" in text
    assert "Video: an owl; it turns\n" in text
    assert "Frames: an owl; a branch\n" in text


def test_parts_that_are_left_out_are_not_read():
    stage = Summary(FunctionLanguageModel(str.upper, "1"), parts=["frames"])
    assert stage.reads == ("frame_captions",)
    text = stage.prompt({"frame_captions": ["owl"]})
    assert "Metadata: unknown\nVideo: unknown\nFrames: owl" in text


def test_joined_captions_say_each_thing_once():
    stage = JoinedCaption(["video", "frames"])
    assert stage.run(None, SAID) == {"caption": "an owl; it turns; a branch"}


@pytest.mark.parametrize("parts", [[], ["sound"], "video", ["video", 3]])
def test_unknown_parts_are_refused(parts):
    with pytest.raises(ValueError, match="expected some of metadata, video, frames"):
        JoinedCaption(parts)


def test_metadata_in_the_order_that_is_asked_for():
    row = {"metadata": {"code": "1F989", "tags": ["bird", "night"], "title": "owl"}}
    every, some = (
        JoinedCaption(["metadata"], keys) for keys in (None, ["title", "place", "tags"])
    )
    assert every.run(None, row) == {"caption": "1F989; bird, night; owl"}
    assert some.run(None, row) == {"caption": "owl; bird, night"}
    assert "keys" not in every.settings()  # as before there were any: the same hash
    assert some.settings()["keys"] == ["title", "place", "tags"]
    model = FunctionLanguageModel(str, "1")
    asked = Summary(model, parts=["metadata"], keys=["tags"]).prompt(row)
    assert "Metadata: bird, night\n" in asked
    for keys in ("title", [], [3]):
        with pytest.raises(ValueError, match="expected a list of names of metadata"):
            JoinedCaption(["metadata"], keys)
    with pytest.raises(ValueError, match=r"which parts=.* lack"):
        JoinedCaption(["video"], ["title"])


# === Measured ===
def test_motion_and_sharpness_of_known_clips(tmp_path):
    from PIL import Image

    def measured(values):
        images = [Image.new("RGB", (8, 8), (value,) * 3) for value in values]
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.gif"
        images[0].save(path, save_all=True, append_images=images[1:], duration=50)
        row = with_content({"key": "a", "path": str(path)})
        return Probe(num_frames=len(values)).run(None, row)

    still = measured([102])
    assert still == {
        "motion": 0.0,
        "motion_peak": 0.0,
        "sharpness": 0.0,
        "brightness": 0.4,
    }
    cut = measured([0, 255, 255])
    assert (cut["motion"], cut["motion_peak"], cut["sharpness"]) == (0.5, 1.0, 0.0)
    noise = with_content({"key": "a", "path": str(clip(tmp_path / "noise.gif"))})
    assert Probe(2).run(None, noise)["sharpness"] > 0.005


def test_numbers_outside_of_limits_fail():
    stage = Keep(motion=(0.1, 0.5), brightness=(None, 0.9))
    assert stage.reads == ("brightness", "motion")
    assert stage.run(None, {"motion": 0.1, "brightness": 0.9}) == {"kept": True}
    for motion, reason in ((0.05, "motion is too low"), (0.6, "motion is too high")):
        with pytest.raises(StageFailure, match=reason):
            stage.run(None, {"motion": motion, "brightness": 0.5})
    with pytest.raises(StageFailure, match="too low"):
        stage.run(None, {"motion": float("nan"), "brightness": 0.5})


@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"motion": 3},
        {"motion": (1,)},
        {"motion": ("a", None)},
        {"motion": (0.5, 0.1)},
    ],
)
def test_limits_that_are_none_are_refused(limits):
    with pytest.raises(ValueError, match=r"limits|motion="):
        Keep(**limits)
