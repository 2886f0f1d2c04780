"""Says what a checkpoint file holds, from names and shapes, without loading it."""

import dataclasses
import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from keras_pe.checkpoints.families import Family, Kind, identify
from keras_pe.checkpoints.reader import Reader, TensorInfo, open_checkpoint
from keras_pe.checkpoints.report import CheckpointError

# The number of heads leaves no trace in a weight. Paper, table 17.
VISION_HEADS: Mapping[int, int] = {192: 3, 384: 6, 768: 12, 1024: 16, 1536: 16}
USUAL_HEAD_DIM = 64


@dataclasses.dataclass(frozen=True)
class CheckpointInfo:
    """What a file holds.

    Attributes:
        path: the file.
        family: "upstream", "timm" or "open_clip".
        kind: "core" for a dual encoder, "vision" for a vision tower.
        vision_config: constructor arguments of the vision encoder.
        text_config: constructor arguments of the text encoder, or None.
        architecture: official name if it is a released one, such as "PE-Core-B16-224".
            Released models of equal shape share their first name.
        num_tensors: tensors in the file.
        num_parameters: numbers in the file.
        dtypes: dtypes in the file.
        assumed_heads: whether a number of heads is a guess (head_dim 64), because
            the width is no published one.
    """

    path: Path
    family: Family
    kind: Kind
    vision_config: dict[str, Any]
    text_config: dict[str, Any] | None
    architecture: str | None
    num_tensors: int
    num_parameters: int
    dtypes: tuple[str, ...]
    assumed_heads: bool


def inspect_checkpoint(path: str | os.PathLike[str]) -> CheckpointInfo:
    """Says what a checkpoint file holds.

    Args:
        path: `.safetensors` or `.pt` file.

    Returns:
        Family, architecture and counts.

    Raises:
        CheckpointError: if the file is damaged or no Perception Encoder.
    """
    return describe(open_checkpoint(path))


def describe(reader: Reader) -> CheckpointInfo:
    """Says what an open checkpoint holds."""
    family, kind = identify(reader.tensors, reader.path.name)
    tensors = dict(reader.tensors)
    try:
        vision, text, guessed = _configs(tensors, family, kind)
    except (KeyError, IndexError, ValueError) as error:
        raise CheckpointError(
            f"{reader.path.name} looks like a {family} Perception Encoder, but its "
            f"architecture can't be read from its tensors ({error}): one is missing "
            f"or has another shape."
        ) from error
    return CheckpointInfo(
        path=reader.path,
        family=family,
        kind=kind,
        vision_config=vision,
        text_config=text,
        architecture=_released(vision, text),
        num_tensors=len(tensors),
        num_parameters=sum(math.prod(info.shape) for info in tensors.values()),
        dtypes=tuple(sorted({info.dtype for info in tensors.values()})),
        assumed_heads=guessed,
    )


def _configs(
    tensors: Mapping[str, TensorInfo], family: Family, kind: Kind
) -> tuple[dict[str, Any], dict[str, Any] | None, bool]:
    if family == "upstream":
        prefix = "visual." if kind == "core" else ""
        vision, guessed = _upstream_vision(tensors, prefix)
        text_prefix = ""
    else:
        prefix = "visual.trunk." if kind == "core" else ""
        vision, guessed = _timm_vision(tensors, prefix)
        text_prefix = "text."
    if kind == "vision":
        return vision, None, guessed
    text, text_guessed = _text(tensors, text_prefix)
    return vision, text, guessed or text_guessed


def _vision_config(
    kernel: tuple[int, ...],
    tokens: int,
    class_token: bool,
    num_layers: int,
    intermediate_dim: int,
    **rest: Any,
) -> tuple[dict[str, Any], bool]:
    hidden, _, patch, _ = kernel
    side = math.isqrt(tokens - int(class_token))
    if side * side != tokens - int(class_token):
        raise ValueError(f"{tokens} positions are no square grid")
    heads, guessed = _heads(hidden)
    config = {
        "image_size": side * patch,
        "patch_size": patch,
        "hidden_dim": hidden,
        "num_layers": num_layers,
        "num_heads": heads,
        "intermediate_dim": intermediate_dim,
        "class_token": class_token,
        **rest,
    }
    return config, guessed


