"""Where Keras puts each weight of a model in the HDF5 file of a preset.

Keras names groups after the attributes that it finds first, in alphabetical order, then
after the class of each remaining layer. What follows from that for our models stands
here, so that a file is compared with a configuration before a model is built.
"""

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

from keras_pe.layers.layer_state import check_sizes
from keras_pe.presets.classes import DUAL, TEXT, VISION, class_named
from keras_pe.presets.manifest import (
    Manifest,
    core_manifest,
    vision_manifest,
)

BLOCK = re.compile(r"block_(\d+)/(.+)")
PARAMETERS = {"kernel": 0, "bias": 1, "gamma": 0, "beta": 1, "scale": 0}
# Our name of a layer to Keras' name of its group, where they differ.
GROUPS = {
    "patch_embedding/projection": "layers/patch_embedding/projection",
    "pre_norm": "layers/layer_normalization",
    "norm": "layers/layer_normalization_1",
    "projection": "layers/dense",
    "token_embedding": "layers/embedding",
    "attention/output": "attention/output_projection",
    "attention_pooling/output": "attention_pooling/output_projection",
}
BLOCK_WEIGHTS = 12  # of a block without LayerScale
SIZES = ("num_layers", "num_heads", "hidden_dim", "intermediate_dim")
VISION_SIZES = (*SIZES, "image_size", "patch_size")
TEXT_SIZES = (*SIZES, "vocabulary_size", "context_length", "output_dim")


def preset_manifest(config: Mapping[str, Any], num_tensors: int) -> Manifest:
    """Returns the weights that the model of a preset has, before it is built.

    Args:
        config: the checked configuration of a model, in Keras' form.
        num_tensors: tensors in the weight file: an architecture that needs many more
            is refused before its weights are listed.

    Returns:
        Shape by our name.

    Raises:
        ValueError, TypeError, KeyError: if its values are no sizes.
    """
    inner = config["config"]
    towers = []
    if config["class_name"] == DUAL:
        towers = [inner[k]["config"] for k in ("vision_encoder", "text_encoder")]
    for number, tower in enumerate(towers or [inner]):
        sizes = TEXT_SIZES if number else VISION_SIZES
        check_sizes(**{name: tower[name] for name in sizes if name in tower})
        if tower.get("num_layers", 1) * BLOCK_WEIGHTS > num_tensors:
            raise ValueError(
                f"num_layers is {tower['num_layers']:,}, and the file has "
                f"{num_tensors:,} tensors, fewer than {BLOCK_WEIGHTS} a block"
            )
    if not towers:
        return vision_manifest({**defaults(VISION), **inner})
    return core_manifest(
        {**defaults(VISION), **towers[0]},
        {**defaults(TEXT), **towers[1]},
    )


def defaults(name: str) -> dict[str, Any]:
    """Returns the constructor's default arguments of a tower.

    Args:
        name: name of its class; of one that is not ours, the vision encoder's.
    """
    cls = class_named(TEXT if name == TEXT else VISION)
    parameters = inspect.signature(cls.__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def h5_names(config: Mapping[str, Any], manifest: Manifest) -> dict[str, str]:
    """Returns the name in the HDF5 file of each weight, by our name.

    Args:
        config: the checked configuration of a model, in Keras' form.
        manifest: its weights, from `preset_manifest`.

    Example:
        >>> config = {"config": {}}
        >>> h5_names(config, {"block_2/attention/output/bias": (32,)})
        {'block_2/attention/output/bias': \
'blocks/transformer_block_1/attention/output_projection/vars/1'}
    """
    return dict(_h5_names(config["config"], manifest))


def _h5_names(
    config: Mapping[str, Any], manifest: Manifest
) -> Iterator[tuple[str, str]]:
    for name in manifest:
        tower, _, rest = name.partition("/")
        if name == "logit_scale":
            yield name, "vars/0"
        elif f"{tower}_encoder" in config:
            group = _snake_case(config[f"{tower}_encoder"]["class_name"])
            inside = f"{tower}/"
            yield name, f"layers/{group}/{_in_tower(rest, manifest, inside)}"
        else:
            yield name, _in_tower(name, manifest, "")


def _in_tower(name: str, manifest: Manifest, prefix: str) -> str:
    """Returns the name of a weight in the group of its tower."""
    if name == "position_embedding":  # of the text tower
        return "vars/0"
    if name == "attention_pooling/probe":
        return "attention_pooling/vars/0"
    if name == "token_embedding/embeddings":
        return "layers/embedding/vars/0"
    if name.startswith("patch_embedding/") and name.count("/") == 1:
        has_class = f"{prefix}patch_embedding/class_embedding" in manifest
        last = name.endswith("position_embedding") and has_class
        return f"layers/patch_embedding/vars/{int(last)}"
    layer, _, parameter = name.rpartition("/")
    block = BLOCK.fullmatch(layer)
    if block is not None:
        number = int(block[1])
        group = "blocks/transformer_block" + (f"_{number - 1}" if number > 1 else "")
        layer = (
            f"{group}/{GROUPS.get(block[2], block[2]) if '/' in block[2] else block[2]}"
        )
    elif layer == "norm" and f"{prefix}pre_norm/gamma" not in manifest:
        layer = "layers/layer_normalization"  # the only one
    else:
        layer = GROUPS.get(layer, layer)
    return f"{layer}/vars/{PARAMETERS[parameter]}"


def _snake_case(name: str) -> str:
    """PEVisionEncoder to pe_vision_encoder, as Keras names groups after classes."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower()
