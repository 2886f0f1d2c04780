"""Writes the preset of an alignment and its card.

Run:      python -m projects.emoji.alignment.preset --run runs/spatial/masks-0 \\
              --results projects/emoji/alignment/results/alignment.json \\
              --output keras_pe/presets/pe_spatial_emoji_patch8_64
Expect:   the preset (float16, 5.4 MB, 4.0 packed) and its model card beside it.

The folder of the run ends with the seed; before it stands the configuration, whose
results the card shows.
"""

import json
from typing import Any

from keras_pe import PESpatial
from projects.emoji.aligned_preset import facts, read_options, read_run, write_preset
from projects.emoji.alignment.experiment import CORE, TASKS, best_layer
from projects.emoji.layer_tables import points

FRACTION_BITS = 7  # of float16's ten
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
{patch}, no pooling, LayerScale. Stored as float16; of the fraction {bits} bits are
kept, after the results below were measured.

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
    layer = run["teacher_layer"] or "5, the paper's share of the depth"
    found = next(iter(content.values()))[config]
    return CARD.format(
        **facts(name, model, run, FRACTION_BITS),
        losses=LOSSES[run["teacher"] != "none"].format(layer=layer),
        masked=f"{100 * run['mask_ratio']:.0f} %",
        seeds=len(found["seeds"]),
        results=results_table(content, config),
    )


def main() -> None:
    """Writes preset and card."""
    options = read_options(__doc__.splitlines()[0])
    config, run = read_run(options.run)
    content = json.loads(options.results.read_text())
    model = PESpatial.from_preset(options.run / "preset", dtype="float32")
    write_preset(
        model,
        options.output,
        "Small PE core, spatially aligned by keras_pe on artwork.",
        {task: found[config] for task, found in content.items()},
        card(options.output.name, model, run, content, config),
        FRACTION_BITS,
    )


if __name__ == "__main__":
    main()
