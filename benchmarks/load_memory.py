"""Peak memory of loading a PE-Core-L14-336-sized float32 safetensors file.

Run:      python benchmarks/load_memory.py
Expect:   a line a backend and results/load_memory.json; some minutes, 2.7 GB of disk.

The file is made of random numbers. A fresh process imports everything, remembers its
memory, builds the model, loads the file, and reports the peak above what it
remembered, as a multiple of the file's size.
"""

import datetime
import json
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ARCHITECTURE = "PE-Core-L14-336"

WORKER = """
import os, sys
os.environ["KERAS_BACKEND"] = sys.argv[2]
import keras, keras_pe
from keras_pe.checkpoints import load_weights
from keras_pe.models.variants import text_config, vision_config

def kilobytes(field):
    with open("/proc/self/status") as status:
        return int(next(l for l in status if l.startswith(field)).split()[1])

# One tiny model first: backends allocate their own machinery at the first use.
small = keras_pe.PEVisionEncoder(16, 8, 16, 1, 1, 16, None, pooling=None)
before = kilobytes("VmRSS")
model = keras_pe.PECore(
    keras_pe.PEVisionEncoder(**vision_config("PE-Core-L14-336")),
    keras_pe.PETextEncoder(**text_config("PE-Core-L14-336")),
)
built = kilobytes("VmHWM")
report = load_weights(model, sys.argv[1])
assert len(report.loaded) == report.num_tensors
print(before, built, kilobytes("VmHWM"))
"""


def write_random(path: Path) -> int:
    """Writes a random checkpoint tensor by tensor; returns its bytes."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    from keras_pe.checkpoints.upstream import core_rules
    from keras_pe.models.variants import text_config, vision_config

    text = text_config(ARCHITECTURE)
    assert text is not None
    rules = list(core_rules(vision_config(ARCHITECTURE), text))
    header, offset = {}, 0
    for rule in rules:
        size = 4 * int(np.prod(rule.shape))
        header[rule.source] = {
            "dtype": "F32",
            "shape": list(rule.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    encoded = json.dumps(header).encode()
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for rule in rules:
            rng.standard_normal(rule.shape, dtype="float32").tofile(file)
    return path.stat().st_size


def main() -> None:
    """Measures and prints."""
    backends = sys.argv[1:] or ["jax", "torch", "tensorflow"]
    rows = {}
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "checkpoint.safetensors"
        size = write_random(path)
        for backend in backends:
            done = subprocess.run(
                [sys.executable, "-c", WORKER, str(path), backend],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise SystemExit(done.stderr)
            before, built, peak = (1024 * int(x) for x in done.stdout.split()[-3:])
            rows[backend] = {
                "peak over file size": round((peak - before) / size, 3),
                "peak of building alone": round((built - before) / size, 3),
            }
            print(f"{backend:12s} {rows[backend]}", flush=True)
    result = {
        "date": datetime.date.today().isoformat(),
        "file": f"{ARCHITECTURE}-sized, float32, {size:,} bytes",
        "rows": rows,
    }
    output = Path(__file__).parent / "results" / "load_memory.json"
    output.parent.mkdir(exist_ok=True)
    output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
