"""Weights of a preset directory: verified as a whole, then assigned."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras

from keras_pe.checkpoints.checksums import read_metadata, read_verified, verify_file
from keras_pe.checkpoints.hub import CONFIG, weight_files
from keras_pe.checkpoints.manifest import model_variables
from keras_pe.checkpoints.report import CheckpointError, LoadReport
from keras_pe.checkpoints.serialized import MODELS, build, check

SINGLE_FILE = "model.weights.h5"
SHARD_MAP = "model.weights.json"
# What a model may have otherwise than the preset: it changes no weight.
NO_WEIGHTS = ("name", "dtype", "remat", "drop_path")


class _Rehearsal(keras.StatelessScope):
    """Inside it, loading reads and checks all weights and assigns none of them."""

    def add_update(self, update: Any) -> None:
        """Forgets a value, so that a rehearsal takes the memory of one weight."""


def load_preset_weights(
    model: keras.Model, directory: str | os.PathLike[str]
) -> LoadReport:
    """Loads the weights of a preset into a model that exists.

    Checksums, architecture and every shape are compared before the first weight is
    assigned, so an error leaves the model as it was.

    Args:
        model: a `PECore` or a vision encoder of the preset's architecture.
        directory: a preset directory, from `save_to_preset`.

    Returns:
        A `LoadReport`.

    Raises:
        CheckpointError: if a file is damaged, or the model differs (says in what).

    Example:
        >>> model.save_to_preset("cats")                   # doctest: +SKIP
        >>> print(load_preset_weights(model, "cats"))      # doctest: +SKIP
    """
    _check_plain(model)
    directory = Path(directory)
    metadata = read_metadata(directory)
    config = read_verified(directory, CONFIG, metadata)
    where = str(directory / CONFIG)
    check(config, where, MODELS)
    _check_architecture(model, config, directory)
    verify_weights(directory, metadata)
    if _seeds(config["config"]) == _seeds(_config(model)):
        with _Rehearsal(initialize_variables=False):
            assign_weights(model, directory, metadata)
        assign_weights(model, directory, metadata)
    else:
        # Only one of the two has the seeds of stochastic depth, which Keras stores
        # among the weights.
        twin = build(config, where)
        assign_weights(twin, directory, metadata)
        theirs = model_variables(twin)
        for name, variable in _weights(model):
            variable.assign(theirs[name])
    names = tuple(name for name, _ in _weights(model))
    return LoadReport(
        path=directory,
        family="keras_pe",
        num_tensors=len(names),
        loaded=names,
        dtypes=(str(metadata.get("dtype", "float32")),),
    )


def verify_weights(directory: Path, metadata: Mapping[str, Any]) -> None:
    """Compares the checksums of all weight files of a preset.

    Raises:
        CheckpointError: naming the file that is missing or damaged.
    """
    for name in weight_files(directory):
        verify_file(directory, name, metadata)
    if SHARD_MAP in metadata["files"]:
        _check_shards(directory, metadata)


def assign_weights(
    model: keras.Model, directory: Path, metadata: Mapping[str, Any]
) -> None:
    """Assigns the verified weights of a preset to a model of its architecture."""
    name = SHARD_MAP if SHARD_MAP in metadata["files"] else SINGLE_FILE
    try:
        model.load_weights(directory / name)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise CheckpointError(
            f"{directory / name} does not hold the weights of {CONFIG} beside it "
            f"({str(error)[:300]}). Save the preset again."
        ) from error


def _check_shards(directory: Path, metadata: Mapping[str, Any]) -> None:
    """Refuses a shard map that leads to a file without checksum."""
    shards = read_verified(directory, SHARD_MAP, metadata).get("weight_map")
    found: set[str] = set()
    for names in shards.values() if isinstance(shards, dict) else ():
        found.update(names if isinstance(names, list) else [names])
    unknown = sorted(found - set(metadata["files"]))
    if unknown or not found:
        raise CheckpointError(
            f"{SHARD_MAP} of {directory} names {', '.join(unknown) or 'no files'}, "
            f"expected weight files that metadata.json lists. Save the preset again."
        )


def _check_architecture(
    model: keras.Model, config: Mapping[str, Any], directory: Path
) -> None:
    theirs = dict(_architecture(config["config"]))
    ours = dict(_architecture(_config(model)))
    differences = [
        f"{key} is {ours.get(key, 'absent')} here and {theirs.get(key, 'absent')} there"
        for key in sorted({*theirs, *ours})
        if ours.get(key, "absent") != theirs.get(key, "absent")
    ]
    if differences:
        raise CheckpointError(
            f"The preset {directory} has another architecture than this "
            f"{type(model).__name__}: {'; '.join(differences)}. Nothing was loaded. "
            f"Build the model with from_preset."
        )


def _architecture(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if key in ("vision_encoder", "text_encoder"):
            for inner, found in _architecture(value["config"]):
                yield f"{key}.{inner}", found
        elif key == "layer_scale":
            yield key, "absent" if value is None else "present"
        elif key not in NO_WEIGHTS:
            yield key, value


def _check_plain(model: keras.Model) -> None:
    for layer in model._flatten_layers():
        if getattr(layer, "lora_enabled", False) or getattr(
            layer, "quantization_mode", None
        ):
            raise CheckpointError(
                f"{layer.path} has LoRA updates or is quantised, so the weights of a "
                f"preset do not fit it. Load first, then call enable_lora or quantize."
            )


def _seeds(config: Mapping[str, Any]) -> list[bool]:
    """Whether each tower draws random numbers."""
    towers = [
        config[k]["config"] for k in ("vision_encoder", "text_encoder") if k in config
    ]
    return [bool(tower.get("drop_path")) for tower in towers or [config]]


def _config(model: keras.Model) -> dict[str, Any]:
    config = model.get_config()
    if not isinstance(config, dict):
        raise CheckpointError(f"{type(model).__name__} has no configuration.")
    return config


def _weights(model: keras.Model) -> Iterator[tuple[str, Any]]:
    for name, variable in model_variables(model).items():
        if "seed_generator" not in name:
            yield name, variable
