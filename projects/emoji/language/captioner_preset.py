"""Writes the captioner as a preset: encoder, projector and language model.

Run:      python -m projects.emoji.language.captioner_preset \\
              --run runs/language/reader-0 \\
              --output projects/emoji/language/pe_captioner_emoji_patch8_64
Expect:   the preset, 10 MB: too much for the wheel, which has room for the encoder.

Weights are float16, of whose fraction six bits are kept, as the encoder's in the wheel.
`projects.emoji.language.evaluate` says what this preset answers, not what the run did.
"""

import argparse
from pathlib import Path

from keras_pe.language import VisionLanguageModel
from projects.emoji.aligned_preset import read_run
from projects.emoji.language.preset import FRACTION_BITS
from projects.emoji.rounding import round_weights


def main() -> None:
    """Writes the preset."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    config, run = read_run(options.run)
    model = VisionLanguageModel.from_preset(options.run / "preset", dtype="float32")
    for part in (model.encoder, model.projector, model.decoder):
        round_weights(part, FRACTION_BITS)
    about = (
        "Names emoji, reads printed words and answers questions about composed scenes, "
        "at 64 px. Trained by projects.emoji.language."
    )
    model.save_to_preset(
        options.output,
        metadata={"description": about, "configuration": config, "seed": run["seed"]},
        dtype="float16",
    )
    size = sum(path.stat().st_size for path in options.output.iterdir())
    print(f"{size / 2**20:.1f} MB: {options.output}")


if __name__ == "__main__":
    main()
