"""Weights of a preset directory: verified as a whole, then assigned."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np

from keras_pe.presets.assign import fill
from keras_pe.presets.checksums import read_metadata, read_verified, verify_file
from keras_pe.presets.classes import MODELS, PREFIX
from keras_pe.presets.formats.rules import rule
from keras_pe.presets.h5_file import H5File
from keras_pe.presets.h5_names import defaults, h5_names, preset_manifest
from keras_pe.presets.hub import CONFIG, weight_files
from keras_pe.presets.manifest import Manifest, model_variables
from keras_pe.presets.reader import SAFETENSORS_DTYPES, TensorInfo
from keras_pe.presets.report import CheckpointError, LoadReport
from keras_pe.presets.serialized import check

SINGLE_FILE = "model.weights.h5"
SHARD_MAP = "model.weights.json"
MAX_SHARDS = 1000
# What a model may have otherwise than the preset: it changes no weight.
NO_WEIGHTS = ("name", "dtype", "remat", "drop_path")


class PresetWeights:
    """The open weight files of a preset, whose checksums and names have been compared.

    A `Reader` whose tensors have our names.

    Args:
        directory: a preset directory.
        metadata: what `read_metadata` returned.
        config: its checked configuration.

    Raises:
        CheckpointError: if a file is damaged, or does not hold the weights of the
            configuration.
    """

    wrappers: tuple[str, ...] = ()

    def __init__(
        self, directory: Path, metadata: Mapping[str, Any], config: Mapping[str, Any]
    ) -> None:
        self.path = directory
        verify_weights(directory, metadata)
        self._files = [
            H5File(directory / name) for name in _h5_files(directory, metadata)
        ]
        try:
            self._places = _merged(self._files)
            manifest, names = self._expected(config)
            self._compare(manifest, names)
        except BaseException:
            self.close()
            raise
        self._names = names
        self.tensors: dict[str, TensorInfo] = {
            name: self._places[names[name]].tensors[names[name]] for name in manifest
        }

    def _expected(self, config: Mapping[str, Any]) -> tuple[Manifest, dict[str, str]]:
        try:
            manifest = preset_manifest(config, len(self._places))
            return manifest, h5_names(config, manifest)
        except (
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            OverflowError,
        ) as error:
            reason = str(error).rstrip(".")
            raise CheckpointError(
                f"{self.path / CONFIG} describes no model ({reason}). Nothing was "
                f"built. It may come from a newer keras_pe: update it, or save the "
                f"preset again."
            ) from error

    def _compare(self, manifest: Manifest, names: Mapping[str, str]) -> None:
        problems = []
        for name, shape in manifest.items():
            file = self._places.get(names[name])
            if file is None:
                problems.append(f"{names[name]} is missing")
                continue
            found = file.tensors[names[name]]
            if found.shape != shape:
                problems.append(f"{names[name]} is {found.shape}, expected {shape}")
            elif found.dtype not in SAFETENSORS_DTYPES:
                problems.append(f"{names[name]} is {found.dtype}, no floating point")
        wanted = set(names.values())
        # Some versions of Keras store the seeds of stochastic depth among the weights.
        others = [n for n in self._places if n not in wanted and "seed" not in n]
        problems += [f"{name} belongs to no weight" for name in others]
        if problems:
            more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
            raise CheckpointError(
                f"{self.path} does not hold the weights of {CONFIG} in it "
                f"({'; '.join(problems[:5])}{more}). Nothing was built. Save the "
                f"preset again."
            )

    def read(self, name: str, rows: slice | None = None) -> np.ndarray:
        """Returns one tensor, or some of its rows, read from the file now."""
        inside = self._names[name]
        return self._places[inside].read(inside, rows)

    def check_unchanged(self) -> None:
        """Raises CheckpointError if a file is no longer the one that was opened."""
        for file in self._files:
            file.check_unchanged()

    def close(self) -> None:
        """Closes the files."""
        for file in self._files:
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()


def load_preset_weights(
    model: keras.Model, directory: str | os.PathLike[str]
) -> LoadReport:
    """Loads the weights of a preset into a model that exists.

    Checksums, architecture, every shape and every value are compared before the first
    weight is assigned, so an error leaves the model as it was.

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
    check(config, str(directory / CONFIG), MODELS)
    _check_architecture(model, config, directory)
    with PresetWeights(directory, metadata, config) as weights:
        assign_weights(model, weights)
        names = tuple(weights.tensors)
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


