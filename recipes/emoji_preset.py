"""Scores a trained emoji model once on the test vendor and writes the preset.

Run:      python -m recipes.emoji_preset --data data/emoji --run runs/emoji
              --output keras_pe/presets/pe_core_emoji_patch8_64
Expect:   the preset (float16, at most 16 MB), its model card beside it, and the
          pictures of `keras-pe demo`.

The test vendor decides nothing: it is read here, after training, and nowhere else.
"""

import argparse
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

from PIL import Image

from keras_pe import PEImageConverter, PETokenizer
from recipes.contrastive import build_model
from recipes.contrastive_configs import read_config
from recipes.emoji_data.captions import class_prompts
from recipes.emoji_data.shards import load_arrays
from recipes.emoji_evaluation import Score, evaluate, photograph_classes, plain_classes

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


def demo_pictures(data: Path, directory: Path) -> None:
    """Writes the demo's pictures, as the test vendor drew them."""
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


def percent(value: tuple[float, float, float]) -> str:
    """Writes a share with its interval."""
    share, low, high = (100 * x for x in value)
    return f"{share:.1f} [{low:.1f}, {high:.1f}]"


def rows(scores: dict[str, Score], name: str) -> list[str]:
    """Writes scores as rows of a Markdown table."""
    return [
        f"| {name}, {part} | {s.pictures} | {s.classes} | {percent(s.top1)} | "
        f"{percent(s.top5)} | {100 / s.classes:.2f} |"
        for part, s in scores.items()
    ]


def floor_rows(data: Path) -> list[str]:
    """Writes the pixel nearest-neighbour floors, if they were measured."""
    path = data / "floor.json"
    if not path.exists():
        return []
    names = {"test": "unseen vendor", "photo": "photographs"}
    lines = []
    for split, name in names.items():
        for floor in json.loads(path.read_text())["floors"][split]:
            if floor["side"] != 32 or floor["norm"] != "L1":
                continue
            found = floor["all"]
            low, high = found["top1_interval"]
            low5, high5 = found["top5_interval"]
            lines.append(
                f"| {name}, pixel nearest neighbour ({floor['framing']}) | "
                f"{found['pictures']} | {floor['classes']} | {found['top1']:.1f} "
                f"[{low:.1f}, {high:.1f}] | {found['top5']:.1f} [{low5:.1f}, "
                f"{high5:.1f}] | |"
            )
    return lines


CARD = """# pe_core_emoji_patch8_64

A small Perception Encoder (2D RoPE, class token, attention pooling; a causal text
tower), trained from scratch by this project on emoji artwork. It names drawings and
icons. It ships inside the package so that `keras_pe` runs offline in one line.

## What it can't do
**Photographs.** It has seen drawings only; the row "photographs" below says how little
that carries over. It does not read text, count, or know people. Concepts without an
emoji are unknown to it. For pictures of the world load a released PE core model.

## Architecture
{architecture}

## Data
{data}

Ten per cent of the concept families (gender, skin and mirrored variants stay together)
were held out of all training vendors. Flags and symbols are trained on but not
counted below. Validation: 5 % of the training drawings. The test vendor, Microsoft's
Fluent flat emoji (MIT), decided nothing: it is read after training.

## Training
{training}

## Results
Zero-shot, per cent, with bootstrap 95 % intervals over the pictures. "Chance" is one
over the number of classes. The floor compares pixels with every training drawing; a
held-out concept has none, so its floor is 0.

| set | pictures | classes | top-1 | top-5 | chance |
|---|---|---|---|---|---|
{results}

Photographs: cut-outs from Tux Paint's stamps (GPL-2), matched to concepts by hand, laid
on white; only the classes that occur among them.

## Licence
The weights are released under Apache-2.0. The drawings they were trained on carry
CC-BY, CC-BY-SA and Apache licences: `recipes/emoji_data/ATTRIBUTION.md` names each.
"""


def extra_vendors(data: Path) -> str:
    """Writes which further drawings were trained on, if there are any."""
    path = data / "extra.json"
    if not path.exists():
        return ""
    vendors = json.loads(path.read_text())["vendors"]
    lines = [
        f"- {name}, {vendor['samples']} drawings ({vendor['licence']})"
        for name, vendor in sorted(vendors.items())
    ]
    return "\n\nFurther emoji, icons and clip art:\n" + "\n".join(lines)


def card(model: Any, settings: dict[str, Any], data: Path, table: list[str]) -> str:
    """Returns the model card."""
    index = json.loads((data / "index.json").read_text())
    vision, text = model.vision_encoder, model.text_encoder
    architecture = (
        f"{model.count_params():,} parameters ({vision.count_params():,} vision). "
        f"Vision: {vision.image_size} px, patch {vision.patch_size}, width "
        f"{vision.hidden_dim}, {vision.num_layers} blocks, {vision.num_heads} heads. "
        f"Text: vocabulary {text.vocabulary_size}, context {text.context_length}, "
        f"width {text.hidden_dim}, {text.num_layers} blocks. Embedding: "
        f"{model.output_dim}. Stored as float16."
    )
    vendors = "\n".join(
        f"- {name} {package['version']} ({package['licence']})"
        for name, package in sorted(index["packages"].items())
    )
    counts = ", ".join(
        f"{vendor} {splits['train']}"
        for vendor, splits in sorted(index["samples_by_vendor"].items())
        if "train" in splits
    )
    data_text = f"Training drawings: {counts}.\n\n{vendors}{extra_vendors(data)}"
    stages = "; ".join(
        f"{stage['samples']:,} samples at {stage['image_size']} px"
        for stage in settings["stages"]
    )
    optimizer = {"lamb": "LAMB", "adamw": "AdamW"}[settings["optimizer"]]
    training = (
        f"Softmax contrastive loss, batches of {settings['batch_size']} distinct "
        f"concepts, {stages}. {optimizer}, peak learning rate "
        f"{settings['learning_rate']}, {settings['warmup_steps']} steps of warm-up, "
        f"then a {settings['schedule']} to zero; weight decay "
        f"{settings['weight_decay']}; seed {settings['seed']}. Mask regularisation of "
        f"one picture in {settings['mask_every']}, ratio {settings['mask_ratio']}, "
        f"weight {settings['mask_weight']}. Random size, place, stretch, mirroring, "
        f"colour jitter and background. {settings.get('note', '')}".strip()
    )
    return CARD.format(
        architecture=architecture,
        data=data_text,
        training=training,
        results="\n".join(table),
    )


def main() -> None:
    """Reads the command line, scores, and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--demo-pictures", type=Path)
    options = parser.parse_args()
    settings = json.loads((options.run / "config.json").read_text())
    config = read_config(settings)
    model = build_model(config)
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
    options.output.with_suffix(".md").write_text(
        card(model, settings, options.data, table)
    )
    if options.demo_pictures:
        demo_pictures(options.data, options.demo_pictures)
    print(f"{size / 2**20:.1f} MB: {options.output}")


if __name__ == "__main__":
    main()
