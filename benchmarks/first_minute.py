"""What the first minute with the package costs: help, version and the demo.

Run:      python benchmarks/first_minute.py
Expect:   a line a command and backend, and results/first_minute.json; three minutes.

CPU seconds of fresh processes (user and system), the least of a few runs: other load on
the machine only adds to them. Of the demo those of `import keras` are
taken off too; its first line is printed before Keras is imported.
"""

import datetime
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

ROUNDS = 3
BACKENDS = ("jax", "torch", "tensorflow")
COMMAND = [sys.executable, "-m", "keras_pe.cli.main"]


def cpu_seconds(command: list[str], backend: str) -> float:
    """Returns the least CPU time of a command."""
    found = []
    for _ in range(ROUNDS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            command,
            env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(
            after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        )
    return round(min(found), 2)


def main() -> None:
    """Measures, prints and writes."""
    rows: dict[str, object] = {}
    for arguments in (["--version"], ["--help"], ["classify", "--help"]):
        rows[" ".join(arguments)] = cpu_seconds([*COMMAND, *arguments], "jax")
    with tempfile.TemporaryDirectory() as folder:
        demo = [*COMMAND, "demo", "--output", str(Path(folder, "demo.png"))]
        for backend in BACKENDS:
            base = cpu_seconds([sys.executable, "-c", "import keras"], backend)
            whole = cpu_seconds(demo, backend)
            rows[backend] = {
                "import keras": base,
                "demo": whole,
                "beyond import keras": round(whole - base, 2),
            }
            print(backend, rows[backend], flush=True)
    result = {"date": datetime.date.today().isoformat(), "CPU seconds": rows}
    print(rows)
    output = Path(__file__).parent / "results" / "first_minute.json"
    output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
