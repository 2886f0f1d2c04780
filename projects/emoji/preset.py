"""Scores a trained emoji model once on the test vendor and writes the preset.

Run:      python -m projects.emoji.preset --data data/emoji --run runs/emoji
              --output keras_pe/presets/pe_core_emoji_patch8_64
Expect:   the preset (float16, at most 16 MB, eight bits of the fraction kept), its
          model card beside it, and the images of `keras-pe demo`.

The test vendor decides nothing: it is read here, after training, and nowhere else.
"""

import argparse
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

from PIL import Image

from keras_pe import PECore, PEImageConverter, PETokenizer
from keras_pe.training.run.config import build_model, read_config
from projects.emoji.byte_planes import store_by_planes
from projects.emoji.card import card, floor_rows, rows
from projects.emoji.card_head import headed
from projects.emoji.data.captions import class_prompts
from projects.emoji.data.shards import load_arrays
from projects.emoji.evaluation import (
    Score,
    evaluate,
    photograph_classes,
    plain_classes,
)
from projects.emoji.rounding import round_weights

FRACTION_BITS = 8  # of float16's ten: a wheel has no room for all
# How the card's rows begin, by the name of a set in the metadata.
ROWS = {
    "unseen vendor": "unseen vendor",
    "3-D rendition": "the same vendor's emoji in 3-D",
    "photographs": "photographs",
}
TEST_VENDOR = "fluent-emoji-flat"
MAX_BYTES = 16 * 2**20
WHITE = (255, 255, 255)
# Shown by `keras-pe demo`; chosen by name, before any was classified.
DEMO_LABELS = (
    "rocket",
    "octopus",
    "pizza",
    "guitar",
    "cactus",
    "snowman",
    "bicycle",
    "owl",
)


def demo_images(data: Path, directory: Path) -> None:
    """Writes the demo's images, as the test vendor drew them."""
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.glob("*.png"):
        old.unlink()
    arrays, records = load_arrays(data, "test")
    rows = {record["label"]: i for i, record in enumerate(records)}
    for label in DEMO_LABELS:
        if label in rows:
            buffer = io.BytesIO()
            Image.fromarray(arrays[rows[label]]).save(buffer, "PNG", optimize=True)
            path = directory / f"{label.replace(' ', '_')}.png"
            path.write_bytes(buffer.getvalue())


def all_scores(
    model: PECore, tokenizer: PETokenizer, converter: PEImageConverter, data: Path
) -> dict[str, dict[str, Score]]:
    """Returns the scores of all test sets, by set and by which images.

    Args:
        model: as it is used, in float32.
        tokenizer: its tokenizer.
        converter: its converter.
        data: output of `projects.emoji.data.prepare`, `rendition` and `tuxpaint`.
    """
    classes = plain_classes(data, TEST_VENDOR)
    asked = {
        "unseen vendor": ("test", classes),
        "3-D rendition": ("rendition", classes),
        "photographs": ("tuxpaint", photograph_classes(data)),
    }
    return {
        name: evaluate(model, tokenizer, converter, data, split, of)
        for name, (split, of) in asked.items()
    }


def score_rows(scores: dict[str, dict[str, Score]]) -> list[str]:
    """Returns the rows of the card's table, Markdown."""
    return [row for name, found in scores.items() for row in rows(found, ROWS[name])]


def as_metadata(scores: dict[str, dict[str, Score]]) -> dict[str, Any]:
    """Returns scores as the preset's metadata has them."""
    return {
        name: {part: dataclasses.asdict(score) for part, score in found.items()}
        for name, found in scores.items()
    }


def main() -> None:
    """Reads the command line, scores, and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--demo-images", type=Path)
    parser.add_argument("--note", default="", help="what else the card says")
    options = parser.parse_args()
    settings = json.loads((options.run / "config.json").read_text())
    config = read_config(settings.get("student", settings))
    # Scored, and written, as it is used: whatever it was trained in.
    model = build_model(dataclasses.replace(config, precision="float32"))
    model.load_weights(options.run / "model.weights.h5")
    tokenizer = PETokenizer(  # a user is warned of texts that are cut
        context_length=config.text["context_length"],
        vocabulary_size=config.text["vocabulary_size"],
    )
    side = model.vision_encoder.image_size
    converter = PEImageConverter(side, background=WHITE)
    round_weights(model, FRACTION_BITS)  # scored as it ships
    scores = all_scores(model, tokenizer, converter, options.data)
    table = [*score_rows(scores), *floor_rows(options.data)]
    print("\n".join(table))
    classes = plain_classes(options.data, TEST_VENDOR)
    model.save_to_preset(
        options.output,
        tokenizer=tokenizer,
        image_converter=converter,
        dtype="float16",
        metadata={
            "description": "Small PE core trained by keras_pe on emoji artwork.",
            "zero_shot": {
                "class_names": [concept["label"] for concept in classes],
                "templates": list(class_prompts()),
            },
            "scores": as_metadata(scores),
        },
    )
    store_by_planes(options.output)
    size = sum(path.stat().st_size for path in options.output.iterdir())
    if size > MAX_BYTES:
        raise SystemExit(f"The preset has {size:,} bytes, more than {MAX_BYTES:,}.")
    name = options.output.name
    text = card(
        *(name, model, settings, options.data, table), FRACTION_BITS, options.note
    )
    options.output.with_suffix(".md").write_text(headed(text))
    if options.demo_images:
        demo_images(options.data, options.demo_images)
    print(f"{size / 2**20:.1f} MB: {options.output}")


if __name__ == "__main__":
    main()
