"""Names and shapes of all weights of a model, from its configuration alone.

The names are ours: the path of each Keras variable without the name of its model.
Nothing here allocates a weight, so a 2.4-billion-parameter architecture is listed in
milliseconds. A live model tells its parts by `towers()`: itself under "", or its
"vision" and its "text" tower.
"""

from collections.abc import Mapping
from typing import Any

import keras

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
