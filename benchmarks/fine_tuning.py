"""What a head on the frozen bundled encoder learns, and what it needs for that.

Run:      KERAS_BACKEND=torch python -m benchmarks.fine_tuning
          (and jax, tensorflow; adds to benchmarks/results/fine_tuning.json)
Expect:   the figures of docs/fine_tuning.md; two minutes. Needs scikit-learn.

scikit-learn's 1,797 digits, 8 px wide, are enlarged to 64 px by repeating pixels. A
seed chooses 320 of the first half to train on (8 epochs of 10 steps, AdamW at 1e-2) and
starts the head; the second half is the test. The encoder is frozen, so its embeddings
are computed once, and the heads of the page's model learn from these. As a control the
training labels are shuffled, twenty times: if the mean were above a guess, the test
would leak. One shuffle shows little, for all images of a digit get the same answer.

Figures are means over the seeds and half of a 95 % interval (Student's t).
"""

import datetime
import json
import platform
from pathlib import Path
from typing import Any

import keras_pe

# isort: split
import keras
import numpy as np
from keras import layers
from scipy.stats import t as student
from sklearn.datasets import load_digits

from keras_pe.cli.demo import IMAGES

PRESET = "pe_core_emoji_patch8_64"
SEEDS, CONTROL_SEEDS = range(3), range(20)
NUM_TRAINED, EPOCHS, BATCH = 320, 8, 32
AT_ONCE = 128  # images in a pass of the encoder
GUESS, DEVIATIONS = 0.10, 3.0  # a control above by more standard errors is a leak
RESULTS = Path(__file__).parent / "results" / "fine_tuning.json"


def enlarged(images: np.ndarray, side: int) -> np.ndarray:  # (count, 8, 8), 0 to 16
    """Returns images `(count, side, side, 3)` in [-1, 1]."""
    grey = np.kron(images / 8.0 - 1.0, np.ones((side // 8, side // 8)))
    return np.repeat(grey[..., None], 3, axis=-1).astype("float32")


def embedded(encoder: Any, images: np.ndarray) -> np.ndarray:
    """Returns the embeddings of prepared images, as the encoder gives them."""
    parts = np.array_split(images, max(1, len(images) // AT_ONCE))
    return np.concatenate([np.asarray(encoder.encode(part)) for part in parts])


def norms(embeddings: np.ndarray) -> list[float]:
    """Returns the mean norm of embeddings, and the norm of their mean."""
    lengths = np.linalg.norm(embeddings, axis=1)
    mean = np.linalg.norm(embeddings.mean(axis=0))
    return [round(float(lengths.mean()), 1), round(float(mean), 1)]


def head(kind: str, channels: int) -> keras.Model:
    """Returns what follows the encoder: a linear layer, behind a batch norm or not."""
    inputs = x = keras.Input((channels,))
    if kind != "linear alone":
        momentum = 0.99 if kind == "momentum 0.99" else 0.9
        x = layers.BatchNormalization(momentum=momentum, scale=False)(x)
    return keras.Model(inputs, layers.Dense(10)(x))


def trained(kind: str, embeddings: np.ndarray, labels: np.ndarray, seed: int) -> Any:
    """Returns the loss of the first epoch, and test loss and accuracy of the last."""
    half = len(labels) // 2
    train = np.random.default_rng(seed).permutation(half)[:NUM_TRAINED]
    test = np.arange(half, len(labels))
    answers = labels[train]
    if kind == "labels shuffled":
        answers = np.random.default_rng(seed + 1).permutation(answers)
    keras.utils.set_random_seed(seed)
    model = head(kind, embeddings.shape[1])
    model.compile(
        keras.optimizers.AdamW(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    history = model.fit(
        embeddings[train], answers, BATCH, epochs=EPOCHS, shuffle=True, verbose=0
    )
    loss, accuracy = model.evaluate(embeddings[test], labels[test], verbose=0)
    return history.history["loss"][0], loss, accuracy


def interval(values: Any) -> list[float]:
    """Returns a mean and half of its 95 % interval."""
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    half = student.ppf(0.975, len(values) - 1) * error
    return [round(float(np.mean(values)), 3), round(float(half), 3)]


def main() -> None:
    """Measures the running backend and adds it to the results.

    Raises:
        RuntimeError: if the control has learnt anything.
    """
    digits = load_digits()
    encoder = keras_pe.PEVisionEncoder.from_preset(PRESET)
    demo = keras_pe.PEImageConverter.from_preset(PRESET)(sorted(IMAGES.glob("*.png")))
    embeddings = embedded(encoder, enlarged(digits.images, 64))
    result: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "machine": platform.machine(),
        "seeds": list(SEEDS),
        "mean norm, norm of the mean": {
            "digits, 64 px": norms(embeddings),
            "digits, 32 px": norms(embedded(encoder, enlarged(digits.images, 32))),
            "demo drawings": norms(embedded(encoder, demo)),
        },
    }
    print(result, flush=True)
    for kind in ("standardised", "linear alone", "momentum 0.99", "labels shuffled"):
        seeds = CONTROL_SEEDS if kind == "labels shuffled" else SEEDS
        runs = [trained(kind, embeddings, digits.target, seed) for seed in seeds]
        first, last, accuracy = zip(*runs, strict=True)
        result[kind] = {
            "accuracy": interval(accuracy),
            "loss of the first epoch": interval(first),
            "test loss": interval(last),
            "accuracy of each seed": [round(value, 3) for value in accuracy],
        }
        print(kind, result[kind], flush=True)
    control = result["labels shuffled"]["accuracy of each seed"]
    error = np.std(control, ddof=1) / np.sqrt(len(control))
    if np.mean(control) > GUESS + DEVIATIONS * error:
        raise RuntimeError(
            f"With shuffled labels {control} are right, where a guess has {GUESS}: "
            "the test leaks, and no figure here means anything."
        )
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results[keras.backend.backend()] = result
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
