"""What benchmarks of a loss and its chunked form share: times in turns, processes."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def kilobytes(field: str) -> int:
    """Returns a size of this process in /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise KeyError(field)


def times_in_turns(
    steps: Sequence[Callable[..., Any]], inputs: Sequence[Any], rounds: int
) -> dict[str, float]:
    """Returns medians of the CPU time of both, s, and of their ratio.

    Args:
        steps: of the plain loss and of the chunked one; both give the value first.
        inputs: of either.
        rounds: turns of both.
    """
    values = [float(step(*inputs)[0]) for step in steps]  # compiles, too
    assert abs(values[0] - values[1]) < 1e-5 * values[0]
    seconds: list[list[float]] = []
    for _ in range(rounds):
        seconds.append([])
        for step in steps:
            start = time.process_time()
            step(*inputs)
            seconds[-1].append(time.process_time() - start)
    plain, chunked = (statistics.median(x) for x in zip(*seconds, strict=True))
    ratio = statistics.median(b / a for a, b in seconds)
    return {
        "plain, CPU s": round(plain, 3),
        "chunked, CPU s": round(chunked, 3),
        "chunked / plain": round(ratio, 3),
    }


def in_fresh_process(module: str, backend: str, task: list[Any]) -> dict[str, float]:
    """Returns what a new process of a benchmark measures, on one thread."""
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "OMP_NUM_THREADS": "1",
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_NUM_INTEROP_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    done = subprocess.run(
        [sys.executable, "-m", module, "--task", *map(str, task)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found
