"""Writes the preset of an aligned encoder and its card.

Run:      python -m projects.emoji.language.preset --run runs/language/aligned-0 \\
              --results projects/emoji/language/results/language.json \\
              --output keras_pe/presets/pe_lang_emoji_patch8_64
Expect:   the preset (float16, about 4 MB) and its model card beside it.

The folder of the run ends with the seed; before it stands the configuration, whose
results the card shows.
"""

import json
from typing import Any

from keras_pe import PELang
from projects.emoji.aligned_preset import facts, read_options, read_run, write_preset
from projects.emoji.language.experiment import CORE
from projects.emoji.language.question_sets import METRICS
from projects.emoji.layer_tables import points

FRACTION_BITS = 6  # of float16's ten
CARD = """# {name}

A small vision encoder for language models: the vision encoder of `{encoder}`
without its last block, aligned with a small language model, which was then thrown away.
It ships inside the package: `keras_pe.PELang.from_preset("{name}")`
works offline.

## What it can't do
It says nothing by itself: it wants a language model behind it, which has to be trained
with it (`python -m recipes.align_language --encoder {name}`). It has
seen drawings, composed scenes and printed words of 64 px only; for photographs load a
released PE lang model.

## Architecture
{parameters:,} parameters: {layers} blocks of width {width}, {heads} heads, patch
{patch}, no pooling, no final norm, LayerScale. Stored as float16; of the fraction
{bits} bits are kept, after the results below were measured.

## Training
{steps} steps of {batch} images at {size} px, behind a warm-up of projector and language
model: emoji of many vendors, scenes composed of them, words and letters in
Debian's fonts, titled clip art; up to {questions} questions each. AdamW, peak learning
rate {rate}, the encoder's {encoder_rate} times that, seed {seed}. None of the test
vendor's drawings, of the fonts, words and concepts that are kept back was seen.

## Results
A fresh language model in front of the frozen encoder, trained in equal steps for each
layer. Alignments of different seeds: {seeds}, of which this is one; layers of the core
that were compared: {compared}. Per cent on test samples; brackets: 95 % intervals over
test samples, paired, in points.

{results}

The protocol, its controls, and the alignments of other seeds:
`projects/emoji/language`.

## Licence
The weights are released under Apache-2.0. The drawings they were trained on carry
CC-BY, CC-BY-SA and Apache licences: `projects/emoji/data/ATTRIBUTION.md` names each;
fonts and words are named in `projects/emoji/language/ATTRIBUTION.md`.
"""


def results_table(content: dict[str, Any], config: str) -> str:
    """Returns the rows of one configuration beside the core's, as Markdown.

    Args:
        content: `language.json` of the experiment: by kind of question and encoder.
        config: the encoder's configuration there.
    """
    lines = [
        "| question | guess | core, best layer | core, last layer | this, last layer | "
        "gain over the core's best |",
        "|---|---|---|---|---|---|",
    ]
    for kind, configs in content.items():
        core, own = configs[CORE]["scores"], configs[config]
        last, best = max(own["scores"], key=int), max(core, key=core.__getitem__)
        gain = own["gain of the last layer over"][f"the core's layer {best}"]
        lines.append(
            f"| {kind} ({METRICS[kind]}) | {100 * own['guess']:.1f} | "
            f"{100 * core[best]:.1f} (layer {best}) | {100 * core[max(core)]:.1f} | "
            f"{100 * own['scores'][last]:.1f} | {points(gain)} |"
        )
    return "\n".join(lines)


def card(
    name: str, model: PELang, run: dict[str, Any], content: Any, config: str
) -> str:
    """Returns the model card.

    Args:
        name: of the preset.
        model: the aligned encoder.
        run: `config.json` of the run.
        content: `language.json` of the experiment.
        config: the name of the run's configuration there.
    """
    first = next(iter(content.values()))
    return CARD.format(
        **facts(name, model, run, FRACTION_BITS),
        questions=run["questions"],
        encoder_rate=run["encoder_rate"],
        seeds=len(first[config]["seeds"]),
        compared=", ".join(str(layer) for layer in first[CORE]["scores"]),
        results=results_table(content, config),
    )


def main() -> None:
    """Writes preset and card."""
    options = read_options(__doc__.splitlines()[0])
    config, run = read_run(options.run)
    content = json.loads(options.results.read_text())
    model = PELang.from_preset(options.run / "preset", dtype="float32")
    write_preset(
        model,
        options.output,
        "Small PE core, aligned by keras_pe with a language model.",
        {kind: found[config] for kind, found in content.items()},
        card(options.output.name, model, run, content, config),
        FRACTION_BITS,
    )


if __name__ == "__main__":
    main()
