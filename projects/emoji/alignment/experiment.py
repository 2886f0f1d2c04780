"""What does the alignment do to each layer, and which part of it does what?

Run:      for seed in 0 1 2; do for config in both features masks both-of-another; do
              python -m projects.emoji.alignment.align --config $config --seed $seed \\
                  --data data/emoji --probing data/probing \\
                  --output runs/spatial/$config-$seed
          done; done
          python -m projects.emoji.alignment.experiment --data data/emoji \\
              --probing data/probing --runs runs/spatial --output runs/spatial/sweeps
Expect:   a JSON for each task of each encoder, and then `alignment.md` and
          `alignment.json`: scores of layers and paired gains. Started again, it goes on
          with the sweeps that are missing. Five minutes an encoder on one core.

Every alignment of the folder is compared with the core encoder that it began with,
seed by seed, on the same test samples. Where a layer has to be named for another side,
it is the one with that side's best test score: the choice that is worst for us.
"""

import argparse
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np

from keras_pe import PESpatial, PEVisionEncoder
from keras_pe.files import write_atomically
from keras_pe.probing import PairedGain, SweepResult, paired_gain
from projects.emoji.finished_runs import finished_runs
from projects.emoji.layer_tables import Row, layer_table, points
from projects.emoji.probing.experiments import Experiments

CORE = "core"
LAYERS, LAST = (4, 5, 6), (6,)
# Of the others the last layer alone is compared.
CURVES = (CORE, "both")
TASKS = {
    "tracking": "tracking, J&F",
    "parts_unseen_families": "parts, mIoU",
    "scenes_unseen_vendor": "scenes, mIoU",
    "correspondence": "correspondence, PCK",
    "depth": "depth, RMSE x 100 (lower is better)",
}
ERRORS = ("depth",)  # the lowest score is the best; a gain is positive all the same
UNTRAINED = ("tracking", "correspondence")  # there is no head, so no seed of one

Sweeps = dict[str, dict[str, dict[int, SweepResult]]]  # task, configuration, seed


# === Sweeps ===
def run_sweeps(
    output: Path, data: Path, probing: Path, encoders: dict[str, list[tuple[int, Any]]]
) -> Sweeps:
    """Returns the sweeps of all encoders, and runs those that are missing.

    Args:
        output: where the sweeps lie.
        data: output of `projects.emoji.data.prepare`.
        probing: output of the scripts in `projects.emoji.probing`.
        encoders: of each configuration, seeds and what makes their encoders.
    """
    sweeps: Sweeps = {task: {} for task in TASKS}
    for config, seeded in encoders.items():
        for seed, make in seeded:
            for task in TASKS:
                alike = config == CORE and task in UNTRAINED
                path = output / f"{config}-{0 if alike else seed}-{task}.json"
                if not path.exists():
                    layers = LAYERS if config in CURVES else LAST
                    tasks = Experiments(make(), data, probing, layers, (seed,)).all()
                    result = tasks[task]()
                    result.to_json(path, resampled=True)
                    print(f"{config}, seed {seed}, {task}\n{result}\n", flush=True)
                content = json.loads(path.read_text())
                found = sweeps[task].setdefault(config, {})
                found[seed] = SweepResult.from_dict(content)
    return sweeps


def find_encoders(runs: Path, preset: str) -> dict[str, list[tuple[int, Any]]]:
    """Returns the core encoder and every finished alignment in a folder of runs.

    Raises:
        ValueError: if there is none.
    """
    found = {
        config: [
            (seed, functools.partial(PESpatial.from_preset, path))
            for seed, path in seeded.items()
        ]
        for config, seeded in finished_runs(runs, "both-0").items()
    }
    seeds = sorted({seed for seeded in found.values() for seed, _ in seeded})
    core = functools.partial(PEVisionEncoder.from_preset, preset)
    return {CORE: [(seed, core) for seed in seeds], **found}


