"""Every kind of exported file beside its model: size, cosine, speed.

Run:      KERAS_BACKEND=torch python -m benchmarks.export_receipts
          (and jax, tensorflow; adds to benchmarks/results/export_receipts.json;
          `--models`, `--formats` choose; `--table` prints what is there as Markdown)
Expect:   two to ten minutes a backend on one core; needs `keras-pe[export]`, and
          TensorFlow and PyTorch, which write SavedModel, LiteRT and `.pt2`.

Each row is the receipt of an export: the file is run beside the Keras model on the
drawings of the package, in batches of 1, 2 and 7. The speed is measured again here: a
batch of one in file and model, in turns, by the CPU time of the process, because on a
busy machine what takes less than a time slice looks faster than it is. Both have one
thread on PyTorch; bind the process to a core (`taskset -c 1`) on other backends.

The published sizes have random weights: nothing is downloaded. How close int8 comes
depends on the weights; the speed does not.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import keras_pe

# isort: split
import keras
import numpy as np

from keras_pe.export import export
from keras_pe.export.exporting import SUFFIXES
from keras_pe.export.receipt import processor, today
from keras_pe.export.runtimes import open_file
from keras_pe.export.subject import (
    encoder_of,
    load_subject,
    read_inputs,
    token_ids,
)

RESULTS = Path(__file__).parent / "results" / "export_receipts.json"
LEAST_TURNS, LEAST_SECONDS = 11, 2.0  # of CPU time
EMOJI, SMALL = "pe_core_emoji_patch8_64", "pe_core_emoji_small_patch8_64"
ALL = (
    *("onnx", "onnx fp16", "onnx int8"),
    *("openvino", "openvino fp16", "openvino int8"),
    *("litert", "litert fp16", "litert int8", "savedmodel", "torch"),
)
TEXT = (
    *("onnx", "onnx fp16", "onnx int8", "openvino", "openvino fp16"),
    *("litert", "savedmodel"),
)
OTHERS = ("onnx", "onnx int8", "openvino fp16", "litert", "savedmodel")
LARGE = ("onnx", "onnx int8")
# Model, tower and formats, by backend.
ROWS: dict[str, list[tuple[str, str, tuple[str, ...]]]] = {
    "torch": [
        (EMOJI, "image", ALL),
        (EMOJI, "text", TEXT),
        (SMALL, "image", ("onnx", "litert")),
        ("PE-Core-T16-384", "image", (*LARGE, "openvino", "openvino int8")),
        ("PE-Spatial-T16-512", "image", LARGE),
        ("PE-Core-B16-224", "image", (*LARGE, "openvino int8")),
    ],
}
for other in ("jax", "tensorflow"):
    ROWS[other] = [
        (EMOJI, "image", OTHERS),
        (EMOJI, "text", OTHERS),
        ("PE-Core-T16-384", "image", LARGE),
        ("PE-Core-B16-224", "image", LARGE),
    ]


def subject(name: str) -> Any:
    """Returns a preset's name, or a model of a published size with random weights."""
    if name in (EMOJI, SMALL):
        return name
    keras.utils.set_random_seed(0)
    model = keras_pe.PEVisionEncoder.from_preset(name, load_weights=False)
    # Positions and class tokens begin at zero, where nothing could go wrong with them.
    for variable in model.trainable_variables:
        if "embedding" in variable.path and len(variable.shape) < 3:
            noise = keras.random.normal(variable.shape, 0.0, 0.02, seed=1)
            variable.assign(variable + noise)
    return model


