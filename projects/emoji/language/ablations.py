"""What each part of the alignment is worth: the paper's ablation in small.

Run:      export KERAS_BACKEND=torch
          for config in aligned all-layers four-layers plain-blocks linear-projector \\
                  small-decoder frozen-decoder; do
              warmup=runs/ablations/warmup-${config/frozen-decoder/aligned}
              [ -d $warmup ] || python -m projects.emoji.language.align \\
                  --config $config --samples 14400 --set train_encoder=false \\
                  --precision mixed_bfloat16 --data data/language --output $warmup
              python -m projects.emoji.language.align --config $config \\
                  --samples 48000 --precision mixed_bfloat16 --start $warmup/preset \\
                  --data data/language --output runs/ablations/$config-0
          done
          KERAS_BACKEND=tensorflow python -m projects.emoji.language.ablations \\
              --data data/language --runs runs/ablations --output runs/ablations
Expect:   a JSON a run, `ablations.md` and `ablations.json`: of each, how many questions
          of validation it answers with the language model that it was trained with,
          and how many drawings a fresh one names behind its last layer. Started
          again, it goes on with the runs that are missing.

The runs are a fifth as long as the alignment of `experiment.py`: they say which part
matters early, not what is reached. The language model that is frozen is the one that
the first run's warm-up has trained: one that has learnt nothing would say nothing.
"""

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_pe.files import write_atomically
from keras_pe.probing import LanguageLayers, SweepResult, paired_gain
from projects.emoji.finished_runs import finished_runs
from projects.emoji.language.experiment import CORE, NAMES, find_encoders, run_sweeps
from projects.emoji.layer_tables import points

BASE = "aligned"
CHANGES = {
    BASE: "five of six layers, LayerScale and DropPath, MLP, all trained",
    "all-layers": "no layer cut",
    "four-layers": "two layers cut",
    "plain-blocks": "no LayerScale, no DropPath",
    "linear-projector": "linear projector",
    "frozen-decoder": "language model frozen after the warm-up",
    "small-decoder": "smaller language model",
    CORE: "not aligned, last layer",
}
ANSWERS = ("answers", "answers/kind", "answers/reading", "answers/letter")


def last_answers(run: Path) -> dict[str, float]:
    """Returns the shares of validation questions that a run answered at its end.

    Raises:
        ValueError: if its scores have no row, or not all of these kinds.
    """
    path = run / "scores.csv"
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    missing = [name for name in ANSWERS if not rows or not rows[-1].get(name)]
    if missing:
        raise ValueError(f"{path}: its last row has no {missing}.")
    return {name: float(rows[-1][name]) for name in ANSWERS}


def compare(
    names: dict[str, LanguageLayers], answers: dict[str, dict[str, float]]
) -> dict[str, dict[str, Any]]:
    """Returns, for each run, its answers and the names behind its last layer.

    Args:
        names: what fresh language models name, by configuration, `BASE` among them.
        answers: what each run answered, by configuration.

    Raises:
        ValueError: if `BASE` was not run.
    """
    if BASE not in names:
        raise ValueError(f"Others are compared with {BASE!r}; there is {sorted(names)}")
    base = names[BASE].overall
    content: dict[str, dict[str, Any]] = {}
    for config, found in names.items():
        overall, layer = found.overall, last_layer(found.overall)
        row: dict[str, Any] = {"layer": layer, "names": overall[layer].score}
        if config != BASE:
            gain = paired_gain([overall], [base], layer, last_layer(base))
            row["gain of names"] = vars(gain)
        content[config] = {**row, **answers.get(config, {})}
    return content


def last_layer(found: SweepResult) -> int:
    """Returns the last layer of those that were swept."""
    return max(int(row.layer) for row in found.layers)


def table(content: dict[str, dict[str, Any]]) -> str:
    """Returns the comparison as Markdown, per cent and points."""
    kinds = [name.removeprefix("answers/") for name in ANSWERS]
    heads = [
        "what is changed",
        "layer",
        *kinds,
        "names, by a fresh language model",
        "of these, beyond the first row",
    ]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    order = [config for config in CHANGES if config in content]
    for config in (*order, *sorted(content.keys() - CHANGES.keys())):
        row = content[config]
        cells = [f"{100 * row[name]:.1f}" if name in row else "" for name in ANSWERS]
        cells = [CHANGES.get(config, config), str(row["layer"]), *cells]
        cells += [f"{100 * row['names']:.1f}", points(row.get("gain of names"))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains the fresh language models that are missing, then compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--preset", default="pe_core_emoji_patch8_64")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    runs = finished_runs(options.runs, "aligned-0")
    answers = {
        config: last_answers(seeded[0].parent)
        for config, seeded in runs.items()
        if 0 in seeded and config != "warmup"
    }
    encoders = {
        config: {0: seeded[0]}
        for config, seeded in find_encoders(options.runs, options.preset).items()
        if config in (CORE, *answers)
    }
    sweeps = run_sweeps(
        options.output,
        options.data,
        encoders,
        NAMES,
        options.preset,
        lambda config, encoder: (encoder.num_layers,),
    )
    content = compare({config: of[0] for config, of in sweeps.items()}, answers)
    text = json.dumps(content, indent=1, allow_nan=False)
    write_atomically(options.output / "ablations.json", text + "\n")
    write_atomically(options.output / "ablations.md", table(content))


if __name__ == "__main__":
    main()
