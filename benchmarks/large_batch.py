"""Peak memory of training steps of batch 4,096, in chunks, on each backend.

Run:      python -m benchmarks.large_batch
          python -m benchmarks.large_batch --equality
Expect:   a line a backend and results/large_batch.json; some minutes a backend.

A fresh process builds the trainer of the `emoji` configuration (mask regularisation
included), gives it a batch of noise at 64 px and takes two steps: the first compiles
and makes the optimizer's state. What is reported is the largest resident memory that
process ever had, libraries and batch included. With `--equality` a batch of 256 is
computed at once and in chunks of 32, and the gradients are compared; without mask
regularisation, which masks other rows where a batch is cut (an even share of each
chunk).
"""

import argparse
import datetime
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "large_batch.json"
BATCH = 4096
CHUNKS = {"image_chunk_size": 256, "text_chunk_size": 256, "loss_chunk_size": 512}


def emoji_trainer(batch: int, **changes: Any) -> Any:
    """Returns the trainer of the `emoji` configuration, always of the same weights."""
    import dataclasses

    import keras

    from keras_pe.training.run.config import build_model, build_trainer
    from projects.emoji.configs import CONFIGS

    keras.utils.set_random_seed(0)
    config = dataclasses.replace(
        CONFIGS["emoji"], batch_size=batch, warmup_steps=2, **changes
    )
    return build_trainer(config, build_model(config))


def noise(batch: int) -> dict[str, Any]:
    """Returns a batch of the emoji configuration's shapes."""
    import numpy as np

    from keras_pe.training.trainers.patch_masking import masked_patches
    from projects.emoji.configs import CONFIGS

    config = CONFIGS["emoji"]
    rng = np.random.default_rng(0)
    size, text = config.vision["image_size"], config.text
    side = size // config.vision["patch_size"]
    images = rng.random((batch, size, size, 3), dtype="float32")
    ids = rng.integers(1, text["vocabulary_size"] - 2, (batch, text["context_length"]))
    ids[:, -1] = text["vocabulary_size"] - 1  # the end of every text
    return {
        "images": images,
        "token_ids": ids.astype("int32"),
        "masked_patches": masked_patches(
            batch // config.mask_every, (side, side), config.mask_ratio, rng
        ),
    }


def compare(batch: int = 256) -> dict[str, Any]:
    """Returns how far gradients in chunks are from those of the whole batch."""
    import numpy as np

    from tests.training.gradients import loss_and_gradients

    rows = noise(batch)
    del rows["masked_patches"]
    chunks = {"image_chunk_size": 32, "text_chunk_size": 32, "loss_chunk_size": 64}
    trainer = emoji_trainer(batch, mask_weight=0.0)
    loss, whole = loss_and_gradients(trainer, rows)
    trainer = emoji_trainer(batch, mask_weight=0.0, **chunks)
    chunked_loss, chunked = loss_and_gradients(trainer, rows)
    size = sum(float(np.sum(g.astype("float64") ** 2)) for g in whole.values())
    error = sum(
        float(np.sum((chunked[path] - g).astype("float64") ** 2))
        for path, g in whole.items()
    )
    return {
        "relative difference of the gradient": float(f"{(error / size) ** 0.5:.2e}"),
        "of the loss": float(f"{abs(chunked_loss - loss) / loss:.2e}"),
    }


def measure(batch: int) -> dict[str, Any]:
    """Returns peak memory and the CPU time of the second step."""
    import numpy as np

    trainer, rows = emoji_trainer(batch, **CHUNKS), noise(batch)
    for _ in range(2):
        start = time.process_time()
        logs = trainer.train_on_batch(rows, return_dict=True)
        seconds = time.process_time() - start
    assert abs(float(logs["contrastive_loss"]) - np.log(batch)) < 2
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {"peak memory, GB": round(peak, 2), "CPU s a step": round(seconds, 1)}


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--backends", nargs="*", default=["torch", "jax", "tensorflow"])
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--equality", action="store_true")
    parser.add_argument("--measure", action="store_true", help="in this process")
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(compare() if options.equality else measure(options.batch)))
        return
    result = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"rows": {}}
    what = "in chunks, against at once" if options.equality else "rows"
    result["date"] = datetime.date.today().isoformat()
    if not options.equality:
        result["what"] = f"emoji configuration, 64 px, batch {options.batch}, {CHUNKS}"
    for backend in options.backends:
        command = [sys.executable, "-m", "benchmarks.large_batch", "--measure"]
        command += ["--equality"] if options.equality else []
        done = subprocess.run(
            [*command, "--batch", str(options.batch)],
            env={
                **os.environ,
                "KERAS_BACKEND": backend,
                "TF_CPP_MIN_LOG_LEVEL": "2",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(done.stderr)
        found = result.setdefault(what, {})
        found[backend] = json.loads(done.stdout.splitlines()[-1])
        print(f"{backend:12s} {found[backend]}", flush=True)
        RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
