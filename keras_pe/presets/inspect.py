"""Says what a checkpoint file holds, from names and shapes, without loading it."""

import dataclasses
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from keras_pe.presets import variants
from keras_pe.presets.checksums import read_metadata, read_verified
from keras_pe.presets.formats.identify import Family, Kind, identify
from keras_pe.presets.hub import CONFIG, resolve
from keras_pe.presets.open_checkpoint import open_checkpoint
from keras_pe.presets.preset_weights import PresetWeights
from keras_pe.presets.report import CheckpointError
from keras_pe.presets.serialized import DUAL, MODELS, check
from keras_pe.presets.tensor_reader import TORCH_SUFFIXES, Reader, TensorInfo

FILE_SUFFIXES = (".safetensors", ".h5", *TORCH_SUFFIXES)


@dataclasses.dataclass(frozen=True)
class CheckpointInfo:
    """What a file holds.

    Attributes:
        path: the file, or the directory of a preset.
        family: "upstream", "timm" or "open_clip"; "keras_pe" for a preset.
        kind: "core" for a dual encoder, "vision" for a vision tower.
        vision_config: constructor arguments of the vision encoder. `num_heads` and
            `pooling_heads` are None where they are not known.
        text_config: constructor arguments of the text encoder, or None.
        architecture: official name if it is a released one, such as "PE-Core-B16-224".
            Released models of equal shape share their first name.
        num_tensors: tensors in the file.
        num_parameters: numbers in the file.
        dtypes: dtypes in the file.
        unknown_heads: whether a number of heads is not known: it leaves no trace in
            the weights, and no published tower has these sizes.
        wrappers: prefixes of names ("module.") and keys of mappings ("state_dict")
            that training tools had put around the weights.
        class_name: of a preset, the class that loads it; else None.

    Example:
        >>> from importlib.resources import files
        >>> folder = files("keras_pe") / "presets" / "pe_core_emoji_patch8_64"
        >>> info = inspect_checkpoint(folder)
        >>> isinstance(info, CheckpointInfo), info.kind, info.num_parameters
        (True, 'core', 6173569)
    """

    path: Path
    family: Family | Literal["keras_pe"]
    kind: Kind
    vision_config: dict[str, Any]
    text_config: dict[str, Any] | None
    architecture: str | None
    num_tensors: int
    num_parameters: int
    dtypes: tuple[str, ...]
    unknown_heads: bool
    wrappers: tuple[str, ...] = ()
    class_name: str | None = None


def inspect_checkpoint(path: str | os.PathLike[str]) -> CheckpointInfo:
    """Says what a checkpoint file or a preset holds.

    Args:
        path: `.safetensors` or `.pt` file, the directory of a preset, or a handle as
            `from_preset` takes it (which downloads what is not in the cache).

    Returns:
        Family, architecture and counts.

    Raises:
        CheckpointError: if the file is damaged or no Perception Encoder.

    Example:
        >>> info = inspect_checkpoint("pe_core_emoji_patch8_64")
        >>> info.family, info.class_name, info.vision_config["image_size"]
        ('keras_pe', 'PECore', 64)
    """
    found = Path(path)
    if found.is_file() or found.suffix.lower() in FILE_SUFFIXES:
        with open_checkpoint(found) as reader:
            return describe(reader)
    location = resolve(path)
    if location.directory is not None:
        return _describe_preset(location.directory)
    assert location.checkpoint is not None
    with open_checkpoint(location.checkpoint) as reader:
        return describe(reader)


def _describe_preset(directory: Path) -> CheckpointInfo:
    metadata = read_metadata(directory)
    config = read_verified(directory, CONFIG, metadata)
    name = check(config, str(directory / CONFIG), MODELS)
    with PresetWeights(directory, metadata, config) as weights:
        tensors = weights.tensors
    towers = config["config"] if name == DUAL else {"vision_encoder": config}
    vision = dict(towers["vision_encoder"]["config"])
    text = dict(towers["text_encoder"]["config"]) if name == DUAL else None
    return CheckpointInfo(
        path=directory,
        family="keras_pe",
        kind="core" if name == DUAL else "vision",
        vision_config=vision,
        text_config=text,
        architecture=_released(vision, text),
        num_tensors=len(tensors),
        num_parameters=_num_parameters(tensors),
        dtypes=tuple(sorted({info.dtype for info in tensors.values()})),
        unknown_heads=False,
        class_name=name,
    )


