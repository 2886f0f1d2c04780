"""The model card of a preset that was trained on emoji."""

import json
from pathlib import Path
from typing import Any

from keras_pe import PECore
from projects.emoji.evaluation import Score


def percent(value: tuple[float, float, float]) -> str:
    """Writes a share with its interval."""
    share, low, high = (100 * x for x in value)
    return f"{share:.1f} [{low:.1f}, {high:.1f}]"


def rows(scores: dict[str, Score], name: str) -> list[str]:
    """Writes scores as rows of a Markdown table."""
    return [
        f"| {name}, {part} | {s.images} | {s.classes} | {percent(s.top1)} | "
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
            share = floor["all"]
            low, high = share["top1_interval"]
            low5, high5 = share["top5_interval"]
            lines.append(
                f"| {name}, pixel nearest neighbour ({floor['framing']}) | "
                f"{share['pictures']} | {floor['classes']} | {share['top1']:.1f} "
                f"[{low:.1f}, {high:.1f}] | {share['top5']:.1f} [{low5:.1f}, "
                f"{high5:.1f}] | |"
            )
    return lines


CARD = """# {name}

A small Perception Encoder (2D RoPE, class token, attention pooling; a causal text
tower), {origin} by this project on emoji artwork. It names drawings and
icons. It ships inside the package so that `keras_pe` runs offline in one line.

## What it can't do
**Photographs.** It has seen drawings only; the row "photographs" below says how little
that carries over. It does not read text, count, or know people. Concepts without an
emoji are unknown to it. For photographs load a released PE core model.

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
Zero-shot, per cent, with 95 % intervals over the images: bootstrap, or exact where
all of them are wrong. "Chance" is one over the number of classes. The floor compares
pixels with every training drawing; a held-out concept has none, so its floor is 0.

| set | images | classes | top-1 | top-5 | chance |
|---|---|---|---|---|---|
{results}

Photographs: cut-outs from Tux Paint's stamps (GPL-2), matched to concepts by hand, laid
on white; only the classes that occur among them.

## Licence
The weights are released under Apache-2.0. The drawings they were trained on carry
CC-BY, CC-BY-SA and Apache licences: `projects/emoji/data/ATTRIBUTION.md` names each.
"""


def stored(bits: int) -> str:
    """Says how the weights are stored of which the results were measured."""
    return (
        f"Stored as float16, of whose fraction {bits} bits are kept; the results below "
        f"are those of these weights."
    )


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


def card(
    name: str,
    model: PECore,
    settings: dict[str, Any],
    data: Path,
    table: list[str],
    bits: int,
    note: str = "",
) -> str:
    """Returns the model card.

    Args:
        name: of the preset.
        model: the trained model.
        settings: `config.json` of a run of `recipes.pretrain` or `.distill`.
        data: output of `projects.emoji.data.prepare`.
        table: rows of the results.
        bits: of a weight's fraction that are kept.
        note: what else there is to say of the training.
    """
    index = json.loads((data / "index.json").read_text())
    vision, text = model.vision_encoder, model.text_encoder
    architecture = (
        f"{model.count_params():,} parameters ({vision.count_params():,} vision). "
        f"Vision: {vision.image_size} px, patch {vision.patch_size}, width "
        f"{vision.hidden_dim}, {vision.num_layers} blocks, {vision.num_heads} heads. "
        f"Text: vocabulary {text.vocabulary_size}, context {text.context_length}, "
        f"width {text.hidden_dim}, {text.num_layers} blocks. Embedding: "
        f"{model.output_dim}. {stored(bits)}"
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
    return CARD.format(
        name=name,
        origin="distilled" if "teacher" in settings else "trained",
        architecture=architecture,
        data=f"Training drawings: {counts}.\n\n{vendors}{extra_vendors(data)}",
        training=f"{training(settings)} {note}".strip(),
        results="\n".join(table),
    )


def training(settings: dict[str, Any]) -> str:
    """Writes how a run trained."""
    run = settings.get("student", settings)
    stages = "; ".join(
        f"{stage['samples']:,} samples at {stage['image_size']} px"
        for stage in run["stages"]
    )
    loss = "Softmax contrastive loss"
    if "teacher" in settings:
        loss = (
            f"KL distillation from {Path(settings['teacher']).name} (its logit scale "
            f"{settings['teacher_logit_scale']:g})"
        )
        if settings["start"] == "blocks":
            loss += ", starting from evenly spaced blocks of it"
    optimizer = {"lamb": "LAMB", "adamw": "AdamW"}[run["optimizer"]]
    masks = (
        f"Mask regularisation of one image in {run['mask_every']}, ratio "
        f"{run['mask_ratio']}, weight {run['mask_weight']}. "
    )
    return (
        f"{loss}, batches of {run['batch_size']} distinct concepts, {stages}. "
        f"{optimizer}, peak learning rate {run['learning_rate']}, "
        f"{run['warmup_steps']} steps of warm-up, then {run['schedule']} to zero; "
        f"weight decay {run['weight_decay']}; seed {run['seed']}; {run['precision']}. "
        f"{masks if run['mask_weight'] else ''}Random size, place, stretch, "
        f"mirroring, colour jitter and background."
    )