def _lookup(
    tensors: Mapping[str, TensorInfo], prefix: str
) -> tuple[Callable[[str], bool], Callable[[str], tuple[int, ...]]]:
    """Returns "is there such a tensor" and "of which shape", for names of a prefix."""
    return (
        lambda name: prefix + name in tensors,
        lambda name: tensors[prefix + name].shape,
    )


def _upstream_vision(
    tensors: Mapping[str, TensorInfo], prefix: str
) -> tuple[dict[str, Any], bool]:
    has, shape = _lookup(tensors, prefix)
    return _vision_config(
        kernel=shape("conv1.weight"),
        tokens=shape("positional_embedding")[0],
        class_token=has("class_embedding"),
        num_layers=_count(
            tensors, re.escape(prefix) + r"transformer\.resblocks\.(\d+)"
        ),
        intermediate_dim=shape("transformer.resblocks.0.mlp.c_fc.weight")[0],
        output_dim=shape("proj")[1] if has("proj") else None,
        pooling="attention" if has("attn_pool.probe") else None,
        final_norm=has("ln_post.weight"),
        layer_scale=0.1 if has("transformer.resblocks.0.ls_1.gamma") else None,
    )


def _timm_vision(
    tensors: Mapping[str, TensorInfo], prefix: str
) -> tuple[dict[str, Any], bool]:
    has, shape = _lookup(tensors, prefix)
    return _vision_config(
        kernel=shape("patch_embed.proj.weight"),
        tokens=shape("pos_embed")[1],
        class_token=has("cls_token"),
        num_layers=_count(tensors, re.escape(prefix) + r"blocks\.(\d+)"),
        intermediate_dim=shape("blocks.0.mlp.fc1.weight")[0],
        output_dim=shape("head.weight")[0] if has("head.weight") else None,
        pooling="attention" if has("attn_pool.latent") else None,
        final_norm=has("norm.weight"),
        layer_scale=0.1 if has("blocks.0.gamma_1") else None,
    )


def _text(
    tensors: Mapping[str, TensorInfo], prefix: str
) -> tuple[dict[str, Any], bool]:
    _, shape = _lookup(tensors, prefix)
    vocabulary_size, hidden = shape("token_embedding.weight")
    guessed = bool(hidden % USUAL_HEAD_DIM)
    config = {
        "vocabulary_size": vocabulary_size,
        "context_length": shape("positional_embedding")[0],
        "hidden_dim": hidden,
        "num_layers": _count(
            tensors, re.escape(prefix) + r"transformer\.resblocks\.(\d+)"
        ),
        # Every published text tower has heads of 64 channels.
        "num_heads": max(hidden // USUAL_HEAD_DIM, 1),
        "intermediate_dim": shape("transformer.resblocks.0.mlp.c_fc.weight")[0],
        "output_dim": shape("text_projection")[1],
    }
    return config, guessed


def _heads(hidden: int) -> tuple[int, bool]:
    if hidden in VISION_HEADS:
        return VISION_HEADS[hidden], False
    return max(hidden // USUAL_HEAD_DIM, 1), True


def _count(tensors: Mapping[str, TensorInfo], pattern: str) -> int:
    """Returns one more than the largest block number."""
    found = re.compile(pattern)
    numbers = [int(match[1]) for match in map(found.match, tensors) if match]
    if not numbers:
        raise ValueError("no blocks")
    return max(numbers) + 1


def _released(vision: dict[str, Any], text: dict[str, Any] | None) -> str | None:
    """Returns the official name of a released architecture of the same sizes."""
    from keras_pe.models import variants

    for name in variants.names():
        if not _agree(variants.vision_config(name), vision):
            continue
        theirs = variants.text_config(name)
        if text is None or (theirs is not None and _agree(theirs, text)):
            return name
    return None


def _agree(known: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    return all(known.get(key, value) == value for key, value in found.items())
