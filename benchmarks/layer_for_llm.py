"""Whether `layer_for_llm` finds the layer that knows, and what it costs.

Run:      KERAS_BACKEND=torch python -m benchmarks.layer_for_llm
          (--parts planted noise cost; adds to benchmarks/results/layer_for_llm.json)
Expect:   a line a sweep; some half an hour on one core.

Planted: an encoder of four layers whose layer k knows most; each layer before has half
the signal of the next one, those behind are noise. Three seeds of data and training for
each k: how often is k called best? Noise: the same without a signal: how often is any
layer called best? Cost: seconds of the processor of a sweep over all layers of the
bundled model, and of the trainings of its heads alone, each of as many steps as the
probe takes by default, at one learning rate where the probe tries two.
"""

import argparse
import datetime
import functools
import json
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_pe import PEVisionEncoder
from keras_pe.probing import (
    LanguageProbe,
    QuestionSet,
    language_head,
    language_probe,
    layer_for_llm,
    sweep_layers,
)

RESULTS = Path(__file__).parent / "results" / "layer_for_llm.json"
LAYERS, SIDE, PATCH, CHANNELS = 4, 16, 4, 8
NAMES = ("cat", "dog", "tree")
SIGNAL = 1.0
SEEDS = (0, 1, 2)
NOISE_SWEEPS = 8
STEPS = 100


# === A layer that knows ===
class Planted(keras.layers.Layer):
    """Gives a map a layer: of red, what is said of an image, and of green, noise."""

    def __init__(self, best: int, seed: int) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self.best = best
        shape = (LAYERS, PATCH**2, CHANNELS)
        self.signal, self.noise = rng.normal(size=(2, *shape)).astype("float32")

    def call(self, images: Any) -> Any:
        side = SIDE // PATCH
        x = ops.reshape(images[..., :2], (-1, side, PATCH, side, PATCH, 2))
        x = ops.reshape(
            ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, side, side, PATCH**2, 2)
        )
        found = []
        for layer in range(1, LAYERS + 1):
            share = 0.5 ** (self.best - layer) if layer <= self.best else 0.0
            told = ops.matmul(x[..., 0], ops.convert_to_tensor(self.signal[layer - 1]))
            other = ops.matmul(x[..., 1], ops.convert_to_tensor(self.noise[layer - 1]))
            found.append(share * SIGNAL * told + other)
        return found

    def compute_output_shape(self, shape: Any) -> Any:
        side = SIDE // PATCH
        return [(shape[0], side, side, CHANNELS)] * LAYERS


def planted(best: int, seed: int) -> keras.Model:
    """Returns an encoder whose layer `best` knows most; 0 for none."""
    images = keras.Input((SIDE, SIDE, 3))
    return keras.Model(images, Planted(best, seed)(images))


def asked(count: int, seed: int) -> QuestionSet:
    """Returns images with a class each."""
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(count, SIDE, SIDE, 3)).astype("float32")
    labels = rng.integers(0, len(NAMES), count)
    rows = np.arange(SIDE) % PATCH == labels[:, None]
    images[..., 0] = rows[:, :, None]  # which row of each patch is bright
    questions = [(n, "What is it?", NAMES[k], "name") for n, k in enumerate(labels)]
    return QuestionSet(images, questions)


@functools.cache
def small_probe() -> LanguageProbe:
    """Returns the probe of all planted sweeps: it compiles once."""
    return LanguageProbe(
        {"hidden_dim": 32, "num_layers": 1, "num_heads": 2},
        pooling=2,
        steps=STEPS,
        batch_size=32,
        learning_rates=(1e-2,),
        max_tokens=4,
    )


def swept(best: int, seed: int) -> Any:
    """Returns what a sweep of a planted encoder says."""
    sets = [
        asked(count, 10 * seed + part) for part, count in enumerate((300, 150, 200))
    ]
    model, probe = planted(best, seed), small_probe()
    return layer_for_llm(model, data=sets, probe=probe, seeds=(seed,), progress=False)


