"""The towers of a preset or checkpoint as constructor arguments, without weights."""

import dataclasses
from pathlib import Path
from typing import Any

from keras_pe.presets.checksums import read_metadata, read_verified
from keras_pe.presets.hub import CONFIG, resolve
from keras_pe.presets.inspect import inspect_checkpoint
from keras_pe.presets.serialized import check
from keras_pe.training.resolution import ResolutionStage
from keras_pe.training.run.config import RunConfig
from keras_pe.training.run.settings import tower_arguments


def with_architecture(config: RunConfig, source: str) -> RunConfig:
    """Returns a configuration whose towers are those of some weights.

    The last stage of resolution gets the weights' picture size, those before it the
    same share of it as they had, in whole patches.

    Args:
        config: the run.
        source: a preset's name, directory or handle, or a checkpoint of upstream, timm
            or open_clip.

    Returns:
        The configuration with other `vision`, `text` and picture sizes.

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


def _of_preset(directory: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads the configuration of a preset in our own format."""
    config = read_verified(directory, CONFIG, read_metadata(directory))
    check(config, f"{directory / CONFIG}", ("PECore",))
    found = {}
    for tower in ("vision", "text"):
        arguments = config["config"][f"{tower}_encoder"]["config"]
        known = tower_arguments(tower)
        found[tower] = {name: arguments[name] for name in known if name in arguments}
    return found["vision"], found["text"]


def _of_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    info = inspect_checkpoint(path)
    if info.unknown_heads:
        raise ValueError(
            f"{path} has sizes that no published model has, and weights don't tell "
            "the number of attention heads. Take a configuration of that size "
            "(--config), with --set vision.num_heads=... and text.num_heads=..."
        )
    return info.vision_config, info.text_config
