"""What `import keras_pe` costs alone, and what it and its models add to `import keras`.

Run:      python benchmarks/import_time.py
Expect:   a line a backend and results/import_time.json; about three minutes.

The package is lazy: `import keras_pe` loads neither Keras nor NumPy. What a user pays
comes with the first class, so `import keras` is compared with the bare import, that of
all classes of the package's front page, and an interpreter that imports nothing. Fresh
processes, taking turns; CPU seconds of the process (user and system, to 10 ms), which
other load on the machine hardly touches; the least of the turns and the median.
"""

import datetime
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROUNDS = 7
BACKENDS = ("jax", "torch", "tensorflow")
STATEMENTS = {
    "nothing": "pass",
    "import keras": "import keras",
    "import keras_pe": "import keras_pe",
    "all classes": "from keras_pe import *",
}
# With "all classes" the backend has to be there, or lazy imports were measured.
CODE = """
import os, sys
{statement}
spent = os.times()
print("keras" in sys.modules, spent.user + spent.system)
"""


def seconds(name: str, backend: str) -> float:
    """Returns the CPU seconds of a process that runs a statement.

    Raises:
        RuntimeError: if the statement did not import, or imported, what it says.
    """
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(statement=STATEMENTS[name])],
        env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=True,
    )
    has_keras, spent = done.stdout.split()[-2:]
    expected = name in ("import keras", "all classes")
    if (has_keras == "True") is not expected:
        raise RuntimeError(f"{name}: Keras is {'not ' if expected else ''}imported.")
    return float(spent)


def main() -> None:
    """Measures and prints."""
    rows = {}
    for backend in BACKENDS:
        found: dict[str, list[float]] = {name: [] for name in STATEMENTS}
        for name in found:  # warm the disk's cache
            seconds(name, backend)
        for _ in range(ROUNDS):
            for name, times in found.items():
                times.append(seconds(name, backend))
        least = {name: min(times) for name, times in found.items()}
        median = {name: statistics.median(times) for name, times in found.items()}
        rows[backend] = {
            "least, s": {name: round(value, 3) for name, value in least.items()},
            "median, s": {name: round(value, 3) for name, value in median.items()},
            "bare import beyond nothing, s": round(
                least["import keras_pe"] - least["nothing"], 3
            ),
            "all classes beyond import keras": (
                f"{least['all classes'] / least['import keras'] - 1:.1%}"
            ),
        }
        print(f"{backend:12s} {rows[backend]}", flush=True)
    result = {"date": datetime.date.today().isoformat(), "rows": rows}
    output = Path(__file__).parent / "results" / "import_time.json"
    output.parent.mkdir(exist_ok=True)
    output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
