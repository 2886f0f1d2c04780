"""The paper's ablation (figure 2) on drawings: every rung, several seeds, one table.

Run:      python -m projects.emoji.ladder --data data/emoji --output runs/ladder \\
              --jobs 2
Expect:   for each rung and seed a run of `pretrain` (about 15 minutes on one core),
          then `ladder.md`, `ladder.json` and `ladder.png`. Started again, it
          goes on where it was stopped.

The rungs are cumulative: each one is the one before it and one thing more.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from projects.emoji.configs import CONFIGS

FIRST, LAST, VANILLA = "rung1-baseline", "rung9-masks", "vanilla"
RUNGS = tuple(name for name in CONFIGS if name.startswith("rung"))
# What each one adds, in the words of the paper.
TITLES = {
    "rung1-baseline": "baseline",
    "rung2-progressive": "+ progressive resolution",
    "rung3-batch": "+ batch size and samples x 2",
    "rung4-lamb": "+ LAMB, high learning rate",
    "rung5-resolution": "+ higher resolution",
    "rung6-rope": "+ 2D RoPE",
    "rung7-pooling": "+ attention pooling",
    "rung8-augmentation": "+ augmentation",
    "rung9-masks": "+ mask regularisation",
    "vanilla": "baseline, samples of the last rung",
}
SETS = ("seen vendors", "unseen vendor", "3-D rendition", "photographs")
# Student's t, two-sided 95 %, for 2, 3, ... runs.
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


@dataclasses.dataclass(frozen=True)
class Interval:
    """Mean over the seeds and half the width of its 95 % interval (Student's t).

    Attributes:
        mean: over the runs.
        half_width: None for a single run.
    """

    mean: float
    half_width: float | None

    def __str__(self) -> str:
        if self.half_width is None:
            return f"{100 * self.mean:.1f}"
        return f"{100 * self.mean:.1f} ± {100 * self.half_width:.1f}"


def interval(values: list[float]) -> Interval:
    """Returns the mean of the runs' scores and its interval."""
    if len(values) < 2:
        return Interval(values[0], None)
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    return Interval(float(np.mean(values)), STUDENT[len(values) - 2] * error)


def planned_runs(rungs: list[str], seeds: list[int]) -> list[tuple[str, int]]:
    """Returns what to train: all seeds for both ends and vanilla, else the first."""
    repeated = (FIRST, LAST, VANILLA)
    return [
        (rung, seed)
        for seed in seeds
        for rung in rungs
        if seed == seeds[0] or rung in repeated
    ]


def score_sets(run: Path, data: Path) -> dict[str, Any]:
    """Scores a finished run on the four sets and keeps the figures beside it."""
    from keras_pe import PEImageConverter
    from keras_pe.training.run.config import build_model, build_tokenizer, read_config
    from projects.emoji.evaluation import evaluate, photograph_classes, plain_classes
    from projects.emoji.preset import TEST_VENDOR, WHITE
    from projects.emoji.validation_scores import ValidationScores

    config = read_config(json.loads((run / "config.json").read_text()))
    model, tokenizer = build_model(config), build_tokenizer(config)
    model.load_weights(run / "model.weights.h5")
    converter = PEImageConverter(model.vision_encoder.image_size, background=WHITE)
    scores = {"seen vendors": ValidationScores(data, model, tokenizer)()}
    splits = {
        "unseen vendor": ("test", plain_classes(data, TEST_VENDOR)),
        "3-D rendition": ("rendition", plain_classes(data, TEST_VENDOR)),
        "photographs": ("tuxpaint", photograph_classes(data)),
    }
    for name, (split, classes) in splits.items():
        found = evaluate(model, tokenizer, converter, data, split, classes)["all"]
        scores[name] = {"top1": found.top1[0], "top5": found.top5[0]}
    aside = run / "sets.json.part"
    aside.write_text(json.dumps(scores, indent=1))
    aside.replace(run / "sets.json")
    return scores


def train_one(rung: str, seed: int, data: Path, output: Path) -> None:
    """Trains and scores one run in a process of its own, or goes on with it."""
    run = output / f"{rung}-seed{seed}"
    run.mkdir(parents=True, exist_ok=True)
    python = [sys.executable, "-m"]
    training = [
        *python,
        "projects.emoji.pretrain",
        "--config",
        rung,
        "--seed",
        str(seed),
    ]
    training += ["--data", str(data), "--output", str(run), "--resume", "--quiet"]
    scoring = [
        *python,
        "projects.emoji.ladder",
        "--data",
        str(data),
        "--score",
        str(run),
    ]
    # One thread each: two runs on two cores are faster than one after the other.
    environment = {"OMP_NUM_THREADS": "1", "KERAS_BACKEND": "torch", **os.environ}
    with (run / "log.txt").open("ab") as log:
        if not (run / "model.weights.h5").exists():
            subprocess.run(
                training, env=environment, check=True, stdout=log, stderr=log
            )
        subprocess.run(scoring, env=environment, check=True, stdout=log, stderr=log)


def train_all(runs: list[tuple[str, int]], data: Path, output: Path, jobs: int) -> None:
    """Trains what is not there yet, some at a time."""
    missing = [
        (rung, seed)
        for rung, seed in runs
        if not (output / f"{rung}-seed{seed}" / "sets.json").exists()
    ]
    with (
        ThreadPoolExecutor(jobs) as pool,
        tqdm(total=len(runs), initial=len(runs) - len(missing), unit="run") as bar,
    ):

        def work(one: tuple[str, int]) -> None:
            started = time.monotonic()
            train_one(*one, data, output)
            minutes = (time.monotonic() - started) / 60
            bar.write(f"{one[0]}, seed {one[1]}: {minutes:.1f} min")
            bar.update()

        list(pool.map(work, missing))


def collect_scores(output: Path) -> dict[str, dict[str, list[float]]]:
    """Returns top-1 of every scored run, by rung and set."""
    found: dict[str, dict[str, list[float]]] = {}
    for rung in (*RUNGS, VANILLA):
        runs = sorted(output.glob(f"{rung}-seed*/sets.json"))
        if runs:
            scores = [json.loads(path.read_text()) for path in runs]
            found[rung] = {
                name: [score[name]["top1"] for score in scores] for name in SETS
            }
    return found


def table(scores: dict[str, dict[str, list[float]]]) -> str:
    """Returns the results as a Markdown table, in per cent."""
    lines = [
        "| rung | samples | seeds | " + " | ".join(SETS) + " |",
        "|---" * (3 + len(SETS)) + "|",
    ]
    for rung, by_set in scores.items():
        number = rung[4:].split("-")[0] if rung.startswith("rung") else ""
        title = f"{number} {TITLES[rung]}".strip()
        figures = " | ".join(str(interval(by_set[name])) for name in SETS)
        seeds = len(by_set[SETS[0]])
        lines.append(f"| {title} | {CONFIGS[rung].samples:,} | {seeds} | {figures} |")
    return "\n".join(lines)


def draw(scores: dict[str, dict[str, list[float]]], path: Path) -> None:
    """Draws the ladder: top-1 of every set, rung by rung."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    places = np.arange(len(scores))
    for column, name in enumerate(SETS):
        axes = figure.add_subplot(1, len(SETS), column + 1)
        found = [interval(by_set[name]) for by_set in scores.values()]
        axes.barh(
            places,
            [100 * value.mean for value in found],
            xerr=[100 * (value.half_width or 0.0) for value in found],
            color=["#8a8a8a" if rung == VANILLA else "#4477aa" for rung in scores],
        )
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("zero-shot top-1, %", fontsize=8)
        axes.set_xlim(left=0)
        labels = [TITLES[rung] for rung in scores] if column == 0 else []
        axes.set_yticks(places if labels else [], labels, fontsize=8)
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Trains, scores, and writes the table and the image."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--rungs", nargs="*", default=[*RUNGS, VANILLA])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--score", type=Path, help="only score this finished run")
    options = parser.parse_args()
    if options.score:
        print(json.dumps(score_sets(options.score, options.data)))
        return
    if options.output is None:
        raise SystemExit("Give a directory for the runs: --output runs/ladder.")
    runs = planned_runs(options.rungs, options.seeds)
    train_all(runs, options.data, options.output, options.jobs)
    scores = collect_scores(options.output)
    (options.output / "ladder.json").write_text(json.dumps(scores, indent=1))
    (options.output / "ladder.md").write_text(table(scores) + "\n")
    draw(scores, options.output / "ladder.png")
    print(table(scores))


if __name__ == "__main__":
    main()