# === Comparisons ===
def mean_scores(results: dict[int, SweepResult]) -> dict[Any, float]:
    """Returns the score of each layer, the mean over seeds."""
    layers = [row.layer for row in next(iter(results.values())).layers]
    return {
        layer: float(np.mean([result[layer].score for result in results.values()]))
        for layer in layers
    }


def best_layer(task: str, scores: dict[Any, float]) -> Any:
    """Returns the layer with the best score of a task."""
    choose = min if task in ERRORS else max
    return choose(scores, key=lambda layer: scores[layer])


def gain(
    mine: dict[int, SweepResult],
    its: dict[int, SweepResult],
    layer: Any,
    other_layer: Any,
) -> PairedGain:
    """Returns the gain of a layer over another encoder's, seed by seed."""
    seeds = sorted(set(mine) & set(its))
    return paired_gain(
        [mine[seed] for seed in seeds],
        [its[seed] for seed in seeds],
        layer,
        other_layer,
    )


def compare(sweeps: Sweeps) -> dict[str, Any]:
    """Returns, by task and configuration, scores and gains of the last layer."""
    content: dict[str, Any] = {}
    for task, configs in sweeps.items():
        if next(iter(configs[CORE].values())).higher_is_better == (task in ERRORS):
            kind = "errors" if task in ERRORS else "no errors"
            raise ValueError(f"{task}: its scores are said to be {kind} in ERRORS.")
        core = mean_scores(configs[CORE])
        strongest = best_layer(task, core)
        content[task] = {CORE: {"scores": core}}
        for config, results in configs.items():
            if config == CORE:
                continue
            scores = mean_scores(results)
            last = max(scores)
            gains = {
                f"the core's layer {strongest}": gain(
                    results, configs[CORE], last, strongest
                ),
                f"the core's layer {last}": gain(results, configs[CORE], last, last),
            }
            inner = {layer: score for layer, score in scores.items() if layer != last}
            if inner:
                own = best_layer(task, inner)
                gains[f"its own layer {own}"] = gain(results, results, last, own)
            if config != "both" and "both" in configs:
                both = configs["both"]
                gains["both"] = gain(results, both, last, last)
            content[task][config] = {
                "seeds": sorted(results),
                "scores": scores,
                "gain of the last layer over": {
                    name: {
                        "gain": found.gain,
                        "low": found.low,
                        "high": found.high,
                        "of each seed": list(found.of_each),
                    }
                    for name, found in gains.items()
                },
            }
    return content


# === The page ===
def table(content: dict[str, Any]) -> str:
    """Returns the comparisons as Markdown, per cent and points."""
    further = (
        "last against the core's best",
        "against its own best inner",
        "against both",
    )
    return (
        "\n\n".join(
            layer_table(
                TASKS[task],
                list(configs[CORE]["scores"]),
                further,
                [_row(task, config, found) for config, found in configs.items()],
            )
            for task, configs in content.items()
        )
        + "\n"
    )


def _row(task: str, config: str, found: dict[str, Any]) -> Row:
    """Returns an encoder's row of the table."""
    gains = found.get("gain of the last layer over", {})
    scores = found["scores"]
    best = scores[best_layer(task, scores)]
    cells = [points(gains.get(name)) for name in _columns(gains)]
    return config, len(found.get("seeds", ())) or "", scores, best, cells


def _columns(gains: dict[str, Any]) -> list[str]:
    """Returns which gains stand in the three columns of the table."""
    names = list(gains)
    own = next((name for name in names if name.startswith("its own")), "")
    return [names[0] if names else "", own, "both"]


def main() -> None:
    """Runs the sweeps that are missing, then compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--probing", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--preset", default="pe_core_emoji_patch8_64")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    encoders = find_encoders(options.runs, options.preset)
    sweeps = run_sweeps(options.output, options.data, options.probing, encoders)
    content = compare(sweeps)
    text = json.dumps(content, indent=1, allow_nan=False)
    write_atomically(options.output / "alignment.json", text + "\n")
    write_atomically(options.output / "alignment.md", table(content))


if __name__ == "__main__":
    main()
