"""Kills the data engine at random instants and lets it go on, again and again.

Run:      python -m benchmarks.kill_engine --kills 50
Expect:   "50 kills, N builds: equal to the byte", no caption computed twice but those
          that a killed process was at; then the same after a full disk; its row in
          results/kill_engine.json.

A process that has imported everything forks children; each is a run of `run_engine`
with one to three processes, drawn anew, over tiny animated GIFs: some damaged, some the
same, some that the captioner fails at. The child and its processes get SIGKILL at a
random instant, and the next one goes on. The captioner appends a line to a file when it
is called, which is how calls are counted.
"""

import argparse
import datetime
import errno
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from keras_pe.data_engine import (
    Engine,
    FunctionCaptioner,
    InProcesses,
    JoinedCaption,
    Limits,
    Probe,
    RefinedCaption,
    StageFailure,
    VideoCaption,
    clips_of_folder,
    in_this_process,
    run_engine,
)

RESULTS = Path(__file__).parent / "results" / "kill_engine.json"
CALLS = "KILL_ENGINE_CALLS"  # environment variable: the file that calls are added to
WORK = 0.02  # seconds that a caption takes
FULL, OTHER = 17, 18  # status of a run whose disk was full, or that failed


def caption(frames: np.ndarray) -> str:
    """Describes a clip, after it has said that it was asked to."""
    name = hashlib.sha256(frames.tobytes()).hexdigest()[:12]
    with open(os.environ[CALLS], "a") as file:
        file.write(f"{name}\n")
    time.sleep(WORK)
    if int(name, 16) % 10 == 0:
        raise StageFailure("one of ten", "That is how this captioner is.")
    return f"clip {name} of {frames.mean():.1f}"


def make_clips(folder: Path, count: int) -> None:
    """Draws clips; the last ones are damaged, empty, missing and there already."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        frames = [
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), "uint8")) for _ in "ab"
        ]
        path = folder / f"{number:03}.gif"
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=50)
    whole = (folder / "000.gif").read_bytes()
    (folder / "x-damaged.gif").write_bytes(whole[:30])
    (folder / "x-empty.gif").write_bytes(b"")
    (folder / "x-same.gif").write_bytes(whole)
    (folder / "x-missing.gif").symlink_to(folder / "nowhere.gif")


def build(clips: Path, output: Path, workers: int) -> None:
    """Runs the engine once."""
    captioner = FunctionCaptioner(caption, "1", image_size=8, num_frames=2)
    stages = [VideoCaption(captioner), RefinedCaption({}), JoinedCaption(["video"])]
    mapper = in_this_process if workers == 1 else InProcesses(workers, "fork")
    limits = Limits(failed=None)
    run_engine(
        clips_of_folder(clips), Engine([Probe(2)], None, stages), output, limits,
        mapper=mapper,
    )  # fmt: skip


def start(clips: Path, output: Path, workers: int, limit: int | None = None) -> int:
    """Forks a run in a group of processes of its own; returns its id."""
    child = os.fork()
    if child:
        return child
    status = 0
    try:
        os.setpgid(0, 0)
        if limit is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        build(clips, output, workers)
    except OSError as error:
        status = FULL if error.errno == errno.EFBIG else OTHER
    except BaseException:
        import traceback

        traceback.print_exc()
        status = OTHER
    os._exit(status)


def files(output: Path) -> dict[str, str]:
    """Returns a hash of each file that a build leaves, but for its ledger."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(output.iterdir())
        if path.is_file()
    }


def calls() -> Counter[str]:
    """Returns how often the captioner was asked about each clip."""
    path = Path(os.environ[CALLS])
    return Counter(path.read_text().split() if path.exists() else [])


def forget() -> None:
    """Begins to count anew."""
    Path(os.environ[CALLS]).write_text("")


def killed_builds(root: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kills builds until there were so many kills; compares each that was completed."""
    rng, clips = random.Random(seed), root / "clips"
    forget()
    began = time.monotonic()
    assert os.waitpid(start(clips, root / "whole", 1), 0)[1] == 0
    seconds, expected = time.monotonic() - began, files(root / "whole")
    asked = calls()
    assert set(asked.values()) == {1}
    found = {"kills": 0, "builds": 0, "asked_again": 0, "in_flight": 0, "late": 0}
    while found["kills"] < kills:
        output, bound = root / f"build-{found['builds']}", 0
        forget()
        while True:
            workers = rng.randint(1, 3)
            child = start(clips, output, workers)
            wait = rng.uniform(0, seconds / 3) if found["kills"] < kills else 600.0
            ends = time.monotonic() + wait
            status = None
            while status is None and time.monotonic() < ends:
                done, code = os.waitpid(child, os.WNOHANG)
                status = code if done else None
                time.sleep(0.001)
            if status is not None:
                assert status == 0, status
                break
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            found["kills"] += 1
            bound += workers
            found["late"] += (output / "rows.jsonl").exists()
        assert files(output) == expected, "other bytes"
        again = calls()
        assert again.keys() == asked.keys()
        assert again.total() - asked.total() <= bound, (again.total(), bound)
        found["builds"] += 1
        found["asked_again"] += again.total() - asked.total()
        found["in_flight"] += bound
        shutil.rmtree(output)
    return {**found, "clips": len(asked), "seconds_of_a_build": round(seconds, 2)}


def full_disks(root: Path) -> dict[str, Any]:
    """Lets a build meet a full disk, in its ledger and in its shards, and go on."""
    clips, expected, found = root / "clips", files(root / "whole"), {}
    for what, limit in (("ledger", 100), ("shards", 20_000)):
        output = root / f"full-{what}"
        forget()
        code = os.waitpid(start(clips, output, 1, limit), 0)[1]
        assert os.waitstatus_to_exitcode(code) == FULL, code
        assert not list(output.glob("*.tar"))
        first = calls().total()
        assert os.waitpid(start(clips, output, 2), 0)[1] == 0
        assert files(output) == expected
        found[what] = {"asked_before": first, "asked_in_all": calls().total()}
    return found


def main() -> None:
    """Kills, compares, and adds the row to the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    settings = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        os.environ[CALLS] = str(root / "calls")
        make_clips(root / "clips", settings.clips)
        found = killed_builds(root, settings.kills, settings.seed)
        found["full_disk"] = full_disks(root)
    found["date"] = datetime.datetime.now(datetime.UTC).date().isoformat()
    found["settings"] = vars(settings)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(
        f"{found['kills']} kills, {found['builds']} builds: equal to the byte. "
        f"{found['asked_again']} captions asked for again; {found['in_flight']} could "
        f"have been in flight. Full disk: {found['full_disk']}"
    )


if __name__ == "__main__":
    main()
