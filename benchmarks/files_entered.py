"""How many files of this repository one has to open to follow what runs.

Run:      python benchmarks/files_entered.py
Expect:   a line a path through the code, also in results/files_entered.json: files of
          keras_pe and recipes with a function that was called, and those functions.

Calls are traced, imports are not: a module that is only imported is not entered. Each
path runs in a process of its own, on a model of a few thousand weights.

run        a small pretraining run from the command line: 4 steps, 2 evaluations, 2
           checkpoints, on shards that it writes first (not traced)
preset     PECore.from_preset of a bundled preset, without embedding anything
label      one image file to its label, with a classifier that is there
step       the second step of `fit` of contrastive training, on arrays
"""

import argparse
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[1]
OUTPUT = Path(__file__).parent / "results" / "files_entered.json"
PACKAGES = ("keras_pe", "recipes", "projects")
PRESET = "pe_core_emoji_small_patch8_64"


class Trace:
    """Notes the functions of this repository that are called while it is on."""

    def __init__(self) -> None:
        self.functions: set[tuple[str, str, int]] = set()

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event != "call" or code.co_name.startswith("<"):
            return  # bodies of modules, comprehensions
        path = code.co_filename
        if path.startswith(str(ROOT)):
            name = os.path.relpath(path, ROOT)
            # The body of a class runs when it is imported.
            if name.split(os.sep)[0] in PACKAGES and not _is_class(frame):
                self.functions.add((name, code.co_qualname, code.co_firstlineno))

    def __enter__(self) -> "Trace":
        threading.setprofile(self)
        sys.setprofile(self)
        return self

    def __exit__(self, *_: Any) -> None:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]

    def result(self) -> dict[str, Any]:
        """Returns the files, and how many functions of each were called."""
        files: dict[str, int] = {}
        for name, _, _ in sorted(self.functions):
            files[name] = files.get(name, 0) + 1
        return {"files": len(files), "functions": len(self.functions), "entered": files}


def _is_class(frame: FrameType) -> bool:
    return "__module__" in frame.f_locals and "__qualname__" in frame.f_locals


# === The paths ===
def trace_run(folder: Path) -> Trace:
    """A run of the recipe."""
    from recipes import pretrain
    from tests.data.shards import write_shards

    pattern = write_shards(folder, (20, 12))
    command = ["pretrain", "--config", "smoke", "--data", pattern]
    command += ["--validation-data", pattern, "--output", str(folder / "run")]
    command += ["--samples", "64", "--batch-size", "16", "--quiet"]
    command += ["--save-every", "2", "--evaluate-every", "2"]
    sys.argv = command
    with Trace() as trace:
        pretrain.main()
    return trace


def trace_preset(folder: Path) -> Trace:
    """A model from a preset."""
    import keras_pe

    cls = keras_pe.PECore
    with Trace() as trace:
        cls.from_preset(PRESET)
    return trace


def trace_label(folder: Path) -> Trace:
    """A label of an image."""
    import keras_pe

    model = keras_pe.PECore.from_preset(PRESET)
    tokenizer = keras_pe.PETokenizer.from_preset(PRESET)
    classifier = keras_pe.ZeroShotClassifier(model, tokenizer, ["owl", "guitar"])
    image = ROOT / "keras_pe" / "cli" / "demo_images" / "owl.png"
    with Trace() as trace:
        labels = classifier.predict([image])
    assert labels[0][0].name == "owl"
    return trace


def trace_step(folder: Path) -> Trace:
    """A step of training."""
    import keras
    import numpy as np

    import keras_pe
    from keras_pe.training import ContrastiveTrainer

    trainer = ContrastiveTrainer(keras_pe.PECore.from_preset(PRESET))
    trainer.compile(keras.optimizers.AdamW(1e-5))
    batch = {
        "images": np.linspace(-1, 1, 4 * 64 * 64 * 3, dtype="float32").reshape(
            4, 64, 64, 3
        ),
        "token_ids": np.arange(40, dtype="int32").reshape(4, 10),
    }
    trace = Trace()
    with trace:
        trainer.fit(batch, batch_size=4, epochs=1, verbose=0)
    return trace


PATHS: dict[str, Callable[[Path], Trace]] = {
    "run": trace_run,
    "preset": trace_preset,
    "label": trace_label,
    "step": trace_step,
}


def main() -> None:
    """Traces each path in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--only", choices=PATHS, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    if options.only:
        with TemporaryDirectory() as folder:
            trace = PATHS[options.only](Path(folder))
        print(json.dumps(trace.result()))
        return
    # Eager, so that a training step is Python to its end.
    environment = {**os.environ, "KERAS_BACKEND": "torch", "PYTHONPATH": str(ROOT)}
    found = {}
    for name in PATHS:
        done = subprocess.run(
            [sys.executable, __file__, "--only", name],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        found[name] = json.loads(done.stdout.splitlines()[-1])
        counts = f"{found[name]['files']:3d} files, {found[name]['functions']:4d}"
        print(f"{name:8s}{counts} functions", flush=True)
    options.output.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
