"""What `import keras_pe` adds to the time of `import keras`.

Run:      python benchmarks/import_time.py
Expect:   a line a backend and results/import_time.json; about two minutes.

Fresh processes, alternating; CPU seconds of the process (user and system), which other
load on the machine hardly touches; medians.
"""

import datetime
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROUNDS = 6
CODE = "import {module}, os; t = os.times(); print(t.user + t.system)"


def seconds(module: str, backend: str) -> float:
    """Returns the CPU seconds of a process that imports a module."""
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(module=module)],
        env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout.split()[-1])


def main() -> None:
    """Measures and prints."""
    rows = {}
    for backend in ("jax", "torch", "tensorflow"):
        found: dict[str, list[float]] = {"keras": [], "keras_pe": []}
        for module in found:  # warm the disk's cache
            seconds(module, backend)
        for _ in range(ROUNDS):
            for module, times in found.items():
                times.append(seconds(module, backend))
        base, ours = (statistics.median(times) for times in found.values())
        rows[backend] = {
            "import keras, s": round(base, 3),
            "import keras_pe, s": round(ours, 3),
            "added": f"{ours / base - 1:.1%}",
        }
        print(f"{backend:12s} {rows[backend]}", flush=True)
    result = {"date": datetime.date.today().isoformat(), "rows": rows}
    output = Path(__file__).parent / "results" / "import_time.json"
    output.parent.mkdir(exist_ok=True)
    output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
