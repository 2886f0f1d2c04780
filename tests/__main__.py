"""Runs the suite on all three backends: `python -m tests`, `python -m tests --quick`.

One backend after the other, each in as many processes as there are cores; the next one
starts when half of these have ended, for the last file of a backend keeps one core
busy. What never computes with a backend (the mark `once`) runs on the last one alone;
the quick subset has, on the others, what is computed in itself: layers, losses, models,
and runs these two side by side, a process each, for half of their time is importing.
Whole notebooks run by `--notebooks` alone, each on every backend that it claims, and
the page in a browser by `--app` alone, on PyTorch. What follows `--` goes to pytest.
The last lines are the time and the count of each backend.
"""

import argparse
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from tempfile import TemporaryDirectory

BACKENDS = ("tensorflow", "jax", "torch")
ONCE = "torch"  # runs what is marked `once` too: the fastest
QUICK = ("tests/layers", "tests/losses", "tests/models")  # of the others
ENDED = re.compile(r"gw\d+ has ended$")  # written by tests/conftest.py


class Run:
    """Pytest on one backend.

    Args:
        backend: its name.
        arguments: of pytest.
        cache: folder where JAX puts each program that it compiled, for all processes.
        workers: how many processes run its tests.

    Attributes:
        printed: set when it has ended, and all that it said is printed.
        code: exit code of pytest.
        closing: its last line.
        seconds: that it took.
    """

    def __init__(
        self, backend: str, arguments: list[str], cache: str, workers: int
    ) -> None:
        self.backend, self.arguments = backend, arguments
        self.cache, self.workers = cache, workers
        self.printed = threading.Event()
        self.code, self.closing, self.seconds = 1, "", 0.0

    def run(self, before: "Run | None", free: threading.Semaphore) -> None:
        """Runs it.

        Args:
            before: of which all that it says is printed first.
            free: released when half of the processes have ended.
        """
        try:
            self._run(before, free)
        finally:
            self.printed.set()

    def _run(self, before: "Run | None", free: threading.Semaphore) -> None:
        begun, missing = time.monotonic(), -(-self.workers // 2)
        said = [f"===== {self.backend} =====\n"]
        try:
            with subprocess.Popen(
                [sys.executable, "-m", "pytest", *self.arguments],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            ) as process:
                for line in process.stdout or ():
                    if ENDED.match(line):
                        missing -= 1
                        if not missing:
                            free.release()
                        continue
                    said.append(line)
                    self.closing = line if " in " in line else self.closing
                    if before is None or before.printed.is_set():
                        print("".join(said), end="", flush=True)
                        said.clear()
        finally:
            if missing > 0:
                free.release()
        self.code, self.seconds = process.returncode, time.monotonic() - begun
        if before:
            before.printed.wait()
        print("".join(said), end="", flush=True)

    def _environment(self) -> dict[str, str]:
        environment = {
            "JAX_COMPILATION_CACHE_DIR": self.cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            **os.environ,
            "KERAS_BACKEND": self.backend,
            "OMP_NUM_THREADS": "1",
            "TF_NUM_INTRAOP_THREADS": "1",
        }
        # Pytest rewrites each test file: once for all processes, where it may keep it.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        return environment


def run_all(runs: list[Run], at_once: int) -> None:
    """Runs the first so many at once, each other one when one before is nearly over."""
    free = threading.Semaphore(at_once)
    with ThreadPoolExecutor(len(runs)) as pool:
        started = []
        for run, before in zip(runs, [None, *runs], strict=False):
            free.acquire()
            started.append(pool.submit(run.run, before, free))
        for each in started:
            each.result()


def count(closing: str) -> str:
    """Returns pytest's closing counts as `N passed, N failed, N skipped`."""
    numbers = {word: int(n) for n, word in re.findall(r"(\d+) (\w+)", closing)}
    failed = sum(numbers.get(w, 0) for w in ("failed", "error", "errors"))
    return (
        f"{numbers.get('passed', 0)} passed, {failed} failed, "
        f"{numbers.get('skipped', 0)} skipped"
    )


def main() -> int:
    """Runs what the command line asks for; returns 0 if all passed."""
    parser = argparse.ArgumentParser(prog="python -m tests", description=__doc__)
    subset = parser.add_mutually_exclusive_group()
    subset.add_argument("--quick", action="store_true", help="the fast subset")
    subset.add_argument(
        "--notebooks", action="store_true", help="the notebooks, from end to end"
    )
    subset.add_argument(
        "--app", action="store_true", help="the page of keras-pe app, in a browser"
    )
    parser.add_argument("--backend", choices=BACKENDS, action="append")
    parser.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count() or 1,
        help="processes at a time; default: the cores. 0: in pytest's own process",
    )
    parser.add_argument(
        "--shuffle", type=int, metavar="SEED", help="tests in an order drawn by SEED"
    )
    parser.add_argument(
        "--durations", action="store_true", help="name the slowest tests of a backend"
    )
    parser.add_argument("pytest_arguments", nargs="*", metavar="PYTEST_ARGUMENT")
    options = parser.parse_args()
    backends = options.backend or ([ONCE] if options.app else list(BACKENDS))
    named = any(not word.startswith("-") for word in options.pytest_arguments)
    small = options.quick and ONCE in backends and not named  # all but one are
    arguments = ["-p", "no:cacheprovider"]
    arguments += ["--durations=40"] if options.durations else []
    arguments += options.pytest_arguments
    if options.shuffle is not None:
        arguments += ["-p", "randomly", f"--randomly-seed={options.shuffle}"]
    in_processes = [
        # Tests of a module stay together: they share what its fixtures made. Files
        # come in the order of tests/conftest.py, not by their number of tests.
        *(["-n", str(options.workers)] if options.workers else []),
        *(["--dist=loadfile", "--no-loadscope-reorder"] if options.workers else []),
    ]
    others = [backend for backend in backends if backend != ONCE]
    apart = small and options.workers > 1 and len(others) > 1
    if apart:
        backends = [*others, ONCE]

    def arguments_of(backend: str) -> list[str]:
        chosen = {"notebooks": options.notebooks, "app": options.app}
        wanted = [f"{'' if asked else 'not '}{mark}" for mark, asked in chosen.items()]
        wanted += ["quick", "not slow"] if options.quick else []
        if backend != ONCE and ONCE in backends:
            wanted.append("not once")
        marks = ["-m", " and ".join(wanted)]
        if small and backend != ONCE:
            marks += QUICK
        if options.notebooks and not named:
            marks.append("tests/notebooks")
        if options.app and not named:
            marks.append("tests/app")
        in_one = apart and backend != ONCE
        return [*marks, *arguments, *([] if in_one else in_processes)]

    with TemporaryDirectory() as cache:
        runs = [
            Run(backend, arguments_of(backend), cache, max(options.workers, 1))
            for backend in backends
        ]
        run_all(runs, len(others) if apart else 1)
    for run in runs:
        print(f"{run.backend}: {run.seconds:,.0f} seconds")
    for run in runs:
        print(f"{run.backend}: {count(run.closing)}")
    return max(run.code for run in runs)


if __name__ == "__main__":
    sys.exit(main())
