"""The size table against what the released code builds."""

import json
from pathlib import Path

import pytest

from keras_pe.presets import variants
from keras_pe.presets.manifest import core_manifest, vision_manifest

pytestmark = [pytest.mark.quick, pytest.mark.once]
REFERENCE = Path(__file__).parents[1] / "reference"
UPSTREAM = json.loads((REFERENCE / "upstream_manifest.json").read_text())


def parameters(manifest):
    total = 0
    for shape in manifest.values():
        count = 1
        for side in shape:
            count *= side
        total += count
    return total


def test_all_fourteen_are_here():
    assert sorted(variants.names()) == sorted(UPSTREAM)
    assert len(variants.names()) == 14


@pytest.mark.parametrize("name", sorted(UPSTREAM))
def test_vision_equals_upstream(name):
    theirs, ours = UPSTREAM[name]["vision"], variants.vision_config(name)
    assert ours == {
        "image_size": theirs["image_size"],
        "patch_size": theirs["patch_size"],
        "hidden_dim": theirs["width"],
        "num_layers": theirs["layers"],
        "num_heads": theirs["heads"],
        "intermediate_dim": int(theirs["width"] * theirs["mlp_ratio"]),
        "output_dim": theirs["output_dim"],
        "class_token": theirs["use_cls_token"],
        "pooling": {"attn": "attention", "none": None}[theirs["pool_type"]],
        "pooling_heads": theirs["attn_pooler_heads"],
        "final_norm": theirs["use_ln_post"],
        "layer_scale": theirs["ls_init_value"],
    }


@pytest.mark.parametrize("name", sorted(UPSTREAM))
def test_text_equals_upstream(name):
    theirs, ours = UPSTREAM[name]["text"], variants.text_config(name)
    if theirs is None:
        assert ours is None
        return
    assert ours == {
        "vocabulary_size": theirs["vocab_size"],
        "context_length": theirs["context_length"],
        "hidden_dim": theirs["width"],
        "num_layers": theirs["layers"],
        "num_heads": theirs["heads"],
        "intermediate_dim": int(theirs["width"] * theirs["mlp_ratio"]),
        "output_dim": theirs["output_dim"],
    }


@pytest.mark.parametrize("name", sorted(UPSTREAM))
def test_parameter_counts_equal_upstream(name):
    vision, text = variants.vision_config(name), variants.text_config(name)
    manifest = vision_manifest(vision) if text is None else core_manifest(vision, text)
    assert parameters(manifest) == UPSTREAM[name]["parameters"]


@pytest.mark.parametrize("name", ["PE-Core-X14", "pe-core-l14-336", ""])
def test_unknown_names_are_refused(name):
    with pytest.raises(ValueError, match="expected an official name"):
        variants.vision_config(name)
    with pytest.raises(ValueError, match="expected an official name"):
        variants.text_config(name)