def measure_planted() -> list[dict[str, Any]]:
    """Returns for each planted layer and seed the layer that was called best."""
    found = []
    for best in range(1, LAYERS + 1):
        for seed in SEEDS:
            result = swept(best, seed)
            scores = [round(row.score, 3) for row in result.overall.layers]
            blind = round(result.blind, 3)
            found.append(
                {"planted": best, "seed": seed, "found": result.best_layer,
                 "scores": scores, "blind": blind}
            )  # fmt: skip
            print(found[-1], flush=True)
    return found


def measure_noise() -> list[dict[str, Any]]:
    """Returns the layer that was called best where none knows anything."""
    found = []
    for seed in range(NOISE_SWEEPS):
        result = swept(0, seed)
        scores = [round(row.score, 3) for row in result.overall.layers]
        blind = round(result.blind, 3)
        found.append(
            {"seed": seed, "found": result.best_layer, "scores": scores, "blind": blind}
        )
        print(found[-1], flush=True)
    return found


# === What it costs ===
def cost_sets(*counts: int) -> list[QuestionSet]:
    """Returns sets of images of noise, two questions each."""
    rng = np.random.default_rng(0)
    found = []
    for count in counts:
        images = rng.uniform(-1, 1, (count, 64, 64, 3)).astype("float32")
        rows = [
            (n, question, NAMES[rng.integers(0, 3)])
            for n in range(count)
            for question in ("What is it?", "What is the largest thing here?")
        ]
        found.append(QuestionSet(images, rows))
    return found


def measure_cost(
    steps: int = 300, images: tuple[int, ...] = (500, 100, 150)
) -> dict[str, Any]:
    """Returns seconds of the processor, by what they were spent on."""
    encoder = PEVisionEncoder.from_preset("pe_core_emoji_patch8_64")
    seconds: dict[str, float] = defaultdict(float)
    blind = [False]

    def timed(owner: Any, name: str, what: Callable[[], str]) -> None:
        method = getattr(owner, name)

        def call(*arguments: Any, **options: Any) -> Any:
            label, start = what(), time.process_time()
            try:
                return method(*arguments, **options)
            finally:
                seconds[label] += time.process_time() - start

        setattr(owner, name, call)

    timed(sweep_layers, "run_encoder", lambda: "encoder and cache")
    training = language_head.AnswerTrainer
    timed(training, "fit", lambda: "blind training" if blind[0] else "training")
    timed(language_probe.FittedLanguage, "answers", lambda: "answers")
    control = language_probe.LanguageProbe.blind

    def blind_control(*arguments: Any) -> Any:
        blind[0] = True
        try:
            return control(*arguments)
        finally:
            blind[0] = False

    language_probe.LanguageProbe.blind = blind_control  # type: ignore[method-assign]
    options: dict[str, Any] = {"seeds": (0,), "progress": False}
    probe = LanguageProbe(steps=steps, pooling=2, learning_rates=(1e-3,))
    # What is compiled once a process.
    probe.blind_control, probe._trainer.steps = False, 2
    few = cost_sets(64, 8, 8)
    layer_for_llm(encoder, data=few, probe=probe, layers=[1], **options)
    probe.blind_control, probe._trainer.steps = True, steps
    seconds.clear()
    sets = cost_sets(*images)
    start = time.process_time()
    layer_for_llm(encoder, data=sets, probe=probe, **options)
    total = time.process_time() - start
    without = total - seconds["blind training"]
    found = {
        "steps": steps,
        "images": list(images),
        "layers": encoder.num_layers + 1,
        **{name: round(value, 1) for name, value in seconds.items()},
        "total": round(total, 1),
        "ratio": round(total / seconds["training"], 3),
        "ratio without the blind control": round(without / seconds["training"], 3),
    }
    print(found, flush=True)
    return found


PARTS = {"planted": measure_planted, "noise": measure_noise, "cost": measure_cost}


def main() -> None:
    """Measures the running backend and adds it to the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for part in options.parts:
        rows = PARTS[part]()  # type: ignore[operator]
        about = {"date": str(datetime.date.today()), "rows": rows}
        known.setdefault(keras.backend.backend(), {})[part] = about
        RESULTS.write_text(json.dumps(known, indent=2) + "\n")


if __name__ == "__main__":
    main()
