"""Tensor names of facebookresearch/perception_models (`core/vision_encoder/pe.py`)."""

from collections.abc import Iterable, Mapping
from typing import Any

from keras_pe.presets.assign import Rule, rule
from keras_pe.presets.formats.rules import (
    first_third,
    flat,
    grid_tokens,
    last_thirds,
    linear_rules,
    norm_rules,
    patch_kernel,
    transposed,
)

Config = Mapping[str, Any]


def block_rules(config: Config, source: str, target: str) -> Iterable[Rule]:
    """Returns the rules of a stack of residual attention blocks."""
    hidden, inner = config["hidden_dim"], config["intermediate_dim"]
    for index in range(config["num_layers"]):
        theirs = f"{source}transformer.resblocks.{index}"
        ours = f"{target}block_{index + 1}"
        yield from norm_rules(f"{theirs}.ln_1", f"{ours}/attention_norm", hidden)
        qkv = f"{ours}/attention/qkv"
        shape = (3 * hidden, hidden)
        yield rule(f"{theirs}.attn.in_proj_weight", shape, f"{qkv}/kernel", transposed)
        yield rule(f"{theirs}.attn.in_proj_bias", shape[:1], f"{qkv}/bias")
        output = f"{ours}/attention/output"
        yield from linear_rules(f"{theirs}.attn.out_proj", output, hidden, hidden)
        yield from norm_rules(f"{theirs}.ln_2", f"{ours}/feed_forward_norm", hidden)
        forward = f"{ours}/feed_forward"
        yield from linear_rules(
            f"{theirs}.mlp.c_fc", f"{forward}/expand", hidden, inner
        )
        yield from linear_rules(
            f"{theirs}.mlp.c_proj", f"{forward}/contract", inner, hidden
        )
        if config.get("layer_scale") is not None:
            scale = (hidden,)
            yield rule(f"{theirs}.ls_1.gamma", scale, f"{ours}/attention_scale/scale")
            yield rule(
                f"{theirs}.ls_2.gamma", scale, f"{ours}/feed_forward_scale/scale"
            )


def vision_rules(config: Config, source: str = "", target: str = "") -> Iterable[Rule]:
    """Returns the rules of the vision tower.

    Args:
        config: constructor arguments of `PEVisionEncoder`.
        source: prefix of their names; "visual." in a dual encoder's file.
        target: prefix of our names.
    """
    hidden, patch = config["hidden_dim"], config["patch_size"]
    embedding = f"{target}patch_embedding"
    yield rule(
        f"{source}conv1.weight",
        (hidden, 3, patch, patch),
        f"{embedding}/projection/kernel",
        patch_kernel,
    )
    if config["class_token"]:
        yield rule(
            f"{source}class_embedding", (hidden,), f"{embedding}/class_embedding"
        )
    yield rule(
        f"{source}positional_embedding",
        (grid_tokens(config), hidden),
        f"{embedding}/position_embedding",
    )
    yield from norm_rules(f"{source}ln_pre", f"{target}pre_norm", hidden)
    yield from block_rules(config, source, target)
    if config["final_norm"]:
        yield from norm_rules(f"{source}ln_post", f"{target}norm", hidden)
    if config["pooling"] == "attention":
        yield from _pooling_rules(
            hidden, f"{source}attn_pool", f"{target}attention_pooling"
        )
    if config["output_dim"] is not None:
        shape = (hidden, config["output_dim"])
        yield rule(f"{source}proj", shape, f"{target}projection/kernel")


def _pooling_rules(hidden: int, theirs: str, ours: str) -> Iterable[Rule]:
    yield rule(f"{theirs}.probe", (1, 1, hidden), f"{ours}/probe", flat)
    for kind, shape in (("weight", (3 * hidden, hidden)), ("bias", (3 * hidden,))):
        weight = "kernel" if kind == "weight" else "bias"
        yield Rule(
            f"{theirs}.attn.in_proj_{kind}",
            shape,
            (
                (f"{ours}/query/{weight}", first_third),
                (f"{ours}/key_value/{weight}", last_thirds),
            ),
        )
    yield from linear_rules(f"{theirs}.attn.out_proj", f"{ours}/output", hidden, hidden)
    yield from norm_rules(f"{theirs}.layernorm", f"{ours}/norm", hidden)
    inner = 4 * hidden
    forward = f"{ours}/feed_forward"
    yield from linear_rules(f"{theirs}.mlp.c_fc", f"{forward}/expand", hidden, inner)
    yield from linear_rules(
        f"{theirs}.mlp.c_proj", f"{forward}/contract", inner, hidden
    )


def text_rules(config: Config, source: str = "", target: str = "") -> Iterable[Rule]:
    """Returns the rules of the text tower."""
    hidden = config["hidden_dim"]
    yield rule(
        f"{source}token_embedding.weight",
        (config["vocabulary_size"], hidden),
        f"{target}token_embedding/embeddings",
    )
    yield rule(
        f"{source}positional_embedding",
        (config["context_length"], hidden),
        f"{target}position_embedding",
    )
    yield from block_rules(config, source, target)
    yield from norm_rules(f"{source}ln_final", f"{target}norm", hidden)
    yield rule(
        f"{source}text_projection",
        (hidden, config["output_dim"]),
        f"{target}projection/kernel",
    )


def core_rules(vision: Config, text: Config) -> Iterable[Rule]:
    """Returns the rules of a dual encoder."""
    yield from vision_rules(vision, "visual.", "vision/")
    yield from text_rules(text, "", "text/")
    yield rule("logit_scale", (), "logit_scale")
