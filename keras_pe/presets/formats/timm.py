"""Tensor names of timm's `vit_pe_*` vision towers (`timm/models/eva.py`)."""

from collections.abc import Iterable, Mapping
from typing import Any

from keras_pe.presets.assign import Rule, rule
from keras_pe.presets.formats.rules import (
    flat,
    grid_tokens,
    linear_rules,
    norm_rules,
    patch_kernel,
    transposed,
    without_batch,
)

Config = Mapping[str, Any]


def vision_rules(config: Config, source: str = "", target: str = "") -> Iterable[Rule]:
    """Returns the rules of the vision tower.

    Args:
        config: constructor arguments of `PEVisionEncoder`. timm's projection has a
            bias, which is zero in the published weights: without `output_bias` the
            loader checks that it is.
        source: prefix of their names; "visual.trunk." in open_clip's files.
        target: prefix of our names.
    """
    hidden, patch = config["hidden_dim"], config["patch_size"]
    inner = config["intermediate_dim"]
    embedding = f"{target}patch_embedding"
    if config["class_token"]:
        shape = (1, 1, hidden)
        yield rule(f"{source}cls_token", shape, f"{embedding}/class_embedding", flat)
    yield rule(
        f"{source}pos_embed",
        (1, grid_tokens(config), hidden),
        f"{embedding}/position_embedding",
        without_batch,
    )
    yield rule(
        f"{source}patch_embed.proj.weight",
        (hidden, 3, patch, patch),
        f"{embedding}/projection/kernel",
        patch_kernel,
    )
    yield from norm_rules(f"{source}norm_pre", f"{target}pre_norm", hidden)
    for index in range(config["num_layers"]):
        theirs, ours = f"{source}blocks.{index}", f"{target}block_{index + 1}"
        yield from norm_rules(f"{theirs}.norm1", f"{ours}/attention_norm", hidden)
        attention = f"{ours}/attention"
        yield from linear_rules(
            f"{theirs}.attn.qkv", f"{attention}/qkv", hidden, 3 * hidden
        )
        yield from linear_rules(
            f"{theirs}.attn.proj", f"{attention}/output", hidden, hidden
        )
        yield from norm_rules(f"{theirs}.norm2", f"{ours}/feed_forward_norm", hidden)
        yield from _feed_forward(f"{theirs}.mlp", f"{ours}/feed_forward", hidden, inner)
        if config.get("layer_scale") is not None:
            scale = (hidden,)
            yield rule(f"{theirs}.gamma_1", scale, f"{ours}/attention_scale/scale")
            yield rule(f"{theirs}.gamma_2", scale, f"{ours}/feed_forward_scale/scale")
    if config["final_norm"]:
        yield from norm_rules(f"{source}norm", f"{target}norm", hidden)
    if config["pooling"] == "attention":
        yield from _pooling_rules(
            hidden, f"{source}attn_pool", f"{target}attention_pooling"
        )
    if config["output_dim"] is not None:
        output = config["output_dim"]
        kernel = f"{target}projection/kernel"
        yield rule(f"{source}head.weight", (output, hidden), kernel, transposed)
        if config.get("output_bias"):
            yield rule(f"{source}head.bias", (output,), f"{target}projection/bias")


def _feed_forward(theirs: str, ours: str, hidden: int, inner: int) -> Iterable[Rule]:
    yield from linear_rules(f"{theirs}.fc1", f"{ours}/expand", hidden, inner)
    yield from linear_rules(f"{theirs}.fc2", f"{ours}/contract", inner, hidden)


def _pooling_rules(hidden: int, theirs: str, ours: str) -> Iterable[Rule]:
    yield rule(f"{theirs}.latent", (1, 1, hidden), f"{ours}/probe", flat)
    yield from linear_rules(f"{theirs}.q", f"{ours}/query", hidden, hidden)
    yield from linear_rules(f"{theirs}.kv", f"{ours}/key_value", hidden, 2 * hidden)
    yield from linear_rules(f"{theirs}.proj", f"{ours}/output", hidden, hidden)
    yield from norm_rules(f"{theirs}.norm", f"{ours}/norm", hidden)
    yield from _feed_forward(
        f"{theirs}.mlp", f"{ours}/feed_forward", hidden, 4 * hidden
    )
