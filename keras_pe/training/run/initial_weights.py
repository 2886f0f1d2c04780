"""Where a run's weights come from: a file, a published checkpoint, or a preset.

And its architecture, which may be theirs.
"""

import dataclasses
import re
from pathlib import Path
from typing import Any, TypeVar

import keras
from keras import ops

from keras_pe.models.core import PECore
from keras_pe.presets import load_weights
from keras_pe.presets.checksums import read_metadata, read_verified
from keras_pe.presets.hub import CONFIG, resolve
from keras_pe.presets.inspect import inspect_checkpoint
from keras_pe.presets.serialized import DUAL, MODELS, check
from keras_pe.training.resolution import ResolutionStage
from keras_pe.training.run.config import RunConfig
from keras_pe.training.run.overrides import tower_arguments

Config = TypeVar("Config", bound=RunConfig)
BLOCK = re.compile(r"(?P<tower>.*)/block_(?P<number>\d+)/")


def load_initial_weights(model: PECore, source: str) -> None:
    """Loads a model's first weights.

    Args:
        model: a built model; its architecture must be that of the weights. It may
            read longer texts than a preset did: further positions stay as they are.
        source: a `.weights.h5` file of Keras, a checkpoint of upstream, timm or
            open_clip, or a preset: name, directory, `hf://` or `kaggle://` handle.

    Raises:
        ValueError: if a preset has another architecture; the first tensor that differs
            is named, and nothing is changed.

    Example:
        >>> load_initial_weights(model, "pe_core_base_patch16_224")   # doctest: +SKIP
    """
    if source.endswith(".weights.h5"):
        model.load_weights(source)
    elif Path(source).is_file():
        load_weights(model, source, resample_positions=True)
    else:
        copy_weights(PECore.from_preset(source), model, source)


def copy_weights(given: PECore, model: PECore, name: str) -> None:
    """Copies all weights of one model into another of the same architecture."""
    pairs = list(zip(given.variables, model.variables, strict=False))
    for theirs, ours in pairs:
        if tuple(theirs.shape) != tuple(ours.shape) and not is_longer(theirs, ours):
            raise ValueError(
                f"{name} does not fit the configuration: {ours.path} has shape "
                f"{tuple(ours.shape)}, the preset's has {tuple(theirs.shape)}. Choose "
                f"the configuration of the preset's architecture."
            )
    if len(given.variables) != len(model.variables):
        raise ValueError(
            f"{name} does not fit the configuration: {len(given.variables)} tensors "
            f"instead of {len(model.variables)}. Choose the configuration of the "
            f"preset's architecture."
        )
    for theirs, ours in pairs:
        value = copy_of(theirs, ours)
        if is_longer(theirs, ours):
            value = ops.concatenate([value, ours.value[theirs.shape[0] :]])
        ours.assign(value)


def copy_of(theirs: keras.Variable, ours: keras.Variable) -> Any:
    """Returns a value in memory of its own, of our dtype.

    JAX arrays are shared by assignment, and a training step that gives away the memory
    of both teacher and student then fails.
    """
    return ops.copy(ops.cast(theirs.value, ours.dtype))


def is_longer(theirs: keras.Variable, ours: keras.Variable) -> bool:
    """Returns whether these are text positions, of a longer context than theirs."""
    return (
        ours.path.endswith("text_encoder/position_embedding")
        and tuple(theirs.shape[1:]) == tuple(ours.shape[1:])
        and theirs.shape[0] < ours.shape[0]
    )


# === A student made of its teacher's blocks ===


def copy_spaced_blocks(given: PECore, model: PECore) -> None:
    """Copies weights into a model that has fewer blocks and is else the same.

    Blocks are taken at even distances, the last one always: of six to three, the
    second, fourth and sixth.

    Args:
        given: the deeper model.
        model: a built model; changed.

    Raises:
        ValueError: if a tensor has another shape, or blocks are missing; nothing is
            changed.

    Source: Sanh et al. 2019, "DistilBERT".

    Example:
        >>> from keras_pe import PETextEncoder, PEVisionEncoder
        >>> def small(num_layers):
        ...     return PECore(
        ...         PEVisionEncoder(image_size=16, patch_size=8, hidden_dim=16,
        ...             num_layers=num_layers, num_heads=2, intermediate_dim=32,
        ...             output_dim=8, pooling_heads=2),
        ...         PETextEncoder(vocabulary_size=60, context_length=4, hidden_dim=16,
        ...             num_layers=1, num_heads=2, intermediate_dim=32, output_dim=8))
        >>> teacher, student = small(4), small(2)
        >>> copy_spaced_blocks(teacher, student)    # the second and the fourth
    """
    theirs = {variable.path: variable for variable in given.variables}
    depths = (block_counts(given), block_counts(model))
    pairs = []
    for ours in model.variables:
        path = spaced_path(ours.path, *depths)
        if path not in theirs or theirs[path].shape != ours.shape:
            found = theirs[path].shape if path in theirs else "missing"
            raise ValueError(
                f"A student takes blocks of a teacher that is as wide: {ours.path} has "
                f"shape {tuple(ours.shape)}, the teacher's {path} is {found}. Give it "
                f"the teacher's sizes, or start it from scratch."
            )
        pairs.append((theirs[path], ours))
    for variable, ours in pairs:
        ours.assign(copy_of(variable, ours))


