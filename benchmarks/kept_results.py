"""What a loop costs that keeps its embeddings: their own bytes, or their graphs too?

Run:      KERAS_BACKEND=torch python benchmarks/kept_results.py
          (and jax, tensorflow; adds to benchmarks/results/kept_results.json)
Expect:   under a minute; growth of the process per kept batch of 8 images, for
          `encode_image`, for `features`, and as a control for
          `encode_image(gradient=True)`, which on PyTorch keeps a graph a result.
"""

import gc
import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import keras_pe

# isort: split
import keras
import numpy as np
import psutil

NUM_KEPT, BATCH = 200, 8
NUM_GRAPHS = 20  # each is tens of megabytes on PyTorch
RESULTS = Path(__file__).parent / "results" / "kept_results.json"


def growth(call, images, count: int = NUM_KEPT) -> dict[str, float]:
    """Returns KB a kept result grows the process by, and KB of the result itself."""
    process = psutil.Process()
    kept = [call(images) for _ in range(count)]  # compiles, fills what pools there are
    keras.ops.convert_to_numpy(kept[-1])  # JAX answers before it has computed
    kept.clear()
    gc.collect()
    before = process.memory_info().rss
    kept = [call(images) for _ in range(count)]
    keras.ops.convert_to_numpy(kept[-1])
    after = process.memory_info().rss
    own = np.asarray(keras.ops.convert_to_numpy(kept[0])).nbytes
    return {
        "grown_kb": round((after - before) / count / 1024, 1),
        "own_kb": round(own / 1024, 1),
    }


def main() -> None:
    """Measures the running backend and adds it to the results."""
    model = keras_pe.PECore.from_preset("pe_core_emoji_patch8_64")
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (BATCH, 64, 64, 3)).astype("float32")
    encoder = model.vision_encoder
    # Most frugal first: what a call frees is what the next one finds.
    measured = {
        "encode_image": growth(model.encode_image, images),
        "features, layer 4": growth(lambda x: encoder.features(x, 4).values, images),
        "encode_image(gradient=True)": growth(
            lambda x: model.encode_image(x, gradient=True), images, NUM_GRAPHS
        ),
    }
    backend = keras.backend.backend()
    for what, figures in measured.items():
        print(f"{backend}: {what}: {figures}")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results[backend] = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "kept": NUM_KEPT,
        "batch": BATCH,
        **measured,
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
