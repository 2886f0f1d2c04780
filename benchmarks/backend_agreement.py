"""How far the three backends are from each other on every reference output.

Run:      python benchmarks/backend_agreement.py
Expect:   the largest relative L2 difference of each pair, in float32, and
          results/backend_agreement.json; about two minutes.

Each backend runs in a process of its own on the reference models (`tests/reference`)
and writes all its outputs: towers, layers, embeddings, videos.
"""

import datetime
import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
BACKENDS = ("jax", "torch", "tensorflow")

WORKER = """
import sys
import numpy as np
from keras_pe.presets import load_weights
from tests.presets.test_reference_numbers import all_outputs, build, to_numpy
from tests.reference_models import TIMM, UPSTREAM, checkpoint
folders = [f"upstream/{n}" for n in UPSTREAM] + [f"timm/{n}" for n in TIMM]
found = {}
for folder in [*folders, "open_clip"]:
    model = build(folder)
    load_weights(model, checkpoint(folder))
    for name, value in all_outputs(folder, model):
        found[f"{folder} {name}".replace("/", "|")] = np.asarray(to_numpy(value))
np.savez(sys.argv[1], **found)
"""


def main() -> None:
    """Measures and prints."""
    outputs = {}
    with tempfile.TemporaryDirectory() as directory:
        for backend in BACKENDS:
            path = Path(directory) / f"{backend}.npz"
            subprocess.run(
                [sys.executable, "-c", WORKER, str(path)],
                env={**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)},
                cwd=ROOT,
                check=True,
                stderr=subprocess.DEVNULL,
            )
            with np.load(path) as arrays:
                outputs[backend] = {name: arrays[name] for name in arrays.files}
    rows = {}
    for first, second in itertools.combinations(BACKENDS, 2):
        worst = max(
            (
                float(np.linalg.norm(a - outputs[second][name]) / np.linalg.norm(a)),
                name.replace("|", "/"),
            )
            for name, a in outputs[first].items()
        )
        rows[f"{first} and {second}"] = {
            "largest relative L2 difference": float(f"{worst[0]:.2e}"),
            "output": worst[1],
            "outputs compared": len(outputs[first]),
        }
        print(f"{first} and {second}: {rows[f'{first} and {second}']}")
    result = {"date": datetime.date.today().isoformat(), "rows": rows}
    output = Path(__file__).parent / "results" / "backend_agreement.json"
    output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
