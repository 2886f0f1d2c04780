"""Weights of a preset directory: HDF5 files, verified as a whole before any is read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from keras_pe.presets.checksums import read_verified, verify_file
from keras_pe.presets.h5_file import H5File
from keras_pe.presets.hub import CONFIG, weight_files
from keras_pe.presets.manifest import (
    Manifest,
    h5_names,
    preset_manifest,
)
from keras_pe.presets.report import CheckpointError
from keras_pe.presets.tensor_reader import SAFETENSORS_DTYPES, TensorInfo

SINGLE_FILE = "model.weights.h5"
SHARD_MAP = "model.weights.json"
MAX_SHARDS = 1000


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
        for name in weight_files(directory):
            verify_file(directory, name, metadata)
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
