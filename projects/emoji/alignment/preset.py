"""Writes the preset of an alignment and its card.

Run:      python -m projects.emoji.alignment.preset --run runs/spatial/masks-0 \\
              --results projects/emoji/alignment/results/alignment.json \\
              --output keras_pe/presets/pe_spatial_emoji_patch8_64
Expect:   the preset (float16, about 5 MB) and its model card beside it.

The folder of the run ends with the seed; before it stands the configuration, whose
results the card shows.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from keras_pe import PEImageConverter, PESpatial
from keras_pe.files import write_atomically
from projects.emoji.alignment.experiment import CORE, TASKS, best_layer
from projects.emoji.layer_tables import points
from projects.emoji.preset import WHITE

CARD = """# {name}

A small vision encoder for dense tasks: the vision encoder of `{encoder}`, spatially
aligned: what its last layer gives is to be no worse than what is best inside that one.
It ships inside the package: `keras_pe.PESpatial.from_preset("{name}")`
works offline.

## What it can't do
It has no zero-shot head: it names nothing without a head of its own. It has seen
drawings only; for photographs load a released PE spatial model.

## Architecture
{parameters:,} parameters: {layers} blocks of width {width}, {heads} heads, patch
{patch}, no pooling, LayerScale. Stored as float16.

## Training
{steps} steps of {batch} images at {size} px: scenes of the core's training drawings,
and people in parts, with the exact masks of the artwork; {masked} of the patches hidden
from the student. {losses}. LAMB, peak learning
rate {rate}, seed {seed}. No test image, and none of the test vendor's drawings, was
seen.

## Results
Per cent on test samples; the mean of {seeds} alignments of different seeds, of which
this is one. Brackets: 95 % intervals over test samples, paired, in points; a gain
above 0 is better, also where an error is scored.

{results}

Depth is no evidence of anything: controls that must fail gain there too, for the row of
the image tells most of it. The protocol, and what each part of the recipe does:
`projects/emoji/alignment`.

## Licence
The weights are released under Apache-2.0. The drawings they were trained on carry
CC-BY, CC-BY-SA and Apache licences: `projects/emoji/data/ATTRIBUTION.md` names each.
"""


# What a run minimised (paper, section 5.2), by whether tokens were matched.
LOSSES = {
    True: "Two losses: the tokens of the\ncore's layer {layer} (cosine), and which "
    "patches belong to one shape (paper, section 5.2)",
    False: "One loss, of the paper's two: which\npatches belong to one shape (section "
    "5.2). The paper also matches tokens of an inner layer;\nhere the masks alone did "
    "better in validation on parts and scenes, and worse on the other two",
}


def results_table(content: dict[str, Any], config: str) -> str:
    """Returns the rows of one configuration beside the core's, as Markdown."""
    lines = [
        "| task | core, best layer | core, last layer | this, last layer | gain over "
        "the core's best | gain over its last |",
        "|---|---|---|---|---|---|",
    ]
    for task, configs in content.items():
        core, own = configs[CORE]["scores"], configs[config]
        last = max(own["scores"], key=int)
        best = best_layer(task, core)
        gains = own["gain of the last layer over"]
        over = [points(gains[f"the core's layer {layer}"]) for layer in (best, last)]
        lines.append(
            f"| {TASKS[task]} | {100 * core[best]:.1f} (layer {best}) | "
            f"{100 * core[last]:.1f} | {100 * own['scores'][last]:.1f} | "
            f"{' | '.join(over)} |"
        )
    return "\n".join(lines)


def card(
    name: str, model: PESpatial, run: dict[str, Any], content: Any, config: str
) -> str:
    """Returns the model card.

    Args:
        name: of the preset.
        model: the aligned encoder.
        run: `config.json` of the run.
        content: `alignment.json` of the experiment.
        config: the name of the run's configuration there.
    """
    (stage,) = run["stages"]
    layer = run["teacher_layer"] or "5, the paper's share of the depth"
    found = next(iter(content.values()))[config]
    return CARD.format(
        name=name,
        encoder=run["encoder"],
        parameters=model.count_params(),
        layers=model.num_layers,
        width=model.hidden_dim,
        heads=model.num_heads,
        patch=model.patch_size,
        steps=stage["samples"] // run["batch_size"],
        batch=run["batch_size"],
        size=stage["image_size"],
        losses=LOSSES[run["teacher"] != "none"].format(layer=layer),
        masked=f"{100 * run['mask_ratio']:.0f} %",
        rate=run["learning_rate"],
        seed=run["seed"],
        seeds=len(found["seeds"]),
        results=results_table(content, config),
    )


def main() -> None:
    """Writes preset and card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    config = options.run.name.rsplit("-", 1)[0]
    run = json.loads((options.run / "config.json").read_text())
    content = json.loads(options.results.read_text())
    model = PESpatial.from_preset(options.run / "preset")
    model.save_to_preset(
        options.output,
        image_converter=PEImageConverter(model.image_size, background=WHITE),
        dtype="float16",
        metadata={
            "description": "Small PE core, spatially aligned by keras_pe on artwork.",
            "scores": {task: found[config] for task, found in content.items()},
        },
    )
    text = card(options.output.name, model, run, content, config)
    write_atomically(options.output.with_suffix(".md"), text)
    size = sum(path.stat().st_size for path in options.output.iterdir())
    print(f"{size / 2**20:.1f} MB: {options.output}")


if __name__ == "__main__":
    main()
