"""Runs the suite on all three backends: `python -m tests`, `python -m tests --quick`.

One backend after the other, each in as many processes as there are cores. What never
computes with a backend (the mark `once`) runs on the last one alone; the quick subset
has, on the others, what is computed in itself: layers, losses, models, and runs these
two side by side, a process each, for half of their time is importing. Whole notebooks
run by `--notebooks` alone, each on every backend that it claims, and the page in a
browser by `--app` alone, on PyTorch. What follows `--` goes to pytest. The last lines
are the time and the count of each backend.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from tempfile import TemporaryDirectory

BACKENDS = ("tensorflow", "jax", "torch")
ONCE = "torch"  # runs what is marked `once` too: the fastest
QUICK = ("tests/layers", "tests/losses", "tests/models")  # of the others


def run(
    backend: str, arguments: list[str], cache: str, at_end: bool = False
) -> tuple[int, str, float]:
    """Runs pytest on one backend; returns its exit code, last line and seconds.

    Args:
        backend: its name.
        arguments: of pytest.
        cache: folder where JAX puts each program that it compiled, for all processes.
        at_end: whether its output is printed when it has ended, in one piece.
    """
    begun = time.monotonic()
    environment = {
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        **os.environ,
        "KERAS_BACKEND": backend,
        "OMP_NUM_THREADS": "1",
        "TF_NUM_INTRAOP_THREADS": "1",
    }
    # Pytest rewrites each test file: once for all processes, where it may keep them.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    said = [f"===== {backend} =====\n"]
    if not at_end:
        print(said.pop(), end="", flush=True)
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        closing = ""
        for line in process.stdout or ():
            if at_end:
                said.append(line)
            else:
                print(line, end="", flush=True)
            closing = line if " in " in line else closing
    print("".join(said), end="", flush=True)
    return process.returncode, closing, time.monotonic() - begun


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
    arguments = [*(["--durations=40"] if options.durations else [])]
    arguments += options.pytest_arguments
    if options.shuffle is not None:
        arguments += ["-p", "randomly", f"--randomly-seed={options.shuffle}"]
    in_processes = [
        # Tests of a module stay together: they share what its fixtures made. Files
        # come in the order of tests/conftest.py, not by their number of tests.
        *(["-n", str(options.workers)] if options.workers else []),
        *(["--dist=loadfile", "--no-loadscope-reorder"] if options.workers else []),
    ]

    with TemporaryDirectory() as cache:

        def results_of(backend: str, at_end: bool = False) -> tuple[int, str, float]:
            wanted = [
                f"{'' if chosen else 'not '}{mark}"
                for mark, chosen in (
                    ("notebooks", options.notebooks),
                    ("app", options.app),
                )
            ]
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
            given = [*marks, *arguments, *([] if at_end else in_processes)]
            return run(backend, given, cache, at_end)

        others = [backend for backend in backends if backend != ONCE]
        if small and options.workers > 1 and len(others) > 1:
            with ThreadPoolExecutor(options.workers) as pool:
                results = [*pool.map(lambda each: results_of(each, True), others)]
            backends = [*others, ONCE]
            results.append(results_of(ONCE))
        else:
            results = [results_of(backend) for backend in backends]
    for backend, (_, _, seconds) in zip(backends, results, strict=True):
        print(f"{backend}: {seconds:,.0f} seconds")
    for backend, (_, closing, _) in zip(backends, results, strict=True):
        print(f"{backend}: {count(closing)}")
    return max(code for code, _, _ in results)


if __name__ == "__main__":
    sys.exit(main())
