"""Writes the captioner as a preset, and the cards of it and of its encoder.

Run:      python -m projects.emoji.language.captioner_preset \\
              --run runs/language/reader-0 --output keras_pe/presets \\
              --sweeps projects/emoji/language/results/names.json
Expect:   `pe_captioner_emoji_patch8_64` (encoder, projector and language model, 11 MB)
          with its card, and the card of `pe_lang_emoji_patch8_64`, which is its
          encoder and has no files of its own. `--cards` writes the cards alone: after a
          further sweep of the encoder, or new scores.

Weights are float16, of whose fraction six bits are kept, as the wheel has no room for
all; they are stored by plane (`projects.emoji.byte_planes`).
`projects.emoji.language.evaluate` says what this preset answers, not what the run did.
"""

import argparse
import json
from pathlib import Path

from keras_pe import PEImageConverter
from keras_pe.files import write_atomically
from keras_pe.language import VisionLanguageModel
from projects.emoji.aligned_preset import read_run
from projects.emoji.byte_planes import store_by_planes
from projects.emoji.card_head import headed
from projects.emoji.language.cards import (
    CAPTIONER,
    ENCODER,
    captioner_card,
    captioner_facts,
    encoder_card,
)
from projects.emoji.preset import WHITE
from projects.emoji.rounding import round_weights

CORE = "pe_core_emoji_patch8_64"
FRACTION_BITS = 6  # of float16's ten
# Of those that were trained, by `data.py`, what anybody may ask of any picture.
QUESTIONS = (
    "What is this?",
    "What kind of thing is this?",
    "Which group does this belong to?",
    "What does it say?",
    "What is the first letter?",
    "How many things are there?",
    "What colour is the background?",
    "Give a short caption.",
)
RESULTS = Path(__file__).parent / "results"


def write_captioner(run: Path, target: Path) -> None:
    """Writes the preset of a run, rounded and by plane."""
    config, settings = read_run(run)
    model = VisionLanguageModel.from_preset(run / "preset", dtype="float32")
    for part in (model.encoder, model.projector, model.decoder):
        round_weights(part, FRACTION_BITS)
    # What is transparent was white in training.
    model.image_converter = PEImageConverter(
        model.image_converter.image_size, background=WHITE
    )
    about = (
        "Names emoji, reads printed words and answers questions about composed scenes, "
        "at 64 px. Trained by projects.emoji.language."
    )
    model.save_to_preset(
        target,
        metadata={
            "description": about,
            "configuration": config,
            "seed": settings["seed"],
            "questions": list(QUESTIONS),
        },
        dtype="float16",
    )
    store_by_planes(target)
    size = sum(path.stat().st_size for path in target.iterdir())
    print(f"{size / 2**20:.1f} MB: {target}")


def main() -> None:
    """Writes the preset and both cards."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--scores", type=Path, default=RESULTS / "scores.json")
    parser.add_argument("--sweeps", type=Path, nargs="+", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--cards", action="store_true", help="the cards alone")
    options = parser.parse_args()
    if not options.cards:
        write_captioner(options.run, options.output / CAPTIONER)
    config, settings = read_run(options.run)
    model = VisionLanguageModel.from_preset(options.output / CAPTIONER)
    facts = captioner_facts(model, CORE, settings, FRACTION_BITS, QUESTIONS)
    scores = json.loads(options.scores.read_text())
    sweeps = [json.loads(path.read_text()) for path in options.sweeps]
    for name, card in (
        (CAPTIONER, captioner_card(facts, scores)),
        (ENCODER, encoder_card(facts, sweeps, config)),
    ):
        write_atomically(options.output / f"{name}.md", headed(card))


if __name__ == "__main__":
    main()
