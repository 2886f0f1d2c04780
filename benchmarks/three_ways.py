"""Probe, LoRA and full fine-tuning: accuracy, time, numbers trained, what is saved.

Run:      KERAS_BACKEND=torch python -m benchmarks.three_ways --data data/emoji
          (and jax, tensorflow; adds what is missing to benchmarks/results/
          three_ways.json, so that a run that was stopped goes on; `--tasks`, `--seeds`,
          `--ways` choose; `--table` prints what is there as Markdown)
Expect:   an hour on one core; needs scikit-learn, onnx and onnxruntime.

Digits: scikit-learn's 1,797 of 8 x 8, enlarged to 32 px by repeating pixels; a seed
draws 320 of the first half to train on, a fifth of these chooses; the second half is
the test.
Emoji: 100 concepts that a seed draws, of the training vendors' drawings, which the
bundled encoder was trained on; the test are the same concepts by a vendor that it
never saw. Each classifier is then saved, loaded, exported to ONNX and asked again: the
largest difference of a probability, and how many test images got another class.

As a control the probe is trained on shuffled labels: a guess, or the test leaks.
"""

import argparse
import io
import json
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import keras_pe

# isort: split
import keras
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from keras_pe.export import export
from keras_pe.export.receipt import processor, today
from keras_pe.export.runtimes import open_file

PRESET = "pe_core_emoji_patch8_64"
TASKS = ("digits", "emoji")
CONTROL = "probe, labels shuffled"
WAYS = ("probe", "lora", "full", CONTROL)
SEEDS = (0, 1, 2)
NUM_DIGITS, NUM_CONCEPTS, LEAST_DRAWINGS = 320, 100, 5
RESULTS = Path(__file__).parent / "results" / "three_ways.json"

# Images and labels to train on, those of the test, names of classes.
Task = tuple[Any, np.ndarray, Any, np.ndarray, list[str]]


# === Data ===
def digits(seed: int) -> Task:
    """Returns digits: 320 of the first half, and all of the second."""
    data = load_digits()
    pixels = (255 - 255 * data.images / 16).astype("uint8")
    large = np.kron(pixels, np.ones((1, 4, 4), "uint8"))
    images = np.repeat(large[..., None], 3, axis=-1)
    half = len(images) // 2
    chosen = np.random.default_rng(seed).permutation(half)[:NUM_DIGITS]
    names = [str(number) for number in range(10)]
    train = images[chosen], data.target[chosen]
    return *train, images[half:], data.target[half:], names


def drawings(pattern: str, folder: Path) -> list[tuple[str, np.ndarray]]:
    """Returns names and images `(height, width, 3)`, on white."""
    found = []
    for path in sorted(folder.glob(pattern)):
        with tarfile.open(path) as tar:
            members: dict[str, dict[str, bytes]] = {}
            for member in tar:
                key, _, kind = member.name.rpartition(".")
                stream = tar.extractfile(member)
                if stream is not None:
                    members.setdefault(key, {})[kind] = stream.read()
        for parts in members.values():
            said = json.loads(parts.pop("json"))
            (content,) = parts.values()
            image = Image.open(io.BytesIO(content)).convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            rgb = Image.alpha_composite(white, image).convert("RGB").resize((64, 64))
            found.append((said["label"], np.asarray(rgb)))
    return found


def emoji(seed: int, folder: Path) -> Task:
    """Returns 100 concepts: of all training vendors, and of one that is new."""
    train, test = drawings("train-*.tar", folder), drawings("test-*.tar", folder)
    of_train, of_test = ([name for name, _ in part] for part in (train, test))
    common = sorted(
        name for name in set(of_test) if of_train.count(name) >= LEAST_DRAWINGS
    )
    chosen = np.random.default_rng(seed).permutation(common)[:NUM_CONCEPTS]
    names = sorted(str(name) for name in chosen)
    places = {name: place for place, name in enumerate(names)}
    found: list[Any] = []
    for part in (train, test):
        ours = [(places[name], image) for name, image in part if name in places]
        found += [np.stack([x for _, x in ours]), np.array([k for k, _ in ours])]
    return found[0], found[1], found[2], found[3], names