def block_counts(model: PECore) -> dict[str, int]:
    """Returns the number of blocks of each tower, by its name, which starts a path."""
    towers = (model.vision_encoder, model.text_encoder)
    return {tower.name: tower.num_layers for tower in towers}


def spaced_path(path: str, given: dict[str, int], ours: dict[str, int]) -> str:
    """Returns which of the deeper model's tensors one of ours comes from."""
    match = BLOCK.match(path)
    if match is None or match["tower"] not in given:
        return path
    tower, number = match["tower"], int(match["number"])
    source = round(number * given[tower] / ours[tower])
    return f"{tower}/block_{source}/{path[match.end() :]}"


# === An architecture, without weights ===
def with_architecture(config: Config, source: str) -> Config:
    """Returns a configuration whose towers are those of some weights.

    The last stage of resolution gets the weights' image size, those before it the
    same share of it as they had, in whole patches.

    Args:
        config: the run.
        source: a preset's name, directory or handle, or a checkpoint of upstream, timm
            or open_clip.

    Returns:
        The configuration with other `vision`, `text` and image sizes.

    Raises:
        ValueError: if the weights are no dual encoder, or do not tell their sizes.

    Example:
        >>> config = RunConfig(vision={}, text={}, stages=(ResolutionStage(224, 10),))
        >>> tuned = with_architecture(config, "pe_core_emoji_small_patch8_64")
        >>> tuned.vision["num_layers"], tuned.stages[0].image_size
        (3, 64)
    """
    vision, text = towers_of(source)
    patch, size = vision["patch_size"], vision["image_size"]
    last = config.stages[-1].image_size
    stages = tuple(
        ResolutionStage(
            max(round(stage.image_size / last * size / patch), 1) * patch, stage.samples
        )
        for stage in config.stages
    )
    return dataclasses.replace(config, vision=vision, text=text, stages=stages)


def towers_of(source: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the constructor arguments of both towers; downloads no known weights.

    Args:
        source: as of `with_architecture`.

    Raises:
        ValueError: as of `with_architecture`.

    Example:
        >>> towers_of("PE-Core-S16-384")[0]["hidden_dim"]
        384
    """
    if source.endswith(".weights.h5"):
        raise ValueError(
            f"{source} holds weights alone, which don't say what they are of. Give the "
            "preset that the run wrote beside it, or a configuration of that size "
            "(--config)."
        )
    location = resolve(source, need="config")
    if location.directory is not None:
        return _of_preset(location.directory)
    if location.preset is not None:
        towers = location.preset.vision_config(), location.preset.text_config()
    else:
        assert location.checkpoint is not None
        towers = _of_checkpoint(location.checkpoint)
    if towers[1] is None:
        raise ValueError(f"{source} has no text tower: expected a dual encoder.")
    return towers[0], towers[1]


def vision_of(source: str) -> dict[str, Any]:
    """Returns a vision encoder's constructor arguments; downloads no known weights.

    Args:
        source: preset of a vision encoder or of a dual encoder: name, directory or
            handle, or a checkpoint of upstream, timm or open_clip.

    Raises:
        ValueError: if there is no such preset, or it does not tell its sizes.

    Example:
        >>> vision_of("PE-Spatial-G14-448")["num_layers"]
        50
    """
    location = resolve(source, need="config")
    if location.preset is not None:
        arguments = location.preset.vision_config()
    elif location.directory is not None:
        directory = location.directory
        config = read_verified(directory, CONFIG, read_metadata(directory))
        found = check(config, f"{directory / CONFIG}", MODELS)
        arguments = config["config"]
        if found == DUAL:
            arguments = arguments["vision_encoder"]["config"]
    else:
        assert location.checkpoint is not None
        arguments = _of_checkpoint(location.checkpoint)[0]
    return {n: arguments[n] for n in tower_arguments("vision") if n in arguments}


def _of_preset(directory: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads the configuration of a preset in our own format."""
    config = read_verified(directory, CONFIG, read_metadata(directory))
    check(config, f"{directory / CONFIG}", ("PECore",))
    towers = {}
    for tower in ("vision", "text"):
        arguments = config["config"][f"{tower}_encoder"]["config"]
        known = tower_arguments(tower)
        towers[tower] = {name: arguments[name] for name in known if name in arguments}
    return towers["vision"], towers["text"]


def _of_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    info = inspect_checkpoint(path)
    if info.unknown_heads:
        raise ValueError(
            f"{path} has sizes that no published model has, and weights don't tell "
            "the number of attention heads. Take a configuration of that size "
            "(--config), with --set vision.num_heads=... and text.num_heads=..."
        )
    return info.vision_config, info.text_config
