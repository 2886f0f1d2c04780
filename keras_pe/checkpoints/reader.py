"""Opens checkpoint files as data: names and shapes first, then tensor by tensor."""

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import ml_dtypes
import numpy as np

from keras_pe.checkpoints.memory import aligned_empty
from keras_pe.checkpoints.report import CheckpointError

SAFETENSORS_DTYPES: Mapping[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
}


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """Shape and dtype of a tensor in a file."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def item_size(self) -> int:
        """Bytes of an element."""
        return np.dtype(SAFETENSORS_DTYPES[self.dtype]).itemsize


class Reader(Protocol):
    """An open checkpoint."""

    path: Path
    tensors: dict[str, TensorInfo]

    def read(self, name: str, rows: slice | None = None) -> np.ndarray:
        """Returns one tensor, or some of its rows, read from the file now."""


def open_checkpoint(path: str | os.PathLike[str]) -> Reader:
    """Opens a `.safetensors` or `.pt` file; checks all of its structure.

    Args:
        path: the file.

    Returns:
        A reader that holds names and shapes but no tensor.

    Raises:
        CheckpointError: if the file is missing, damaged or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(
            f"No checkpoint at {path}. Give the path of a .safetensors or .pt file."
        )
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        return SafetensorsReader(path)
    if suffix in (".pt", ".pth", ".bin"):
        return TorchReader(path)
    raise CheckpointError(
        f"{path.name} is neither a .safetensors nor a .pt file. keras_pe reads "
        f"upstream, timm and open_clip checkpoints in these two formats, and its own "
        f"presets through from_preset."
    )


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


class SafetensorsReader:
    """Reads tensors of a safetensors file one at a time.

    The library validates the header. The bytes are then read with plain reads: a
    memory map would count every page of the file towards the process's memory.
    """

    def __init__(self, path: Path) -> None:
        from safetensors import SafetensorError, safe_open

        self.path = path
        try:
            with safe_open(path, framework="np"):
                pass  # opening checks header, offsets and file size
            with path.open("rb") as file:
                header_size = int.from_bytes(file.read(8), "little")
                header = json.loads(
                    file.read(header_size), object_pairs_hook=_no_duplicates
                )
        except (SafetensorError, ValueError, OSError) as error:
            raise CheckpointError(
                f"{path.name} is no sound safetensors file ({error}). It may be cut "
                f"short or damaged: fetch it again."
            ) from error
        header.pop("__metadata__", None)
        self._start = 8 + header_size
        self._offsets: dict[str, int] = {}
        self.tensors: dict[str, TensorInfo] = {}
        for name, entry in header.items():
            self.tensors[name] = TensorInfo(tuple(entry["shape"]), entry["dtype"])
            self._offsets[name] = entry["data_offsets"][0]

    def read(self, name: str, rows: slice | None = None) -> np.ndarray:
        info = self.tensors[name]
        shape, start = info.shape, self._start + self._offsets[name]
        if rows is not None:
            shape = (rows.stop - rows.start, *shape[1:])
            start += rows.start * math.prod(shape[1:]) * info.item_size
        array = aligned_empty(shape, SAFETENSORS_DTYPES[info.dtype])
        with self.path.open("rb") as file:
            file.seek(start)
            read = file.readinto(array.reshape(-1).view(np.uint8).data)
        if read != array.nbytes:
            raise CheckpointError(
                f"{self.path.name} changed while it was read: {name} is cut short."
            )
        return array


class TorchReader:
    """Reads a PyTorch state dict with `weights_only=True`, or not at all."""

    def __init__(self, path: Path) -> None:
        try:
            import torch
        except ImportError as error:
            raise CheckpointError(
                f"Reading {path.name} needs PyTorch (pip install torch), because the "
                f".pt format is PyTorch's own. The same weights as .safetensors need "
                f"no PyTorch."
            ) from error

        self.path = path
        try:
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:  # the unpickler raises nearly anything
            reason = str(error).strip().split("\n")[0][:200]
            raise CheckpointError(
                f"{path.name} is no sound PyTorch weights file ({reason}). It may be "
                f"damaged, or hold code, which is never run: fetch it again or use "
                f"the .safetensors file."
            ) from error
        for wrapper in ("state_dict", "weights"):
            if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
                loaded = loaded[wrapper]
        if not isinstance(loaded, dict) or not loaded:
            raise CheckpointError(
                f"{path.name} holds a {type(loaded).__name__}, expected a state dict "
                f"(tensors by name)."
            )
        for name, value in loaded.items():
            if not isinstance(value, torch.Tensor):
                raise CheckpointError(
                    f"{path.name} holds a {type(value).__name__} under {name!r}, "
                    f"expected tensors only. Save the model's state_dict()."
                )
        if all(name.startswith("module.") for name in loaded):  # DataParallel
            loaded = {name[len("module.") :]: value for name, value in loaded.items()}
        self._values = loaded
        names = {
            torch.float64: "F64",
            torch.float32: "F32",
            torch.float16: "F16",
            torch.bfloat16: "BF16",
        }
        self.tensors = {
            name: TensorInfo(
                tuple(value.shape), names.get(value.dtype, str(value.dtype))
            )
            for name, value in loaded.items()
        }

    def read(self, name: str, rows: slice | None = None) -> np.ndarray:
        import torch

        value = self._values[name].detach()
        value = value if rows is None else value[rows]
        if value.dtype == torch.bfloat16:
            return value.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return value.numpy()