def describe(reader: Reader) -> CheckpointInfo:
    """Says what an open checkpoint holds."""
    family, kind = identify(reader.tensors, reader.path.name)
    tensors = dict(reader.tensors)
    try:
        vision, text = _configs(tensors, family, kind)
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
        num_parameters=_num_parameters(tensors),
        dtypes=tuple(sorted({info.dtype for info in tensors.values()})),
        unknown_heads=any(
            config is not None and config["num_heads"] is None
            for config in (vision, text)
        ),
        wrappers=reader.wrappers,
    )


def _num_parameters(tensors: Mapping[str, TensorInfo]) -> int:
    return sum(math.prod(info.shape) for info in tensors.values())


def _configs(
    tensors: Mapping[str, TensorInfo], family: Family, kind: Kind
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    if family == "upstream":
        prefix = "visual." if kind == "core" else ""
        vision = _upstream_vision(tensors, prefix)
        text_prefix = ""
    else:
        prefix = "visual.trunk." if kind == "core" else ""
        vision = _timm_vision(tensors, prefix)
        text_prefix = "text."
    return vision, _text(tensors, text_prefix) if kind == "core" else None


def _vision_config(
    kernel: tuple[int, ...],
    tokens: int,
    class_token: bool,
    num_layers: int,
    intermediate_dim: int,
    pooling: str | None,
    **rest: Any,
) -> dict[str, Any]:
    hidden, _, patch, _ = kernel
    if min(hidden, patch, tokens, intermediate_dim) < 1:
        raise ValueError("a size is zero")
    side = math.isqrt(tokens - int(class_token))
    if side * side != tokens - int(class_token) or not side:
        raise ValueError(f"{tokens} positions are no square grid")
    heads = _heads(variants.VISION.values(), hidden, intermediate_dim)
    config = {
        "image_size": side * patch,
        "patch_size": patch,
        "hidden_dim": hidden,
        "num_layers": num_layers,
        "num_heads": heads,
        "intermediate_dim": intermediate_dim,
        "class_token": class_token,
        "pooling": pooling,
        **rest,
    }
    if pooling is not None:
        config["pooling_heads"] = None if heads is None else variants.POOLING_HEADS
    return config


def _lookup(
    tensors: Mapping[str, TensorInfo], prefix: str
) -> tuple[Callable[[str], bool], Callable[[str], tuple[int, ...]]]:
    """Returns "is there such a tensor" and "of which shape", for names of a prefix."""
    return (
        lambda name: prefix + name in tensors,
        lambda name: tensors[prefix + name].shape,
    )


def _upstream_vision(tensors: Mapping[str, TensorInfo], prefix: str) -> dict[str, Any]:
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


def _timm_vision(tensors: Mapping[str, TensorInfo], prefix: str) -> dict[str, Any]:
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


def _text(tensors: Mapping[str, TensorInfo], prefix: str) -> dict[str, Any]:
    _, shape = _lookup(tensors, prefix)
    vocabulary_size, hidden = shape("token_embedding.weight")
    inner = shape("transformer.resblocks.0.mlp.c_fc.weight")[0]
    return {
        "vocabulary_size": vocabulary_size,
        "context_length": shape("positional_embedding")[0],
        "hidden_dim": hidden,
        "num_layers": _count(
            tensors, re.escape(prefix) + r"transformer\.resblocks\.(\d+)"
        ),
        "num_heads": _heads(variants.TEXT.values(), hidden, inner),
        "intermediate_dim": inner,
        "output_dim": shape("text_projection")[1],
    }


def _heads(
    published: Iterable[variants.VisionSize | variants.TextSize],
    hidden: int,
    inner: int,
) -> int | None:
    """Returns the heads of the published towers of these widths; None if there is none.

    All that share a width and a feed-forward have the same heads.
    """
    for size in published:
        if (size.hidden_dim, size.intermediate_dim) == (hidden, inner):
            return size.num_heads
    return None


def _count(tensors: Mapping[str, TensorInfo], pattern: str) -> int:
    """Returns one more than the largest block number."""
    found = re.compile(pattern)
    numbers = [int(match[1]) for match in map(found.match, tensors) if match]
    if not numbers:
        raise ValueError("no blocks")
    return max(numbers) + 1


def _released(vision: dict[str, Any], text: dict[str, Any] | None) -> str | None:
    """Returns the official name of a released architecture of the same sizes."""
    for name in variants.names():
        if not _agree(variants.vision_config(name), vision):
            continue
        theirs = variants.text_config(name)
        if text is None or (theirs is not None and _agree(theirs, text)):
            return name
    return None


def _agree(known: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    return all(known.get(key, value) == value for key, value in found.items())
