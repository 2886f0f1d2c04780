"""Frames by their time, clips of long files, and the limit on the clock."""

import itertools
import json
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from keras_pe.preprocessing import PEVideoConverter, VideoError
from keras_pe.preprocessing import time_limit as time_limit_module
from keras_pe.preprocessing.frame_choice import FrameChoice, Timeline, frame_indices
from keras_pe.preprocessing.time_limit import TimeLimit
from keras_pe.preprocessing.video_file import VideoFileFrames

sys.path.insert(0, str(Path(__file__).parent))
from odd_videos import encode, greys

pytestmark = [pytest.mark.slow, pytest.mark.once]


def numbers_of(converted, step=10):
    """Which frames of `greys` these are."""
    levels = (np.asarray(converted).mean(axis=(-3, -2, -1)) + 1) * 127.5
    return np.rint(levels / step).astype(int).tolist()


def seen_at(times, instant):
    """Slow and obvious: the last frame that has come by then."""
    return [number for number, time in enumerate(times) if time <= instant][-1]


# === Numbers alone ===
@pytest.mark.parametrize("total", [1, 7, 8, 100, 299])
@pytest.mark.parametrize("count", [1, 3, 8])
def test_time_is_the_middle_of_equal_parts_where_frames_are_equally_long(total, count):
    expected = [int(Fraction(2 * i + 1, 2 * count) * total) for i in range(count)]
    assert frame_indices(total, count, "time") == expected
    timeline = Timeline([40 * i for i in range(total)], 40 * total, Fraction(1, 1000))
    assert FrameChoice(count, "time").numbers(total, timeline, "a") == expected


def test_frames_that_are_shown_longer_are_taken_more_often():
    times = [0, 10, 20, 500]
    timeline = Timeline(times, 1000, Fraction(1, 1000))
    expected = [seen_at(times, 125 * i + 62.5) for i in range(8)]
    assert expected == [2, 2, 2, 2, 3, 3, 3, 3]
    assert FrameChoice(8, "time").numbers(4, timeline, "a") == expected


@pytest.mark.parametrize("rule", ["benchmark", "notebook", "time"])
def test_a_clip_is_the_frames_between_its_ends(rule):
    timeline = Timeline([100 + 40 * i for i in range(100)], 4100, Fraction(1, 1000))
    chosen = FrameChoice(5, rule, 1.0, 2.0).numbers(100, timeline, "a")
    # 25 frames, from number 25 on: the late start of the file changes nothing.
    assert chosen == [25 + n for n in frame_indices(25, 5, rule)]
    whole = FrameChoice(5, rule).numbers(100, timeline, "a")
    assert FrameChoice(5, rule, 0.0, 99.0).numbers(100, timeline, "a") == whole


def test_clips_one_after_the_other_leave_no_frame_out():
    timeline = Timeline(list(range(0, 1000, 100)), 1000, Fraction(1, 1000))
    for length in (1, 2, 3):  # tenths of a second, which floats only come close to
        found = []
        for start in range(0, 9, length):
            choice = FrameChoice(length, start=start / 10, end=(start + length) / 10)
            found += choice.numbers(10, timeline, "a")
        assert found == list(range(10 if length == 2 else 9))
    assert FrameChoice(1, "time", start=0.9).numbers(10, timeline, "a") == [9]


def test_seconds_of_numpy_are_seconds():
    choice = FrameChoice(2, start=np.float32(0.5), end=np.int64(2))
    assert choice == FrameChoice(2, start=0.5, end=2)
    config = PEVideoConverter(
        8, start=np.float64(0.5), end=np.int64(2), max_seconds=np.float32(9)
    ).get_config()
    assert json.loads(json.dumps(config)) == config


def test_a_clip_within_one_frame_is_the_frame_that_is_seen():
    timeline = Timeline([0, 1000, 2000], 3000, Fraction(1, 1000))
    for rule in ("benchmark", "notebook", "time"):
        assert FrameChoice(2, rule, 1.2, 1.3).numbers(3, timeline, "a") == [1, 1]


def test_a_clip_after_the_end_is_refused():
    timeline = Timeline([0, 1000], 2000, Fraction(1, 1000))
    with pytest.raises(
        VideoError, match=r"begins at 2 s, .* ends at 2\.000 s"
    ) as caught:
        FrameChoice(2, start=2.0).numbers(2, timeline, "a.mp4")
    assert caught.value.reason == "no frames"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"rule": "random"}, "frame_rule='random'"),
        ({"start": -1.0}, "start=-1.0"),
        ({"start": float("nan")}, "start=nan"),
        ({"end": float("inf")}, "end=inf"),
        ({"start": 2.0, "end": 2.0}, "an end after it"),
        ({"start": None}, "expected a start"),
        ({"end": "3"}, "end='3'"),
        ({"start": True}, "start=True"),
        ({"start": np.float32("nan")}, "start=np.float32"),
    ],
)
def test_bad_choices(arguments, said):
    with pytest.raises(ValueError, match=said):
        FrameChoice(2, **arguments)


