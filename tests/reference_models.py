"""The nine reference folders as models, with the numbers they must give."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

import keras_pe

REFERENCE = Path(__file__).parent / "reference"
UPSTREAM = ("core_cls", "core_nocls", "lang", "lang_cls", "spatial_cls")
TIMM = (
    "vit_pe_core_tiny_patch16_384",
    "vit_pe_lang_large_patch14_448",
    "vit_pe_spatial_gigantic_patch14_448",
)
# What the name implies and config.json leaves out. The twins are far smaller than the
# grid (24 or 32 a side) that timm scales their RoPE positions to.
TIMM_CONFIG = {
    "vit_pe_core_tiny_patch16_384": {
        "patch_size": 16,
        "intermediate_dim": 192,
        "output_dim": 512,
        "output_bias": True,
        "rope_reference_grid": 24,
    },
    "vit_pe_lang_large_patch14_448": {
        "patch_size": 14,
        "intermediate_dim": 192,
        "layer_scale": 0.1,
        "rope_reference_grid": 32,
    },
    "vit_pe_spatial_gigantic_patch14_448": {
        "patch_size": 14,
        "intermediate_dim": 280,
        "layer_scale": 0.1,
        "class_token": False,
        "rope_reference_grid": 32,
    },
}


def numbers(folder: str) -> dict[str, np.ndarray]:
    """Returns inputs and outputs of a reference folder."""
    return load_file(REFERENCE / folder / "io.safetensors")


def checkpoint(folder: str) -> Path:
    """Returns the weights file of a reference folder."""
    names = (
        "checkpoint.safetensors",
        "model.safetensors",
        "open_clip_model.safetensors",
    )
    paths = [REFERENCE / folder / name for name in names]
    return next(path for path in paths if path.exists())


def upstream_model(name: str, **arguments: Any) -> Any:
    """Returns an unloaded model of the architecture of an upstream folder."""
    config = json.loads((REFERENCE / "upstream" / name / "config.json").read_text())
    vision, text = config["vision"], config["text"]
    encoder_class = keras_pe.PEVisionEncoder if text else keras_pe.PELang
    encoder = encoder_class(
        image_size=vision["image_size"],
        patch_size=vision["patch_size"],
        hidden_dim=vision["width"],
        num_layers=vision["layers"],
        num_heads=vision["heads"],
        intermediate_dim=int(vision["width"] * vision["mlp_ratio"]),
        output_dim=vision["output_dim"],
        class_token=vision["use_cls_token"],
        pooling="attention" if vision["pool_type"] == "attn" else None,
        pooling_heads=vision["attn_pooler_heads"],
        final_norm=vision.get("use_ln_post", True),
        layer_scale=vision.get("ls_init_value"),
        **arguments,
    )
    return encoder if text is None else keras_pe.PECore(encoder, _text(text, arguments))


def _text(text: dict[str, Any], arguments: dict[str, Any]) -> Any:
    return keras_pe.PETextEncoder(
        vocabulary_size=text["vocab_size"],
        context_length=text["context_length"],
        hidden_dim=text["width"],
        num_layers=text["layers"],
        num_heads=text["heads"],
        intermediate_dim=4 * text["width"],
        output_dim=text["output_dim"],
        **arguments,
    )


def timm_model(name: str, **arguments: Any) -> Any:
    """Returns an unloaded vision encoder of the architecture of a timm folder."""
    config = json.loads((REFERENCE / "timm" / name / "config.json").read_text())
    sizes = config["kwargs"]
    encoder_class = keras_pe.PEVisionEncoder if "core" in name else keras_pe.PELang
    return encoder_class(
        image_size=sizes["img_size"],
        hidden_dim=sizes["embed_dim"],
        num_layers=sizes["depth"],
        num_heads=sizes["num_heads"],
        **TIMM_CONFIG[name],
        **arguments,
    )


def open_clip_model(**arguments: Any) -> Any:
    """Returns an unloaded dual encoder of the open_clip folder's architecture."""
    path = REFERENCE / "open_clip" / "open_clip_config.json"
    config = json.loads(path.read_text())["model_cfg"]
    vision = keras_pe.PEVisionEncoder(
        image_size=config["vision_cfg"]["image_size"],
        patch_size=16,
        hidden_dim=48,
        num_layers=2,
        num_heads=3,
        intermediate_dim=192,
        output_dim=config["embed_dim"],
        output_bias=True,
        rope_reference_grid=24,
        **arguments,
    )
    text = {**config["text_cfg"], "output_dim": config["embed_dim"]}
    return keras_pe.PECore(vision, _text(text, arguments))


def relative_error(found: Any, expected: np.ndarray) -> float:
    """Returns the L2 norm of the difference over the L2 norm of the expected."""
    found = np.asarray(found, "float64").reshape(expected.shape)
    expected = np.asarray(expected, "float64")
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