def assign_weights(
    model: keras.Model, weights: PresetWeights, fresh: bool = False
) -> None:
    """Assigns the weights of an open preset to a model of its architecture.

    Args:
        model: the model.
        weights: the open preset.
        fresh: whether the model is thrown away if this fails.
    """
    rules = [rule(name, info.shape, name) for name, info in weights.tensors.items()]
    fill(weights, rules, model_variables(model), fresh=fresh)


def _h5_files(directory: Path, metadata: Mapping[str, Any]) -> Sequence[str]:
    """Returns the names of the HDF5 files; refuses a shard map that leads elsewhere."""
    if SHARD_MAP not in metadata["files"]:
        return [SINGLE_FILE]
    shards = read_verified(directory, SHARD_MAP, metadata).get("weight_map")
    found: set[Any] = set()
    for names in shards.values() if isinstance(shards, dict) else ():
        for name in names if isinstance(names, list) else [names]:
            found.add(name if isinstance(name, str) else repr(name)[:40])
    unknown = sorted(found - {n for n in metadata["files"] if n.endswith(".h5")})
    if unknown or not found or len(found) > MAX_SHARDS:
        raise CheckpointError(
            f"{SHARD_MAP} of {directory} names "
            f"{', '.join(unknown[:5]) or f'{len(found)} files'}, expected weight files "
            f"(*.h5) that metadata.json lists. Save the preset again."
        )
    return sorted(found)


def _merged(files: Sequence[H5File]) -> dict[str, H5File]:
    """Returns the file of each tensor; refuses a tensor that is in two."""
    merged: dict[str, H5File] = {}
    for file in files:
        for name in file.tensors:
            if name in merged:
                raise CheckpointError(
                    f"{name} is in {merged[name].path.name} and {file.path.name}, "
                    f"expected in one file. Save the preset again."
                )
            merged[name] = file
    return merged


def _check_architecture(
    model: keras.Model, config: Mapping[str, Any], directory: Path
) -> None:
    name = config["registered_name"].removeprefix(PREFIX)
    theirs = dict(_architecture(name, config["config"]))
    ours = dict(_architecture(type(model).__name__, _config(model)))
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


def _architecture(name: str, config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yields the constructor's arguments that make a model what it is."""
    towers = [key for key in ("vision_encoder", "text_encoder") if key in config]
    for tower in towers:
        inner = config[tower]
        for key, value in _architecture(inner["class_name"], inner["config"]):
            yield f"{tower}.{key}", value
    if towers:
        return
    for key, default in defaults(name).items():
        value = config.get(key, default)
        if key == "layer_scale":
            yield key, "absent" if value is None else "present"
        elif key not in NO_WEIGHTS:
            yield key, list(value) if isinstance(value, tuple) else value


def _check_plain(model: keras.Model) -> None:
    for layer in model._flatten_layers():
        if getattr(layer, "lora_enabled", False) or getattr(
            layer, "quantization_mode", None
        ):
            raise CheckpointError(
                f"{layer.path} has LoRA updates or is quantised, so the weights of a "
                f"preset do not fit it. Load first, then call enable_lora or quantize."
            )


def _config(model: keras.Model) -> dict[str, Any]:
    config = model.get_config()
    if not isinstance(config, dict):
        raise CheckpointError(f"{type(model).__name__} has no configuration.")
    return config
