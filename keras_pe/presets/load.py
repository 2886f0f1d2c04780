"""Loads foreign checkpoints: proves first that all fits, then streams the weights."""

import dataclasses
import difflib
import os
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_pe.layers.patch_embedding import resample_positions
from keras_pe.presets.assign import Rule, fill
from keras_pe.presets.formats import open_clip, timm, upstream
from keras_pe.presets.formats.identify import (
    LOGIT_NAMES,
    Family,
    Kind,
    identify,
    is_buffer,
    is_text_name,
)
from keras_pe.presets.formats.rules import scalar
from keras_pe.presets.inspect import describe
from keras_pe.presets.manifest import model_manifest, model_variables
from keras_pe.presets.open_checkpoint import open_checkpoint
from keras_pe.presets.report import CheckpointError, LoadReport
from keras_pe.presets.tensor_reader import SAFETENSORS_DTYPES, Reader

MAX_NAMES = 8  # names that an error lists before it counts the rest


def load_weights(
    model: keras.Model,
    path: str | os.PathLike[str],
    resample_positions: bool = False,
) -> LoadReport:
    """Loads an upstream, timm or open_clip checkpoint into a model.

    The family is recognised from the tensor names; what training tools put around
    them ("module.", "_orig_mod.", a mapping under "state_dict") is taken off. Names,
    shapes, dtypes, checksums (a `.pt` has them) and values are compared before anything
    is assigned, and a file that changes meanwhile is noticed: an error leaves the model
    as it was. Tensors are read one at a time, so memory stays near one copy of the
    weights.

    Args:
        model: a `PECore`, a vision encoder (`PEVisionEncoder`, `PELang`, `PESpatial`)
            or a `PETextEncoder`. A single tower takes its part of a dual encoder's
            file; the report names what was left out.
        path: `.safetensors` or `.pt` file (also `.pth`, `.bin`, `.ckpt`). A `.pt` is
            opened by PyTorch's restricted unpickler (`weights_only=True`) alone.
        resample_positions: whether a position embedding of another grid is resampled
            bilinearly. Never done unasked.

    Returns:
        A `LoadReport`: every tensor of the file was used exactly once.

    Raises:
        CheckpointError: if the file is damaged, of another family, differs from the
            model in any name, shape or dtype, or holds NaN, infinity or values that
            the model's dtype can't hold; it names the tensors.

    Example:
        A file in timm's format, of a very small tower:

        >>> from keras_pe import PEVisionEncoder
        >>> from keras_pe.presets.formats.timm import vision_rules
        >>> from safetensors.numpy import save_file
        >>> encoder = PEVisionEncoder(image_size=32, patch_size=16, hidden_dim=32,
        ...     num_layers=1, num_heads=2, intermediate_dim=64, pooling_heads=2,
        ...     output_dim=None)
        >>> rules = vision_rules(encoder.get_config())
        >>> save_file({rule.source: np.full(rule.shape, 0.5, "float32")
        ...     for rule in rules}, "tiny.safetensors")
        >>> report = load_weights(encoder, "tiny.safetensors")
        >>> report.family, report.num_tensors == len(report.loaded)
        ('timm', True)
    """
    with open_checkpoint(path) as reader:
        return load_open(model, reader, resample_positions)


def load_open(
    model: keras.Model,
    reader: Reader,
    resample_positions: bool = False,
    fresh: bool = False,
) -> LoadReport:
    """Loads an open checkpoint into a model; see `load_weights`.

    Args:
        model: the model.
        reader: the open file.
        resample_positions: whether position embeddings may be resampled.
        fresh: whether the model is thrown away if this fails.
    """
    family, kind = identify(reader.tensors, reader.path.name)
    rules, left_out = _plan(model, reader, family, kind)
    variables = _variables(model)
    plan = _compare(model, reader, rules, left_out, resample_positions)

    def changed(rule: Rule, array: np.ndarray) -> np.ndarray:
        return _resampled(array, model) if rule.source in plan.resampled else array

    fill(reader, plan.rules, variables, changed if plan.resampled else None, fresh)
    return LoadReport(
        path=reader.path,
        family=family,
        num_tensors=len(reader.tensors),
        loaded=tuple(rule.source for rule in plan.rules),
        left_out=tuple(left_out),
        resampled=tuple(plan.resampled),
        zeros=tuple(plan.zeros),
        dtypes=tuple(sorted({info.dtype for info in reader.tensors.values()})),
        wrappers=reader.wrappers,
    )


