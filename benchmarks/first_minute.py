"""What the first minute with the package costs: help, version, the demo, a first load.

Run:      python -m benchmarks.first_minute
Expect:   a line a command and backend, and results/first_minute.json; five minutes.

CPU seconds of fresh processes (user and system), the least of a few runs: other load
only adds to them. Of the demo those of `import keras` are taken off too.
Its first line is also timed on the clock, from the start of the process: it is before
Keras is imported, so that what it takes beyond `import keras` is less than nothing. The
first `from_preset` of a process is compared with the second one.
"""

import datetime
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 5
BACKENDS = ("jax", "torch", "tensorflow")
COMMAND = [sys.executable, "-m", "keras_pe.cli.main"]
PRESET = "pe_core_emoji_patch8_64"
LOADS = f"""
import os, keras, keras_pe
def used():
    spent = os.times()
    return spent.user + spent.system
marks = [used()]
for _ in range(2):
    keras_pe.PECore.from_preset({PRESET!r})
    marks.append(used())
print(marks[1] - marks[0], marks[2] - marks[1])
"""


def environment(backend: str) -> dict[str, str]:
    """Returns the environment of a measured process."""
    return {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}


def seconds(command: list[str], backend: str) -> tuple[float, float]:
    """Returns the least CPU and clock time of a command."""
    found = []
    for _ in range(ROUNDS):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        subprocess.run(
            command,
            env=environment(backend),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        clock = time.monotonic() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        found.append((spent, clock))
    cpu, clocks = zip(*found, strict=True)
    return round(min(cpu), 2), round(min(clocks), 2)


def first_line(command: list[str], backend: str) -> float:
    """Returns the least clock time from a command's start to its first line."""
    found = []
    for _ in range(ROUNDS):
        start = time.monotonic()
        with subprocess.Popen(
            command,
            env=environment(backend),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            found.append(time.monotonic() - start)
            process.stdout.read()
        if process.returncode or not line.strip():
            raise RuntimeError(f"{command} failed, or printed no line.")
    return round(min(found), 2)


def loads(backend: str) -> tuple[float, float]:
    """Returns the least CPU seconds of a process' first load, and of its second."""
    found = []
    for _ in range(ROUNDS):
        done = subprocess.run(
            [sys.executable, "-c", LOADS],
            env=environment(backend),
            capture_output=True,
            text=True,
            check=True,
        )
        found.append([float(number) for number in done.stdout.split()[-2:]])
    first, second = zip(*found, strict=True)
    return round(min(first), 2), round(min(second), 2)


def measure(backend: str, demo: list[str]) -> dict[str, float]:
    """Returns what the demo and a first load cost on a backend."""
    base, base_clock = seconds([sys.executable, "-c", "import keras"], backend)
    whole, _ = seconds(demo, backend)
    line = first_line(demo, backend)
    first, second = loads(backend)
    return {
        "import keras": base,
        "demo": whole,
        "demo beyond import keras": round(whole - base, 2),
        "clock: import keras": base_clock,
        "clock: first line of the demo": line,
        "clock: first line beyond import keras": round(line - base_clock, 2),
        "first from_preset": first,
        "second from_preset": second,
        "first beyond the second": round(first - second, 2),
    }


def main() -> None:
    """Measures, prints and writes."""
    rows: dict[str, object] = {}
    for arguments in (["--version"], ["--help"], ["classify", "--help"]):
        rows[" ".join(arguments)] = seconds([*COMMAND, *arguments], "jax")[0]
    print(rows, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        demo = [*COMMAND, "demo", "--output", str(Path(folder, "demo.png"))]
        for backend in BACKENDS:
            rows[backend] = measure(backend, demo)
            print(backend, rows[backend], flush=True)
    result = {
        "date": datetime.date.today().isoformat(),
        "rounds": ROUNDS,
        "CPU seconds": rows,
    }
    output = Path(__file__).parent / "results" / "first_minute.json"
    output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
