"""Opens a checkpoint file of any format that keras_pe reads, as data."""

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from keras_pe.presets.report import CheckpointError
from keras_pe.presets.tensor_reader import (
    MAX_HEADER_BYTES,
    TORCH_SUFFIXES,
    OpenFile,
    Place,
    Reader,
    check_count,
)
from keras_pe.presets.torch_file import TorchFile


def open_checkpoint(path: str | os.PathLike[str]) -> Reader:
    """Opens a `.safetensors` or `.pt` file; checks all of its structure.

    Args:
        path: the file.

    Returns:
        A reader that holds names and shapes but no tensor. What training tools put
        around the names is taken off: see its `wrappers`.

    Raises:
        CheckpointError: if the file is missing, damaged or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(
            f"No checkpoint at {path}. Give the path of a .safetensors or .pt file."
        )
    suffix = path.suffix.lower()
    file: OpenFile
    if suffix == ".safetensors":
        file = SafetensorsFile(path)
    elif suffix in TORCH_SUFFIXES:
        file = TorchFile(path)
    else:
        raise CheckpointError(
            f"{path.name} is neither a .safetensors nor a .pt file. keras_pe reads "
            f"upstream, timm and open_clip checkpoints in these two formats, and its "
            f"own presets through from_preset."
        )
    names, prefixes = take_off(file.places)
    file.set_places({ours: file.places[theirs] for ours, theirs in names.items()})
    file.wrappers = (*file.wrappers, *prefixes)
    return file


# === Safetensors files: a JSON header, then the tensors one behind the other ===
class SafetensorsFile(OpenFile):
    """An open safetensors file. The library validates the header."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            header, start = self._header()
        except (ValueError, OSError, RecursionError, MemoryError) as error:
            raise CheckpointError(
                f"{path.name} is no sound safetensors file ({str(error)[:200]}). It "
                f"may be cut short or damaged: fetch it again."
            ) from error
        header.pop("__metadata__", None)
        check_count(path, len(header))
        self.set_places(
            {
                name: Place(
                    start + entry["data_offsets"][0],
                    tuple(entry["shape"]),
                    entry["dtype"],
                )
                for name, entry in header.items()
            }
        )

    def _header(self) -> tuple[dict[str, Any], int]:
        from safetensors import SafetensorError, safe_open

        size = int.from_bytes(self.file.read(8), "little")
        if size > MAX_HEADER_BYTES:
            raise ValueError(
                f"a header of {size:,} bytes, expected at most {MAX_HEADER_BYTES:,}"
            )
        raw = self.file.read(size)
        try:
            with safe_open(self.path, framework="np"):
                pass  # opening checks header, offsets and file size
        except SafetensorError as error:
            raise ValueError(str(error)) from error
        # The library goes by the path, which may by now lead to another file.
        self.check_unchanged()
        header = json.loads(raw, object_pairs_hook=_no_duplicates)
        if not isinstance(header, dict):
            raise ValueError("a header that is no JSON object")
        return header, 8 + size


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


# === What training tools put around the names of weights ===
# torch.compile, FSDP and activation checkpointing wrap any module of a model.
ANYWHERE = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
# DataParallel, Lightning and the like wrap the whole of it.
IN_FRONT = ("module.", "model.", "backbone.", "encoder.", "network.", "net.")


def take_off(names: Collection[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Returns the names without wrappers.

    A prefix in front comes off only if all names have it.

    Args:
        names: the names in a file.

    Returns:
        Names in the file by the names without wrappers, and the wrappers.

    Raises:
        CheckpointError: if two names become one.

    Example:
        >>> take_off(["module._orig_mod.proj", "module.norm.weight"])
        ({'proj': 'module._orig_mod.proj', 'norm.weight': 'module.norm.weight'}, \
('_orig_mod.', 'module.'))
    """
    bare = {name: name for name in names}  # name in the file to name without
    found: list[str] = []
    for wrapper in ANYWHERE:
        if any(f".{wrapper}" in f".{name}" for name in names):
            found.append(wrapper)
            bare = {
                theirs: f".{ours}".replace(f".{wrapper}", ".")[1:]
                for theirs, ours in bare.items()
            }
    peeled = True
    while peeled and bare:
        peeled = False
        for prefix in IN_FRONT:
            if all(ours.startswith(prefix) for ours in bare.values()):
                found.append(prefix)
                bare = {k: ours.removeprefix(prefix) for k, ours in bare.items()}
                peeled = True
    names_in_file: dict[str, str] = {}
    for theirs, ours in bare.items():
        if ours in names_in_file:
            raise CheckpointError(
                f"{theirs} and {names_in_file[ours]} are one name without "
                f"{', '.join(found)}: the file holds two models. Save one of them."
            )
        names_in_file[ours] = theirs
    return names_in_file, tuple(found)
