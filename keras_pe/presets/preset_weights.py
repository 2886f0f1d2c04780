"""Weights of a preset directory: HDF5 files as Keras writes them, verified as a whole.

HDF5 can do more than hold plain numbers: lead to other files, map datasets onto others,
unpack. Here names, shapes and places are read, everything else is refused, and the
numbers are then read from where they lie.

One other way of storing them is taken: the bytes of a dataset by plane, first the
lowest byte of all its numbers, then the next (HDF5's byte shuffle, in one chunk that
holds the whole dataset). They are as many, and zip packs them tighter: so the presets
in the package are stored.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from keras_pe.presets.checksums import read_verified, verify_file
from keras_pe.presets.hub import CONFIG, weight_files
from keras_pe.presets.manifest import (
    Manifest,
    h5_names,
    preset_manifest,
)
from keras_pe.presets.report import CheckpointError
from keras_pe.presets.tensor_reader import (
    MAX_TENSORS,
    SAFETENSORS_DTYPES,
    OpenFile,
    Place,
    TensorInfo,
    check_count,
)

MAX_DEPTH = 16  # groups inside groups; Keras' files have seven
DTYPES = {"<f8": "F64", "<f4": "F32", "<f2": "F16"}


class H5File(OpenFile):
    """An open HDF5 file with weights, by the names that Keras gave them."""

    def __init__(self, path: Path) -> None:
        import h5py

        super().__init__(path)
        try:
            with h5py.File(path, "r", locking=False) as file:
                places = dict(self._places(file, "", 0))
        except CheckpointError:
            raise
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise CheckpointError(
                f"{path.name} is no sound HDF5 file ({str(error)[:200]}). It may be "
                f"cut short or damaged: fetch it again, or save the preset again."
            ) from error
        self.check_unchanged()
        check_count(path, len(places))
        self.set_places(places)

    def _places(
        self, group: Any, prefix: str, depth: int
    ) -> Iterator[tuple[str, Place]]:
        """Yields the datasets of a group and of the groups in it."""
        import h5py

        if depth > MAX_DEPTH or len(group) > MAX_TENSORS:
            raise ValueError(
                f"{prefix or '/'} is nested deeper or wider than any model"
            )
        for key in group:
            name = f"{prefix}{key}"
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise CheckpointError(
                    f"{name} of {self.path.name} is a link to another place or file, "
                    f"expected numbers. Nothing was read. Save the preset again."
                )
            item = group[key]
            if isinstance(item, h5py.Group):
                yield from self._places(item, f"{name}/", depth + 1)
            elif isinstance(item, h5py.Dataset):
                yield name, self._place(name, item)
            else:
                raise ValueError(f"{name} is neither a group nor a dataset")

    def _place(self, name: str, dataset: Any) -> Place:
        problem = None
        if dataset.external or dataset.is_virtual:
            problem = "lies in another file"
        elif dataset.shape is None:
            problem = "is empty"
        kind = dataset.dtype.str
        # Keras writes bfloat16, which HDF5 does not know, as two bytes and a note.
        if kind == "|V2" and dataset.attrs.get("dtype") == "bfloat16":
            dtype = "BF16"
        else:
            dtype = DTYPES.get(kind, kind)
        start: Any = None
        plane = None
        if problem is None and dataset.chunks is not None:
            start = _start_of_planes(dataset)
            plane = dataset.size
            if start is None or dtype not in DTYPES.values():
                problem = "is stored in pieces or compressed"
        elif problem is None:
            start = dataset.id.get_offset()
            if start is None:
                problem = "has no place in the file"
        if problem is not None:
            raise CheckpointError(
                f"{name} of {self.path.name} {problem}, expected plain numbers as "
                f"save_to_preset writes them. Save the preset again."
            )
        if start + dataset.nbytes > self.size:
            raise ValueError(f"{name} ends behind the end of the file")
        shape = tuple(int(n) for n in dataset.shape)
        return Place(start, shape, dtype, plane=plane)


def _start_of_planes(dataset: Any) -> int | None:
    """Returns where a dataset lies whose bytes are stored by plane.

    Returns None for any that is stored in another way: in more or other pieces than
    one of its own shape, or by any filter but the byte shuffle.
    """
    import h5py

    if dataset.chunks != dataset.shape or dataset.maxshape != dataset.shape:
        return None
    plan = dataset.id.get_create_plist()
    if plan.get_nfilters() != 1:
        return None
    code, _, values, _ = plan.get_filter(0)
    item_size = dataset.dtype.itemsize
    if code != h5py.h5z.FILTER_SHUFFLE or tuple(values) != (item_size,):
        return None
    # In front of a user block places are counted from another byte.
    if dataset.file.userblock_size or dataset.id.get_num_chunks() != 1:
        return None
    chunk = dataset.id.get_chunk_info(0)
    whole = (
        not any(chunk.chunk_offset)
        and chunk.filter_mask == 0  # else the filter was passed over
        and chunk.size == dataset.nbytes
    )
    return int(chunk.byte_offset) if whole and chunk.byte_offset is not None else None


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
