"""Names and shapes of all weights of a model, from its configuration alone.

The names are ours: the path of each Keras variable without the name of its model.
Nothing here allocates a weight, so a 2.4-billion-parameter architecture is listed in
milliseconds. A live model tells its parts by `towers()`: itself under "", or its
"vision" and its "text" tower.
"""

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from keras_pe.arrays import check_sizes
from keras_pe.presets.serialized import DUAL, TEXT, VISION, class_named

Shape = tuple[int, ...]
Manifest = dict[str, Shape]


def block_manifest(config: Mapping[str, Any]) -> Manifest:
    """Returns the weights of the stack of blocks of a tower."""
    hidden, inner = config["hidden_dim"], config["intermediate_dim"]
    block: Manifest = {
        "attention_norm/gamma": (hidden,),
        "attention_norm/beta": (hidden,),
        "attention/qkv/kernel": (hidden, 3 * hidden),
        "attention/qkv/bias": (3 * hidden,),
        "attention/output/kernel": (hidden, hidden),
        "attention/output/bias": (hidden,),
        "feed_forward_norm/gamma": (hidden,),
        "feed_forward_norm/beta": (hidden,),
        "feed_forward/expand/kernel": (hidden, inner),
        "feed_forward/expand/bias": (inner,),
        "feed_forward/contract/kernel": (inner, hidden),
        "feed_forward/contract/bias": (hidden,),
    }
    if config.get("layer_scale") is not None:
        block["attention_scale/scale"] = (hidden,)
        block["feed_forward_scale/scale"] = (hidden,)
    return {
        f"block_{number}/{name}": shape
        for number in range(1, config["num_layers"] + 1)
        for name, shape in block.items()
    }


def vision_manifest(config: Mapping[str, Any]) -> Manifest:
    """Returns the weights of a `PEVisionEncoder`.

    Args:
        config: the constructor's arguments, all of them (`get_config()`).

    Returns:
        Shape by name.
    """
    hidden, patch = config["hidden_dim"], config["patch_size"]
    side = config["image_size"] // patch
    tokens = side * side + int(config["class_token"])
    manifest: Manifest = {"patch_embedding/projection/kernel": (3 * patch**2, hidden)}
    if config["class_token"]:
        manifest["patch_embedding/class_embedding"] = (hidden,)
    manifest["patch_embedding/position_embedding"] = (tokens, hidden)
    manifest["pre_norm/gamma"] = manifest["pre_norm/beta"] = (hidden,)
    manifest.update(block_manifest(config))
    if config["final_norm"]:
        manifest["norm/gamma"] = manifest["norm/beta"] = (hidden,)
    if config["pooling"] == "attention":
        inner = 4 * hidden
        pool: Manifest = {
            "probe": (hidden,),
            "query/kernel": (hidden, hidden),
            "query/bias": (hidden,),
            "key_value/kernel": (hidden, 2 * hidden),
            "key_value/bias": (2 * hidden,),
            "output/kernel": (hidden, hidden),
            "output/bias": (hidden,),
            "norm/gamma": (hidden,),
            "norm/beta": (hidden,),
            "feed_forward/expand/kernel": (hidden, inner),
            "feed_forward/expand/bias": (inner,),
            "feed_forward/contract/kernel": (inner, hidden),
            "feed_forward/contract/bias": (hidden,),
        }
        manifest.update({f"attention_pooling/{k}": v for k, v in pool.items()})
    if config["output_dim"] is not None:
        manifest["projection/kernel"] = (hidden, config["output_dim"])
        if config.get("output_bias"):
            manifest["projection/bias"] = (config["output_dim"],)
    return manifest


def text_manifest(config: Mapping[str, Any]) -> Manifest:
    """Returns the weights of a `PETextEncoder`, shape by name."""
    hidden = config["hidden_dim"]
    return {
        "token_embedding/embeddings": (config["vocabulary_size"], hidden),
        "position_embedding": (config["context_length"], hidden),
        **block_manifest(config),
        "norm/gamma": (hidden,),
        "norm/beta": (hidden,),
        "projection/kernel": (hidden, config["output_dim"]),
    }


def core_manifest(vision: Mapping[str, Any], text: Mapping[str, Any]) -> Manifest:
    """Returns the weights of a `PECore`: towers under `vision/` and `text/`."""
    return {
        **{f"vision/{name}": shape for name, shape in vision_manifest(vision).items()},
        **{f"text/{name}": shape for name, shape in text_manifest(text).items()},
        "logit_scale": (),
    }


def model_manifest(model: keras.Model) -> Manifest:
    """Returns the weights that a model of this architecture has when it is made."""
    configs = {part: tower.get_config() for part, tower in model.towers().items()}
    if "" not in configs:
        return core_manifest(configs["vision"], configs["text"])
    config = configs[""]
    return (text_manifest if "vocabulary_size" in config else vision_manifest)(config)


def model_variables(model: keras.Model) -> dict[str, Any]:
    """Returns the weights of a live model under the names of its manifest.

    Args:
        model: a `PECore`, a vision or a text encoder.

    Returns:
        Keras variable by name. Seeds of stochastic depth are not weights.
    """
    variables: dict[str, Any] = {}
    towers = model.towers()
    for part, tower in towers.items():
        inside, before = f"{tower.name}/", f"{part}/" if part else ""
        for variable in tower.weights:
            path = variable.path
            name = path[path.index(inside) + len(inside) :]
            variables[before + name] = variable
    if "" not in towers:
        variables["logit_scale"] = model.logit_scale
    return variables


# === Where Keras puts each weight in the HDF5 file of a preset ===
# Keras names groups after the attributes that it finds first, in alphabetical order,
# then after the class of each remaining layer. What follows from that for our models
# stands here, so that a file is compared with a configuration before a model is built.
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
        return vision_manifest({**_defaults(VISION), **inner})
    return core_manifest(
        {**_defaults(VISION), **towers[0]},
        {**_defaults(TEXT), **towers[1]},
    )


def _defaults(name: str) -> dict[str, Any]:
    """Returns the constructor's default arguments of a tower, by its class' name."""
    parameters = inspect.signature(class_named(name).__init__).parameters.values()
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