@dataclasses.dataclass
class _Plan:
    rules: list[Rule]
    resampled: list[str]
    zeros: list[str]


def _plan(
    model: keras.Model, reader: Reader, family: Family, kind: Kind
) -> tuple[list[Rule], list[str]]:
    """Returns the rules for this model and the names of the other tower."""
    layout: Any = {"upstream": upstream, "timm": timm, "open_clip": open_clip}[family]
    file = reader.path.name
    towers = _towers(model)
    if len(towers) == 2:
        if kind != "core":
            raise CheckpointError(
                f"{file} is a {family} vision tower without a text tower, and the "
                f"model is a {type(model).__name__}. Load it into "
                f"model.vision_encoder, or take the dual encoder's file."
            )
        vision, text = towers["vision"].get_config(), towers["text"].get_config()
        rules = list(layout.core_rules(vision, text))
        return rules, [name for name in reader.tensors if is_buffer(name)]
    config = towers[""].get_config()
    if towers[""].modality == "vision":
        if kind == "vision":
            # What a dual encoder's file has beside the tower that was cut out of it.
            left_out = [name for name in reader.tensors if name in LOGIT_NAMES]
            return list(layout.vision_rules(config)), left_out
        left_out = [name for name in reader.tensors if is_text_name(name, family)]
        if family == "upstream":
            return list(upstream.vision_rules(config, "visual.")), left_out
        return list(open_clip.vision_rules(config)), left_out
    if kind == "vision":
        raise CheckpointError(
            f"{file} is a {family} vision tower; it has no text tower to load into a "
            f"{type(model).__name__}."
        )
    rules = list(layout.text_rules(config))
    names = {rule.source for rule in rules}
    left_out = [
        name
        for name in reader.tensors
        if name not in names
        and (name in LOGIT_NAMES or is_buffer(name) or not is_text_name(name, family))
    ]
    return rules, left_out


def _towers(model: keras.Model) -> dict[str, Any]:
    """Returns a model's towers; refuses what has none."""
    if hasattr(model, "towers"):
        return dict(model.towers())
    raise CheckpointError(
        f"load_weights takes a PECore, a vision or a text encoder of keras_pe, got a "
        f"{type(model).__name__}."
    )


def _variables(model: keras.Model) -> dict[str, Any]:
    """Returns the model's variables; refuses models with LoRA or quantised weights."""
    expected = model_manifest(model)
    variables = model_variables(model)
    if set(variables) != set(expected):
        extra = sorted(set(variables) ^ set(expected))
        raise CheckpointError(
            f"The model's weights are not those of a fresh model: {_listed(extra)}. "
            f"Load a checkpoint before enable_lora() or quantize(), not after."
        )
    return variables


def _compare(
    model: keras.Model,
    reader: Reader,
    rules: list[Rule],
    left_out: list[str],
    resample_positions: bool,
) -> _Plan:
    """Compares names, shapes and dtypes; raises with all that is wrong."""
    tensors = reader.tensors
    expected = {rule.source: rule for rule in rules}
    missing = [name for name in expected if name not in tensors]
    unexpected = [n for n in tensors if n not in expected and n not in set(left_out)]
    zeros = []
    if len(unexpected) == 1 and unexpected[0].endswith("head.bias"):
        # timm's projection has a bias, which is zero in the published files.
        if not np.any(reader.read(unexpected[0])):
            zeros = [unexpected.pop()]
        else:
            raise CheckpointError(
                f"{reader.path.name} has a projection bias that is not zero "
                f"({unexpected[0]}), and the model's projection has none. Build the "
                f"vision encoder with output_bias=True."
            )
    problems = []
    if missing:
        problems.append(f"missing from the file: {_listed(missing)}")
    if unexpected:
        problems.append(f"not in the model: {_listed(unexpected)}")
    if unexpected == ["logit_bias"]:
        problems.append(
            "logit_bias is of a model trained with the sigmoid loss, whose scores need "
            "it; a PECore has none. Its towers can be loaded one by one"
        )
    if missing and unexpected:
        problems.extend(_renamed(missing, unexpected))
    resampled, shapes = [], []
    for name, rule in expected.items():
        if name not in tensors or tensors[name].shape == rule.shape:
            continue
        found = tensors[name].shape
        if name == "logit_scale" and found == (1,):
            continue  # open_clip writes either
        if _is_grid(rule) and _other_grid(found, rule.shape):
            resampled.append(name)
            if resample_positions and _can_resample(model, found):
                continue
        shapes.append(f"{name} is {found}, expected {rule.shape}{_why(found, rule)}")
    if shapes:
        problems.append("of another shape: " + _listed(shapes, "; "))
    if resampled and not resample_positions:
        problems.append(
            "the position embedding was made for another grid; "
            "resample_positions=True resamples it"
        )
    dtypes = [
        f"{name} ({info.dtype})"
        for name, info in tensors.items()
        if name in expected and info.dtype not in SAFETENSORS_DTYPES
    ]
    if dtypes:
        problems.append(f"of a dtype that is no floating point: {_listed(dtypes)}")
    if problems:
        raise CheckpointError(
            f"{reader.path.name} does not fit this {type(model).__name__}: "
            + ". ".join(problems)
            + "."
            + _architecture_hint(reader, model, len(missing) + len(shapes))
        )
    rules = [
        dataclasses.replace(
            rule, shape=(1,), targets=tuple((t, scalar) for t, _ in rule.targets)
        )
        if rule.source == "logit_scale" and tensors[rule.source].shape == (1,)
        else rule
        for rule in rules
    ]
    return _Plan(rules, resampled, zeros)