# === One classifier ===
def measured(task: Task, way: str, seed: int) -> dict[str, Any]:
    """Trains, saves, loads and exports a classifier; returns what was measured."""
    images, labels, test, truth, names = task
    keras.utils.set_random_seed(seed)
    method: Any = way
    if way == CONTROL:
        labels, method = np.random.default_rng(seed).permutation(labels), "probe"
    classifier = keras_pe.ImageClassifier(
        keras_pe.PEVisionEncoder.from_preset(PRESET),
        names,
        method,
        image_converter=keras_pe.PEImageConverter(images.shape[1]),
    )
    begun = time.perf_counter()
    report = classifier.fit(images, labels, seed=seed, progress=False)
    seconds = time.perf_counter() - begun
    given = classifier.predict_probabilities(test)
    found = {
        "seed": seed,
        "right": float((given.argmax(axis=1) == truth).mean()),
        "seconds": round(seconds, 1),
        "trained_parameters": report.trained_parameters,
        "best_epoch": report.best_epoch,
        "epochs": len(report.epochs),
        "validation": dict(report.validation),
        "train": len(images),
        "test": len(test),
    }
    if way == CONTROL:
        return found
    with tempfile.TemporaryDirectory() as folder:
        saved, files = Path(folder, "saved"), Path(folder, "files")
        classifier.save_to_preset(saved)
        loaded = keras_pe.ImageClassifier.from_preset(saved)
        again = loaded.predict_probabilities(test)
        export(saved, files)
        run = open_file(files / "image.onnx", "onnx")
        prepared = loaded.image_converter(list(test))
        parts = [run(prepared[n : n + 8])[0] for n in range(0, len(prepared), 8)]
        head = loaded.model.head.arrays()
        features = (np.concatenate(parts) - head["mean"]) / head["deviation"]
        logits = features @ head["kernel"] + head["bias"]
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    exported = odds / odds.sum(axis=1, keepdims=True)
    for name, other in (("loaded", again), ("exported", exported)):
        found[f"{name}_difference"] = float(np.abs(other - given).max())
        found[f"{name}_other_class"] = int(
            (other.argmax(axis=1) != given.argmax(axis=1)).sum()
        )
    return found


def table(content: dict[str, Any]) -> str:
    """Returns the results as Markdown: means over seeds."""
    lines = [
        "| data | backend | method | right, % (of each seed) | seconds | numbers "
        "trained | loaded, exported: largest difference | another class |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for backend, entry in content.items():
        for data, methods in entry["data"].items():
            for method, rows in methods.items():
                if not rows:
                    continue
                each = [100 * row["right"] for row in rows]
                spread = ", ".join(f"{value:.1f}" for value in each)
                cells = [
                    f"{np.mean(each):.1f} ({spread})",
                    f"{np.mean([row['seconds'] for row in rows]):.0f}",
                    f"{rows[0]['trained_parameters']:,}",
                ]
                if "loaded_difference" in rows[0]:
                    worst = [
                        max(row[f"{name}_difference"] for row in rows)
                        for name in ("loaded", "exported")
                    ]
                    others = sum(
                        row[f"{name}_other_class"]
                        for row in rows
                        for name in ("loaded", "exported")
                    )
                    cells += [", ".join(f"{x:.1e}" for x in worst), str(others)]
                else:
                    cells += ["", ""]
                lines.append(f"| {data} | {backend} | {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measures on this backend and adds to the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the emoji's shards")
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    parser.add_argument("--table", action="store_true", help="print what is there")
    options = parser.parse_args()
    content = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if options.table:
        print(table(content))
        return
    entry = content.setdefault(keras.backend.backend(), {"data": {}})
    for seed in options.seeds:
        for name in options.tasks:
            if name == "emoji" and options.data is None:
                parser.error("emoji are read from --data; or give --tasks digits.")
            methods = entry["data"].setdefault(name, {method: [] for method in WAYS})
            lacking = [
                method
                for method in options.ways
                if seed not in [row["seed"] for row in methods[method]]
            ]
            task = None
            for method in lacking:
                if task is None:
                    task = (
                        digits(seed) if name == "digits" else emoji(seed, options.data)
                    )
                row = measured(task, method, seed)
                methods[method].append(row)
                methods[method].sort(key=lambda one: one["seed"])
                entry |= {"machine": processor(), "date": today()}
                RESULTS.write_text(json.dumps(content, indent=1) + "\n")
                print(name, method, row, flush=True)
    print(table(content))


if __name__ == "__main__":
    main()
