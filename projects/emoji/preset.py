"""Scores a trained emoji model once on the test vendor and writes the preset.

Run:      python -m projects.emoji.preset --data data/emoji --run runs/emoji
              --output keras_pe/presets/pe_core_emoji_patch8_64
Expect:   the preset (float16, at most 16 MB), its model card beside it, and the
          images of `keras-pe demo`.

The test vendor decides nothing: it is read here, after training, and nowhere else.
"""

import argparse
import dataclasses
import io
import json
from pathlib import Path

from PIL import Image

from keras_pe import PEImageConverter, PETokenizer
from keras_pe.training.run.config import build_model, read_config
from projects.emoji.card import card, floor_rows, rows
from projects.emoji.card_head import headed
from projects.emoji.data.captions import class_prompts
from projects.emoji.data.shards import load_arrays
from projects.emoji.evaluation import evaluate, photograph_classes, plain_classes

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
    classes = plain_classes(options.data, TEST_VENDOR)
    test = evaluate(model, tokenizer, converter, options.data, "test", classes)
    rendition = evaluate(
        model, tokenizer, converter, options.data, "rendition", classes
    )
    photographs = evaluate(
        model,
        tokenizer,
        converter,
        options.data,
        "tuxpaint",
        photograph_classes(options.data),
    )
    table = [
        *rows(test, "unseen vendor"),
        *rows(rendition, "the same vendor's emoji in 3-D"),
        *rows(photographs, "photographs"),
        *floor_rows(options.data),
    ]
    print("\n".join(table))
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
            "scores": {
                "unseen vendor": {k: dataclasses.asdict(v) for k, v in test.items()},
                "3-D rendition": {
                    k: dataclasses.asdict(v) for k, v in rendition.items()
                },
                "photographs": {
                    k: dataclasses.asdict(v) for k, v in photographs.items()
                },
            },
        },
    )
    size = sum(path.stat().st_size for path in options.output.iterdir())
    if size > MAX_BYTES:
        raise SystemExit(f"The preset has {size:,} bytes, more than {MAX_BYTES:,}.")
    text = card(options.output.name, model, settings, options.data, table, options.note)
    options.output.with_suffix(".md").write_text(headed(text))
    if options.demo_images:
        demo_images(options.data, options.demo_images)
    print(f"{size / 2**20:.1f} MB: {options.output}")


if __name__ == "__main__":
    main()
