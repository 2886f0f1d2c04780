"""What a layer sweep costs beside one plain forward pass, and its memory.

Run:      python -m benchmarks.layer_sweep
Expect:   a table of ratios and peak memories, and results/layer_sweep.json; some
          minutes.

A fresh process a backend reads images of noise through a base-sized encoder (12
blocks of 768 channels, 224 px), by turns: the plain pass gives the embedding of each
image, the sweep's pass writes what its probe reads of all 13 layers to disk. Heads
are not part of it. Memory is the largest resident memory of a process that sweeps so
many images with the bundled model, heads included.
"""

import argparse
import datetime
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "layer_sweep.json"
BACKENDS = ("jax", "torch", "tensorflow")
BATCH, BATCHES, ROUNDS = 8, 4, 3
READINGS = ("average", "tokens")
SAMPLES = (1_000, 4_000, 12_000)


# === In a process of its own ===
def measure_time() -> dict[str, Any]:
    """Returns seconds of both passes, by reading."""
    import numpy as np

    from keras_pe import PEVisionEncoder
    from keras_pe.models.compiled import no_gradient
    from keras_pe.probing.feature_store import FeatureStore
    from keras_pe.probing.layer_outputs import LayerOutputs
    from keras_pe.probing.ridge import Ridge
    from keras_pe.probing.sweep_layers import run_encoder

    encoder = PEVisionEncoder()
    images = np.random.default_rng(0).uniform(-1, 1, (BATCH * BATCHES, 224, 224, 3))
    images = images.astype("float32")
    labels = np.zeros(len(images), "int64")

    def plain() -> None:
        with no_gradient():
            for start in range(0, len(images), BATCH):
                np.asarray(encoder.encode(images[start : start + BATCH]))

    def swept(reading: Any) -> None:
        with FeatureStore() as store:
            run_encoder(
                LayerOutputs(encoder), Ridge(), reading, (images, labels), store, BATCH,
                None, False,
            )  # fmt: skip

    seconds: dict[str, list[float]] = {"plain": []}
    plain()
    for reading in READINGS:
        swept(reading)  # compiles
        seconds[reading] = []
    for _ in range(ROUNDS):
        for name, values in seconds.items():
            start = time.perf_counter()
            plain() if name == "plain" else swept(name)
            values.append(time.perf_counter() - start)
    return seconds


def measure_memory(samples: int) -> dict[str, Any]:
    """Returns the peak of a whole sweep, MB."""
    import numpy as np

    from keras_pe import PEVisionEncoder
    from keras_pe.probing import Attentive, sweep

    encoder = PEVisionEncoder.from_preset("pe_core_emoji_patch8_64")

    def batches() -> Any:
        rng = np.random.default_rng(0)
        for _ in range(samples // 100):
            images = rng.uniform(-1, 1, (100, 64, 64, 3)).astype("float32")
            yield images, rng.integers(0, 10, 100)

    for probe in ("ridge", Attentive(epochs=1)):
        sweep(encoder, batches, probe=probe, batch_size=100, progress=False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {"peak_mb": round(peak)}


def in_process(backend: str, job: str) -> Any:
    """Runs a measurement in a fresh process; returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.layer_sweep", "--job", job],
        env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--job", help="for the processes that this one starts")
    parser.add_argument("--backends", nargs="+", default=BACKENDS)
    options = parser.parse_args()
    if options.job:
        kind, _, number = options.job.partition(":")
        found = measure_memory(int(number)) if kind == "memory" else measure_time()
        print(json.dumps(found))
        return
    rows: dict[str, Any] = {}
    for backend in options.backends:
        seconds = in_process(backend, "time")
        plain = statistics.median(seconds["plain"])
        row: dict[str, Any] = {"plain_seconds": round(plain, 2)}
        for reading in READINGS:
            ratios = [
                ours / theirs
                for ours, theirs in zip(seconds[reading], seconds["plain"], strict=True)
            ]
            row[f"{reading}_ratio"] = round(statistics.median(ratios), 3)
        for samples in SAMPLES:
            peak = in_process(backend, f"memory:{samples}")["peak_mb"]
            row[f"peak_mb_{samples}"] = peak
        rows[backend] = row
        print(backend, row, flush=True)
    about = {"date": str(datetime.date.today()), "cpus": os.cpu_count(), "rows": rows}
    RESULTS.write_text(json.dumps(about, indent=2) + "\n")


if __name__ == "__main__":
    main()