# === Of files ===
TIMES = [0, 1, 2, 3, 10, 11, 30, 31, 32, 39]  # in tenths of a second


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_time_stamps_of_a_variable_rate(container):
    content = encode(greys(10), container, "libx264", times=TIMES, g="4", bf="2")
    found = PEVideoConverter(16, 8, "time")(content)[0]
    timeline = VideoFileFrames(content, "a", 10**6, 100).timeline()
    shown = [
        float((time - timeline.times[0]) * timeline.unit) for time in timeline.times
    ]
    np.testing.assert_allclose(shown, np.array(TIMES) / 10, atol=2e-3)
    assert timeline.seconds == pytest.approx(4.0, abs=0.61)  # the last one's is free
    instants = (np.arange(8) + 0.5) / 8 * timeline.seconds
    assert numbers_of(found) == [seen_at(shown, instant) for instant in instants]
    # Counting frames gives others: these are in the first second.
    assert numbers_of(PEVideoConverter(16, 8)(content)[0])[:4] != numbers_of(found)[:4]


@pytest.mark.parametrize("container", ["mp4", "matroska", "avi", "mpegts"])
def test_a_clip_of_a_file(container):
    codec = "mpeg4" if container == "avi" else "libx264"
    bf = "0" if container == "avi" else "2"
    content = encode(greys(20), container, codec, g="5", bf=bf)
    converter = PEVideoConverter(16, 3, start=0.5, end=1.4)
    assert numbers_of(converter(content)[0]) == [5, 9, 13]
    assert numbers_of(converter.convert(content, start=1.0, end=2.0)) == [10, 14, 19]
    assert numbers_of(converter.convert(content, end=0.61)) == [5, 5, 6]
    with pytest.raises(VideoError, match="begins at 7 s"):
        converter.convert(content, start=7.0, end=8.0)


def test_an_animation_has_times(tmp_path):
    images = [Image.new("L", (8, 8), 10 * i) for i in range(4)]
    more = {"append_images": images[1:], "duration": [100, 100, 100, 1700]}
    for suffix in ("gif", "webp", "png"):
        path = tmp_path / f"a.{suffix}"
        images[0].save(path, save_all=True, **more)
        found = PEVideoConverter(8, 4, "time")(path)[0]
        assert numbers_of(found) == [2, 3, 3, 3]
        clip = PEVideoConverter(8, 2, end=0.2)(path)[0]
        assert numbers_of(clip) == [0, 1]


def test_frames_without_times():
    clip = np.stack(greys(10))
    assert numbers_of(PEVideoConverter(16, 5, "time")(clip)[0]) == [1, 3, 5, 7, 9]
    with pytest.raises(VideoError, match="have none: cut them yourself") as caught:
        PEVideoConverter(16, 5, start=1.0)(clip)
    assert caught.value.reason == "no time stamps"
    content = encode(greys(10), "mpeg", "mpeg1video", rate=25)
    assert PEVideoConverter(16, 5)(content).shape == (1, 5, 16, 16, 3)
    with pytest.raises(VideoError, match="Not every frame has a time") as caught:
        PEVideoConverter(16, 5, "time")(content)
    assert caught.value.reason == "no time stamps"


# === The limit ===
def ticking(monkeypatch, step):
    ticks = itertools.count(step=step)
    clock = SimpleNamespace(monotonic=lambda: next(ticks))
    monkeypatch.setattr(time_limit_module, "time", clock)


def test_a_video_that_takes_too_long_is_refused(monkeypatch):
    content = encode(greys(20), "matroska", "libx264", g="5")
    converter = PEVideoConverter(16, 4, max_seconds=5.0, on_error="skip")
    right = converter(content)
    assert not converter.last_report.skipped
    ticking(monkeypatch, 1.0)  # each look at the clock is a second later
    with pytest.raises(
        VideoError, match=r"not done after \d\.0 s; max_seconds=5\. Raise"
    ):
        converter.convert(content)
    with pytest.warns(
        UserWarning, match="1 of 1 images skipped: 1 over the time limit"
    ):
        assert converter(content).shape == (0, 4, 16, 16, 3)
    ticking(monkeypatch, 1e-6)
    np.testing.assert_array_equal(converter(content), right)


def test_a_clock_that_nobody_asked_for_is_not_looked_at(monkeypatch):
    ticking(monkeypatch, 1e9)
    PEVideoConverter(16, 4)(encode(greys(4), "mp4", "libx264"))
    TimeLimit("a").check()


def test_animations_and_folders_have_the_limit_too(tmp_path, monkeypatch):
    images = [Image.new("L", (8, 8), 10 * i) for i in range(9)]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:])
    ticking(monkeypatch, 1.0)
    for video in (tmp_path / "a.gif", images):
        with pytest.raises(VideoError, match="max_seconds=3"):
            PEVideoConverter(8, 8, max_seconds=3)([video])


@pytest.mark.parametrize("wrong", [0, -1.0, float("inf"), "1", True])
def test_bad_limits(wrong):
    with pytest.raises(ValueError, match="max_seconds="):
        PEVideoConverter(max_seconds=wrong)


def test_the_configuration_holds_all_of_it():
    converter = PEVideoConverter(16, 4, "time", start=1.0, end=2.5, max_seconds=9.0)
    again = PEVideoConverter.from_config(converter.get_config())
    assert again.get_config() == converter.get_config()
    assert (again.choice, again.max_seconds) == (converter.choice, 9.0)
