"""Runs the suite on all three backends: `python -m tests`, `python -m tests --quick`.

Each backend runs in a process of its own, two at a time. What follows `--` goes to
pytest. The last lines are the time and the count of each backend.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

BACKENDS = ("tensorflow", "jax", "torch")  # the slowest first: two run at a time


def run(backend: str, arguments: list[str]) -> tuple[int, str, float]:
    """Runs pytest on one backend; returns its exit code, output and seconds."""
    begun = time.monotonic()
    threads = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1"}
    environment = {**os.environ, **threads, "KERAS_BACKEND": backend}
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    print(f"===== {backend} =====\n{finished.stdout}", flush=True)
    return finished.returncode, finished.stdout, time.monotonic() - begun


def count(output: str) -> str:
    """Returns pytest's closing counts as `N passed, N failed, N skipped`."""
    lines = [line for line in output.splitlines() if " in " in line]
    closing = lines[-1] if lines else ""
    numbers = {word: int(n) for n, word in re.findall(r"(\d+) (\w+)", closing)}
    failed = sum(numbers.get(w, 0) for w in ("failed", "error", "errors"))
    return (
        f"{numbers.get('passed', 0)} passed, {failed} failed, "
        f"{numbers.get('skipped', 0)} skipped"
    )


def main() -> int:
    """Runs what the command line asks for; returns 0 if all passed."""
    parser = argparse.ArgumentParser(prog="python -m tests", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the fast subset")
    parser.add_argument("--backend", choices=BACKENDS, action="append")
    parser.add_argument(
        "--durations", action="store_true", help="name the slowest tests of a backend"
    )
    parser.add_argument("pytest_arguments", nargs="*", metavar="PYTEST_ARGUMENT")
    options = parser.parse_args()
    arguments = [
        *(["-m", "quick and not slow"] if options.quick else []),
        *(["--durations=40"] if options.durations else []),
        *options.pytest_arguments,
    ]
    backends = options.backend or list(BACKENDS)
    with ThreadPoolExecutor(max_workers=min(2, os.cpu_count() or 1)) as pool:
        results = list(pool.map(lambda backend: run(backend, arguments), backends))
    for backend, (_, _, seconds) in zip(backends, results, strict=True):
        print(f"{backend}: {seconds:,.0f} seconds")
    for backend, (_, output, _) in zip(backends, results, strict=True):
        print(f"{backend}: {count(output)}")
    return max(code for code, _, _ in results)


if __name__ == "__main__":
    sys.exit(main())
