"""Several processes: the same bytes as one, and ends with whoever started them."""

import os
import signal
import subprocess
import sys
import time

import pytest

from keras_pe.data_engine import (
    Engine,
    InProcesses,
    Limits,
    clips_of_folder,
    run_engine,
)
from tests.data_engine.parts import Letters, engine, files_of, folder_of

pytestmark = [pytest.mark.quick, pytest.mark.once]
PROGRAM = """
import os, sys, time
from keras_pe.data_engine import FolderLedger, InProcesses
from tests.data_engine.parts import Letters

class Slow(Letters):
    def run(self, loaded, row):
        open(os.path.join(sys.argv[1], str(os.getpid())), "w").close()
        time.sleep(600)

rows = [{"key": str(n), "content": str(n), "metadata": {}} for n in range(4)]
list(InProcesses(2, "fork")(rows, [Slow()], FolderLedger(sys.argv[1] + "/ledger")))
"""


@pytest.mark.parametrize("workers", [1, 3])
def test_processes_write_the_bytes_of_one(tmp_path, workers):
    found = clips_of_folder(folder_of(tmp_path / "clips", 6))
    (tmp_path / "clips" / "03.gif").write_bytes(b"no picture")
    limits, processes = Limits(failed=0.5), InProcesses(workers, "fork")
    run_engine(found, engine(), tmp_path / "a", limits)
    run_engine(found, engine(), tmp_path / "b", limits, mapper=processes)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_a_mistake_of_a_stage_comes_back(tmp_path):
    found = clips_of_folder(folder_of(tmp_path / "clips", 2))
    stages = [Letters(gives=["caption"], change=wrong)]
    with pytest.raises(ValueError, match=r"letters returned \['other'\]"):
        run_engine(
            found, Engine(stages), tmp_path / "output", mapper=InProcesses(2, "fork")
        )


def wrong(row):
    return {"other": 1}


def alive(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.slow
def test_workers_end_when_the_first_process_is_killed(tmp_path):
    program = subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path)])
    ends = time.monotonic() + 300
    while len(workers := [p.name for p in tmp_path.iterdir() if p.name.isdigit()]) < 2:
        assert time.monotonic() < ends
        assert program.poll() is None
        time.sleep(0.05)
    assert all(map(alive, workers))
    os.kill(program.pid, signal.SIGKILL)
    program.wait()
    while any(map(alive, workers)):
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_no_workers_are_refused():
    with pytest.raises(ValueError, match="workers must be a whole number"):
        InProcesses(0)
