"""A short run of every campaign, and that the engine sees what it must see."""

import ctypes
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import strategies as st

from tests.fuzz.campaign import Campaign
from tests.fuzz.campaigns import CAMPAIGNS
from tests.fuzz.engine import run_campaign
from tests.fuzz.mutations import NASTY, edited, edited_json

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.once]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What a short run of all campaigns gives."""
    folder = tmp_path_factory.mktemp("fuzz")
    command = [sys.executable, "-m", "tests.fuzz", "--short", "--seed", "0"]
    done = subprocess.run(
        [*command, "--json", str(folder / "counts.json"), "--save", str(folder)],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=600,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr[-3000:]
    kept = [path.read_text()[:800] for path in folder.glob("*.txt")]
    return json.loads((folder / "counts.json").read_text()), kept


@pytest.mark.parametrize("name", list(CAMPAIGNS))
def test_contract_holds(results, name):
    counts, kept = results
    assert counts[name]["failures"] == {}, kept
    assert counts[name]["cases"] == CAMPAIGNS[name].short
    # A campaign whose cases are all refused, or all read, tries nothing.
    assert len(counts[name]["outcomes"]) >= 2


class Bad(Campaign):
    """A campaign of which each case does what it says."""

    name = "bad"
    memory_mb = 100
    cpu_seconds = 0.5  # of which a hang burns twice as much
    wrongs = ("right", "answer", "raw", "signal", "exit", "memory", "hang")

    def prepare(self, folder):
        self.folder = folder

    def cases(self):
        return st.sampled_from(self.wrongs)

    def run(self, case):
        if case == "answer":
            raise AssertionError("another answer")
        if case == "raw":
            raise KeyError("name")
        if case == "signal":
            ctypes.string_at(0)
        if case == "exit":
            os._exit(3)
        if case == "memory":
            assert len(bytearray(os.urandom(1) * (130 << 20)))
        if case == "hang":
            end = time.process_time() + 30
            while time.process_time() < end:
                pass
        return case


def test_engine_sees_every_kind_of_failure(tmp_path):
    campaign = Bad()
    campaign.prepare(tmp_path)
    tally = run_campaign(campaign, seed=0, count=48, seconds=None)
    said = {failure.case: failure.what.splitlines()[0] for failure in tally.failures}
    assert said == {
        "answer": "another answer",
        "raw": "raw KeyError: 'name'",
        "signal": "the process ended by signal SIGSEGV",
        "exit": "the process ended by exit 3",
        "memory": said["memory"],
        "hang": "takes more than 1 s of processor time",
    }
    assert "MB of memory" in said["memory"]
    assert tally.outcomes["right"] >= 1
    assert tally.cases == tally.outcomes["right"] + tally.outcomes["broken"]


def test_one_seed_gives_the_same_cases(tmp_path):
    class Quiet(Bad):
        def cases(self):
            return st.integers(0, 10**9).map(str)

        def run(self, case):
            return f"saw {case}"

    runs = [run_campaign(Quiet(), seed, 30, None).outcomes for seed in (5, 5, 6)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


@pytest.mark.quick
def test_edits_of_bytes():
    content = b"abcdefgh"
    assert edited(content, [("flip", 0, 1)]) == b"cbcdefgh"
    assert edited(content, [("cut", 3)]) == b"abc"
    assert edited(content, [("remove", 1, 2)]) == b"adefgh"
    assert edited(content, [("insert", 2, b"XY")]) == b"abXYcdefgh"
    assert edited(content, [("copy", 0, 6, 2)]) == b"ghcdefgh"
    assert edited(content, [("number", 0, 1, 4, "big")]) == b"\0\0\0\x01efgh"


@pytest.mark.quick
def test_edits_of_json():
    value = {"a": 1, "b": [2, 3]}
    twice = [("set", 0, len(NASTY) - 1), ("set", 60, len(NASTY) - 1)]
    before = json.dumps(NASTY)
    json.dumps(edited_json(value, twice))  # a list is not put into itself
    assert json.dumps(NASTY) == before
    assert edited_json(value, [("delete", 0)]) == {"b": [2, 3]}
    assert edited_json(value, [("set", 2, 0)]) == {"a": 1, "b": [None, 3]}
    assert edited_json(value, [("rename", 0, "c")]) == {"b": [2, 3], "c": 1}
    assert edited_json(value, [("nest", 3)]) == {"a": 1, "b": [2, [3]]}
    assert edited_json(value, [("swap", 0, 1)]) == {"a": [2, 3], "b": 1}
    assert value == {"a": 1, "b": [2, 3]}