def _listed(names: list[str], separator: str = ", ") -> str:
    text = separator.join(names[:MAX_NAMES])
    rest = len(names) - MAX_NAMES
    return f"{text} and {rest} more" if rest > 0 else text


def _renamed(missing: list[str], unexpected: list[str]) -> Iterable[str]:
    for name in missing[:MAX_NAMES]:
        close = difflib.get_close_matches(name, unexpected, n=1, cutoff=0.8)
        if close and len(missing) == len(unexpected):
            yield f"is {close[0]} a renamed {name}?"


def _why(found: tuple[int, ...], rule: Rule) -> str:
    if len(found) > 1 and sorted(found) == sorted(rule.shape):
        return " (transposed?)"
    return ""


def _is_grid(rule: Rule) -> bool:
    return rule.targets[0][0].endswith("patch_embedding/position_embedding")


def _other_grid(found: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    return len(found) == len(expected) and found[-1] == expected[-1]


def _vision(model: keras.Model) -> Any:
    """Returns a model's vision tower, or None."""
    towers = model.towers().values()
    return next((tower for tower in towers if tower.modality == "vision"), None)


def _source_side(model: keras.Model, tokens: int) -> int | None:
    """Returns the side of the square grid that a position embedding was made for."""
    patches = tokens - int(_vision(model).class_token)
    side = round(patches**0.5)
    return side if side > 0 and side * side == patches else None


def _can_resample(model: keras.Model, found: tuple[int, ...]) -> bool:
    return _source_side(model, found[-2]) is not None


def _resampled(positions: np.ndarray, model: keras.Model) -> np.ndarray:
    encoder = _vision(model)
    side = _source_side(model, len(positions))
    assert side is not None  # _compare asked for it
    first = int(encoder.class_token)
    patches = keras.ops.convert_to_numpy(
        resample_positions(
            keras.ops.convert_to_tensor(positions[first:], "float32"),
            (side, side),
            encoder.patch_embedding.native_grid,
        )
    )
    return np.concatenate([positions[:first].astype("float32"), patches])


def _architecture_hint(reader: Reader, model: keras.Model, differences: int) -> str:
    """Says which architecture the file holds when it is plainly another one."""
    if differences < 3:
        return ""
    try:
        info = describe(reader)
    except CheckpointError:
        return ""
    vision = _vision(model)
    ours = "" if vision is None else f"; the model has {_summary(vision.get_config())}"
    name = f" ({info.architecture})" if info.architecture else ""
    return f" The file holds {_summary(info.vision_config)}{name}{ours}."


def _summary(config: dict[str, Any]) -> str:
    return (
        f"a vision tower of {config['num_layers']} blocks, hidden_dim "
        f"{config['hidden_dim']}, patch_size {config['patch_size']}, image_size "
        f"{config['image_size']}, "
        f"{'a' if config['class_token'] else 'no'} class token, pooling "
        f"{config['pooling']}, "
        f"{'with' if config['layer_scale'] is not None else 'without'} LayerScale"
    )
