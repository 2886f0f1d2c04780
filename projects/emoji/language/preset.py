"""Writes the preset of an aligned encoder and its card.

Run:      python -m projects.emoji.language.preset --run runs/language/captioner-0 \\
              --results projects/emoji/language/results \\
              --output keras_pe/presets/pe_lang_emoji_patch8_64
Expect:   the preset (float16, about 4 MB) and its model card beside it.

The folder of the run ends with the seed; before it stands the configuration, whose
results the card shows. Weights keep as many bits of their fraction as the wheel has
room for.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from keras_pe import PEImageConverter, PELang
from keras_pe.files import write_atomically
from projects.emoji.language.experiment import CORE
from projects.emoji.language.question_sets import METRICS
from projects.emoji.layer_tables import points
from projects.emoji.preset import WHITE
from projects.emoji.rounding import round_weights

FRACTION_BITS = 7  # of float16's ten

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
{bits} bits are kept.

## Training
{steps} steps of {batch} images at {size} px, behind a warm-up of projector and language
model: emoji of many vendors, scenes composed of them, words and letters in
Debian's fonts, titled clip art; up to {questions} questions each. AdamW, peak learning
rate {rate}, the encoder's {encoder_rate} times that, seed {seed}. None of the test
vendor's drawings, of the fonts, words and concepts that are kept back was seen.

## Results
A fresh language model in front of the frozen encoder, trained in equal steps for each
layer. Per cent on test samples, seed {seed}; brackets: 95 % intervals over test
samples, paired, in points.

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
    (stage,) = run["stages"]
    return CARD.format(
        name=name,
        encoder=run["encoder"],
        parameters=model.count_params(),
        layers=model.num_layers,
        width=model.hidden_dim,
        heads=model.num_heads,
        patch=model.patch_size,
        bits=FRACTION_BITS,
        steps=stage["samples"] // run["batch_size"],
        batch=run["batch_size"],
        size=stage["image_size"],
        questions=run["questions"],
        rate=run["learning_rate"],
        encoder_rate=run["encoder_rate"],
        seed=run["seed"],
        results=results_table(content, config),
    )


def main() -> None:
    """Writes preset and card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument(
        "--results", type=Path, required=True, help="output of the experiment"
    )
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    config = options.run.name.rsplit("-", 1)[0]
    run = json.loads((options.run / "config.json").read_text())
    content = json.loads((options.results / "language.json").read_text())
    model = PELang.from_preset(options.run / "preset")
    text = card(options.output.name, model, run, content, config)
    round_weights(model, FRACTION_BITS)
    model.save_to_preset(
        options.output,
        image_converter=PEImageConverter(model.image_size, background=WHITE),
        dtype="float16",
        metadata={
            "description": "Small PE core, aligned by keras_pe with a language model.",
            "scores": {kind: found[config] for kind, found in content.items()},
        },
    )
    write_atomically(options.output.with_suffix(".md"), text)
    size = sum(path.stat().st_size for path in options.output.iterdir())
    print(f"{size / 2**20:.1f} MB: {options.output}")


if __name__ == "__main__":
    main()
