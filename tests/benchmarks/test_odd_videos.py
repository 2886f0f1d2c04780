"""What judges odd videos sees every kind of fault."""

import ctypes
import os
import re
import sys
import time

import numpy as np
import pytest

pytest.importorskip("av")
pytest.importorskip("sklearn")
from benchmarks.odd_video_parts import judging
from benchmarks.odd_video_parts.damage import damaged
from benchmarks.odd_video_parts.encoding import CONTAINERS, encode, photographed
from benchmarks.odd_video_parts.whole import EITHER, REFUSED, Made, whole

pytestmark = [pytest.mark.slow, pytest.mark.once]


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("odd") / "good.mkv"
    path.write_bytes(encode(CONTAINERS["mkv"], photographed(10)))
    right = {
        rule: judging.hashed(converter(str(path))[0])
        for rule, converter in judging.converters("raise", 60.0).items()
    }
    return path, right


def judged(made, path, good):
    path.write_bytes(made.content)
    return judging.judge(made, path, *good)


@pytest.mark.parametrize("name", ["avi", "gif", "wmv"])
def test_all_kinds_of_a_container_keep_the_contract(name, good, tmp_path):
    made = [
        *whole(CONTAINERS[name]),
        *(one for one in damaged(CONTAINERS[name]) if one.max_seconds > 1),
    ]
    verdicts = [judged(one, tmp_path / f"a.{name}", good) for one in made]
    assert [verdict.problems for verdict in verdicts] == [[]] * len(made)
    outcomes = {verdict.outcomes["benchmark"] for verdict in verdicts}
    assert {"read", "damaged video"} <= outcomes or name == "gif"


def test_wrong_frames_counts_and_expectations_are_seen(good, tmp_path):
    content = encode(CONTAINERS["mkv"], photographed())
    other = photographed()[::-1]
    path = tmp_path / "a.mkv"
    for made, said in (
        (Made("a", content, frames=other), "frames .* instead of"),
        (Made("a", content, frames=photographed(15)), "16 frames instead of 15"),
        (Made("a", content, REFUSED), "not to be read, and read"),
        (Made("a", content[:300]), "sound, and refused: damaged video"),
        (Made(judging.SLOW_KIND, content[:300], EITHER), "and damaged video"),
    ):
        found = judged(made, path, good).problems
        assert any(re.search(said, text) for text in found), found
    assert judged(Made("a", content, frames=photographed()), path, good).problems == []


def test_what_a_converter_must_not_do_is_seen(good, tmp_path, monkeypatch):
    content = encode(CONTAINERS["mkv"], photographed())
    path = tmp_path / "a.mkv"
    made = Made("a", content, EITHER, max_seconds=0.01)
    real = judging.PEVideoConverter.convert

    def raw(self, video, name=None, **clip):
        if video == str(path):
            raise KeyError("moov")
        return real(self, video, name, **clip)

    def nameless(self, video, name=None, **clip):
        if video == str(path):
            raise judging.ImageError("something", "damaged video", "It is so and so.")
        return real(self, video, name, **clip)

    def slow(self, video, name=None, **clip):
        now[0] += 2.0
        self.max_seconds = None
        return real(self, video, name, **clip)

    def infinite(self, video, name=None, **clip):
        return real(self, video, name, **clip) + np.float32(np.inf)

    now = [0.0]
    monkeypatch.setattr(judging.time, "monotonic", lambda: now[0])
    for wrong, said in (
        (raw, "raw KeyError"),
        (nameless, "does not name the file"),
        (nameless, "says too little"),
        (slow, "with a limit of 0.01 s"),
        (infinite, "values up to inf"),
    ):
        monkeypatch.setattr(judging.PEVideoConverter, "convert", wrong)
        assert any(said in text for text in judged(made, path, good).problems)


@pytest.mark.skipif(sys.platform != "linux", reason="forks, and reads /proc")
def test_a_child_that_dies_hangs_or_swells_is_seen():
    work = {
        "crashes": lambda: ctypes.string_at(0),
        "hangs: not done": lambda: time.sleep(60),
        "MemoryError": lambda: bytearray(3 << 30),
        "writes on the terminal": lambda: os.write(2, b"a word"),
    }
    for said, wrong in work.items():
        _, _, problems = judging.in_child(wrong, 10.0 if "hangs" not in said else 0.5)
        assert any(said in text for text in problems), (said, problems)
    # Also where it fits in what this process has freed, but kept: blocks below the size
    # that is mapped of its own (32 MB at most, once one of it was freed), one after
    # another, under the last of them.
    del (raised := [b"x" * (31 << 20)])[:]
    blocks = [b"x" * (10 << 20) for _ in range(12)]
    del blocks[:-1]
    # Written to: zeros take no memory before that.
    found, peak, problems = judging.in_child(lambda: len(b"x" * (50 << 20)), 10.0)
    assert (found, problems, raised, len(blocks)) == (50 << 20, [], [], 1)
    assert 45 < peak < 80
