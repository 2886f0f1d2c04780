"""Recognises what wrote a checkpoint, from its tensor names alone."""

from collections.abc import Collection
from typing import Literal

from keras_pe.presets.report import CheckpointError

Family = Literal["upstream", "timm", "open_clip"]
Kind = Literal["core", "vision"]

# Files that people mistake for a PE checkpoint: a name that only they contain, and
# what they are. First match counts.
OTHER_FILES = (
    ("vision_model.encoder.layers.", "a transformers CLIP or SigLIP model"),
    ("embeddings.patch_embeddings.projection.", "a transformers ViT or DINOv2 model"),
    ("image_encoder.blocks.", "a Segment Anything model"),
    ("mask_token", "a DINOv2 or DINOv3 model"),
    ("visual.transformer.resblocks.", "an OpenAI CLIP or open_clip ViT model"),
    ("visual.trunk.", "an open_clip model with another timm tower than PE"),
    ("patch_embed.proj.", "a timm vision transformer that is no PE"),
    ("model.layers.", "a language model"),
)
UPSTREAM_TEXT = ("transformer.", "token_embedding.", "ln_final.")
# What a dual encoder has beside its towers; the bias, if the sigmoid loss trained it.
LOGIT_NAMES = ("logit_scale", "logit_bias")
UPSTREAM_TEXT_NAMES = ("positional_embedding", "text_projection", *LOGIT_NAMES)
# A constant that some programs save among the weights: the causal mask.
BUFFERS = ("attn_mask", "text.attn_mask")


def identify(names: Collection[str], file: str) -> tuple[Family, Kind]:
    """Returns which project wrote a file and whether it holds one tower or two.

    Args:
        names: the tensor names.
        file: name of the file, for the error.

    Raises:
        CheckpointError: if it is no Perception Encoder; says what it is if known.
    """
    found = set(names)
    if _any_prefix(found, "visual.trunk.") and _any_prefix(
        found, "visual.trunk.norm_pre."
    ):
        return "open_clip", "core"
    if _any_prefix(found, "visual.attn_pool."):
        return "upstream", "core"
    if _any_prefix(found, "norm_pre.") and _any_prefix(found, "blocks."):
        return "timm", "vision"
    if "conv1.weight" in found and _any_prefix(found, "transformer.resblocks."):
        return "upstream", "vision"
    for part, description in OTHER_FILES:
        if any(part in name for name in found):
            raise CheckpointError(
                f"{file} looks like {description}, not a Perception Encoder (it has "
                f'"{next(n for n in sorted(found) if part in n)}"). Expected an '
                f"upstream, timm or open_clip PE file."
            )
    sample = ", ".join(sorted(found)[:3]) or "no tensors"
    raise CheckpointError(
        f"{file} is no Perception Encoder that keras_pe knows (it has {sample}, ...). "
        f"Expected an upstream, timm or open_clip PE file."
    )


def is_text_name(name: str, family: Family) -> bool:
    """Whether a name of a dual encoder's file belongs to the text tower."""
    if family == "open_clip":
        return name.startswith("text.") or name in LOGIT_NAMES
    return (
        name.startswith(UPSTREAM_TEXT) or name in UPSTREAM_TEXT_NAMES or is_buffer(name)
    )


def is_buffer(name: str) -> bool:
    """Whether a name is that of a constant, which no model needs."""
    return name in BUFFERS


def _any_prefix(names: set[str], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in names)