def measured(name: str, tower: str, kind: str) -> dict[str, Any]:
    """Exports a tower; returns what its receipt says."""
    file_format, _, quantize = kind.partition(" ")
    model = subject(name)
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "files")
        receipt = export(model, files, file_format, tower, quantize=quantize or "none")
        (file,) = receipt.files.values()
        keras_ms, file_ms, ratio = cpu_times(model, tower, files / file.file)
    return {
        "model": name,
        "tower": tower,
        "file": kind,
        "backend": keras.backend.backend(),
        "mb": round(file.num_bytes / 2**20, 1),
        "cosine": min(one.cosine for one in file.compared),
        "error": max(one.error for one in file.compared),
        "keras_cpu_ms": round(keras_ms, 2),
        "file_cpu_ms": round(file_ms, 2),
        "ratio": round(ratio, 2),
        "in_int8": file.in_int8,
        "kept_in_float32": len(file.kept_in_float32),
        "versions": receipt.versions,
        "machine": processor(),
        "date": today(),
    }


def cpu_times(model: Any, tower: str, path: Path) -> tuple[float, float, float]:
    """Returns milliseconds of CPU time of model and file, and their median ratio."""
    kinds = {suffix: file_format for file_format, suffix in SUFFIXES.items()}
    run = open_file(path, kinds[path.suffix])
    loaded = load_subject(model, None, None, None)
    inputs = read_inputs(loaded, None)
    batch = (inputs.images if tower == "image" else token_ids(loaded, inputs))[:1]
    encode = encoder_of(loaded.tower(tower))
    if keras.backend.backend() == "torch":
        import torch

        torch.set_num_threads(1)
    run(batch), encode(batch)
    times = []
    while len(times) < LEAST_TURNS or sum(map(sum, times)) < LEAST_SECONDS:
        begun = time.process_time()
        encode(batch)
        between = time.process_time()
        run(batch)
        times.append((between - begun, time.process_time() - between))
    pairs = np.array(times)
    keras_ms, file_ms = 1e3 * np.median(pairs, axis=0)
    return keras_ms, file_ms, float(np.median(pairs[:, 0] / pairs[:, 1]))


def table(rows: list[dict[str, Any]]) -> str:
    """Returns the results as Markdown, the backends of a file side by side."""
    lines = [
        "| model | file | MB | lowest cosine, batches 1, 2, 7 | times as fast as Keras "
        "on PyTorch | JAX | TensorFlow |",
        "|---|---|---|---|---|---|---|",
    ]
    before = ""
    for name, tower, kind in dict.fromkeys(
        (row["model"], row["tower"], row["file"]) for row in rows
    ):
        found = {
            row["backend"]: row
            for row in rows
            if (row["model"], row["tower"], row["file"]) == (name, tower, kind)
        }
        worst = min(row["cosine"] for row in found.values())
        shown = f"{worst:.7f}"
        size = max(row["mb"] for row in found.values())
        title = f"{name}, {tower}"
        speeds = [
            f"{found[backend]['ratio']:.1f}" if backend in found else ""
            for backend in ("torch", "jax", "tensorflow")
        ]
        cells = [title if title != before else "", kind, str(size), shown, *speeds]
        lines.append(f"| {' | '.join(cells)} |")
        before = title
    return "\n".join(lines)


def main() -> None:
    """Measures on this backend and adds to the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", help="only these")
    parser.add_argument("--towers", nargs="+", default=["image", "text"])
    parser.add_argument("--formats", nargs="+", help='only these, as "onnx int8"')
    parser.add_argument("--table", action="store_true", help="print what is there")
    options = parser.parse_args()
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    if options.table:
        print(table(rows))
        return
    for name, tower, kinds in ROWS[keras.backend.backend()]:
        if options.models and name not in options.models:
            continue
        for kind in kinds if tower in options.towers else ():
            if options.formats and kind not in options.formats:
                continue
            row = measured(name, tower, kind)
            key = [row[part] for part in ("model", "tower", "file", "backend")]
            same = [
                place
                for place, one in enumerate(rows)
                if [one[p] for p in ("model", "tower", "file", "backend")] == key
            ]
            if same:
                rows[same[0]] = row
            else:
                rows.append(row)
            RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
            said = [str(value) for part, value in row.items() if part != "versions"]
            print(*said, flush=True)


if __name__ == "__main__":
    main()
