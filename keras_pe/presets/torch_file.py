"""PyTorch files: a zip archive of a pickle, which says what is where, and raw bytes.

The pickle is read by PyTorch's restricted unpickler, the one behind
`torch.load(weights_only=True)`, which makes tensors and plain containers and calls
nothing else. Its tensors get storages without memory here. The bytes are read from the
archive with plain reads: what `torch.load(mmap=True)` gives is neither checked against
the checksums in the archive nor safe from a file that is cut meanwhile.
"""

import dataclasses
import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_pe.presets.report import CheckpointError
from keras_pe.presets.tensor_reader import (
    MAX_HEADER_BYTES,
    OpenFile,
    Place,
    check_count,
)

# The first bytes of what torch.save wrote before PyTorch 1.6: a pickled long integer.
LEGACY_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa85019")
LOCAL_HEADER = struct.Struct("<4s5H3I2H")
# What training tools call the weights in a training state, the trained ones first.
STATE_KEYS = (
    "state_dict",
    "model_state_dict",
    "model",
    "weights",
    "module",
    "network",
    "model_ema",
    "ema_state_dict",
    "ema_model",
    "ema",
)
MAX_MEMBERS = 4 * 20_000
PIECE = 2**20
DTYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}


@dataclasses.dataclass(frozen=True)
class _Member:
    start: int
    size: int


class TorchFile(OpenFile):
    """An open PyTorch file that holds a state dict, or a training state with one."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            self._read()
        except CheckpointError:
            raise
        except Exception as error:  # zip files and unpicklers raise nearly anything
            reason = str(error).strip().split("\n")[0][:200] or type(error).__name__
            raise CheckpointError(
                f"{path.name} is no sound PyTorch weights file ({reason}). It may be "
                f"damaged, or hold code, which is never run: fetch it again or use "
                f"the .safetensors file."
            ) from error

    def _read(self) -> None:
        _torch(self.path)
        start = self.file.read(len(LEGACY_MAGIC))
        if start == LEGACY_MAGIC:
            raise CheckpointError(
                f"{self.path.name} is in the legacy format of PyTorch before 1.6, "
                f"which has no checksums, so damage would go unseen. If you trust the "
                f"file, write it anew: torch.save(torch.load(path, "
                f"weights_only=True), new_path)."
            )
        members = self._members()
        order = members.get("byteorder")
        if order is not None and self._bytes(order) != b"little":
            raise ValueError("big-endian numbers, expected little-endian ones")
        pickled = members["data.pkl"]
        if pickled.size > MAX_HEADER_BYTES:
            raise ValueError(
                f"a data.pkl of {pickled.size:,} bytes, expected at most "
                f"{MAX_HEADER_BYTES:,}: save the weights alone"
            )
        loaded, keys = _unpickle(self._bytes(pickled), members)
        found = self._state_dict(loaded)
        check_count(self.path, len(found))
        self.set_places(
            {
                name: _place(self.path, name, value, keys, members)
                for name, value in found.items()
            }
        )

    # === The archive ===
    def _members(self) -> dict[str, _Member]:
        """Returns the files in the archive, each compared with its checksum."""
        with zipfile.ZipFile(self.file) as archive:
            infos = archive.infolist()
            if len(infos) > MAX_MEMBERS:
                raise ValueError(
                    f"{len(infos):,} files in the archive, expected at most "
                    f"{MAX_MEMBERS:,}"
                )
            names = [info.filename for info in infos]
            if any(name.endswith("/constants.pkl") for name in names):
                raise CheckpointError(
                    f"{self.path.name} is a TorchScript program, which is code and not "
                    f"opened. Save the model's state_dict() instead."
                )
            if len(set(names)) != len(names):
                raise ValueError("a name occurs twice in the archive")
            folder = next((n[:-9] for n in names if n.endswith("/data.pkl")), None)
            if folder is None:
                raise ValueError("no data.pkl in the archive")
            members = {}
            end = 0
            for info in sorted(infos, key=lambda info: info.header_offset):
                member = self._member(info)
                if info.header_offset < end:
                    raise ValueError(f"{info.filename} overlaps the file before it")
                end = member.start + member.size
                if info.filename.startswith(f"{folder}/"):
                    members[info.filename.removeprefix(f"{folder}/")] = member
            if end > archive.start_dir:
                raise ValueError("a file of the archive overlaps its directory")
        return members

    def _member(self, info: zipfile.ZipInfo) -> _Member:
        name = info.filename
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 0x1:
            raise CheckpointError(
                f"{self.path.name} was packed again: {name} in it is compressed or "
                f"encrypted, which PyTorch never writes. Fetch the original, or write "
                f"it anew: torch.save(torch.load(path, weights_only=True), new_path)."
            )
        self.file.seek(info.header_offset)
        header = LOCAL_HEADER.unpack(self.file.read(LOCAL_HEADER.size))
        name_size, extra_size = header[-2:]
        # zipfile's own reader goes by the local header; so do we, after comparing.
        local_name = self.file.read(name_size)
        if header[0] != b"PK\x03\x04" or header[3] != info.compress_type:
            raise ValueError(f"{name} is not where the archive's directory says")
        if local_name != name.encode("utf-8" if info.flag_bits & 0x800 else "cp437"):
            raise ValueError(f"{name} has another name in its own header")
        if info.file_size != info.compress_size:
            raise ValueError(f"{name} has two sizes")
        start = info.header_offset + LOCAL_HEADER.size + name_size + extra_size
        if start + info.file_size > self.size:
            raise ValueError(f"{name} ends behind the end of the file")
        self._check_sum(name, start, info.file_size, info.CRC)
        return _Member(start, info.file_size)

    def _check_sum(self, name: str, start: int, size: int, expected: int) -> None:
        self.file.seek(start)
        actual, left = 0, size
        while left:
            piece = self.file.read(min(PIECE, left))
            if not piece:
                raise ValueError(f"{name} is cut short")
            actual, left = zlib.crc32(piece, actual), left - len(piece)
        if actual != expected:
            raise CheckpointError(
                f"{self.path.name} is damaged: {name} in it differs from its checksum "
                f"(CRC-32 {actual:08x}, expected {expected:08x}). Nothing was loaded. "
                f"Fetch it again; if you saved it with "
                f"torch.serialization.set_crc32_options(False), save it with checksums."
            )

    def _bytes(self, member: _Member) -> bytes:
        self.file.seek(member.start)
        return self.file.read(member.size)

    # === The state dict ===
    def _state_dict(self, loaded: Any) -> Mapping[str, Any]:
        """Returns the tensors by name, out of the mappings around them."""
        torch = _torch(self.path)
        for _ in range(3):  # {"state_dict": {"model": {...}}} is the deepest seen
            if not isinstance(loaded, dict):
                break
            inside = [key for key in STATE_KEYS if isinstance(loaded.get(key), dict)]
            if not inside:
                break
            key = inside[0]
            loaded = loaded[key]
            self.wrappers = (*self.wrappers, key)
        if not isinstance(loaded, dict) or not loaded:
            raise CheckpointError(
                f"{self.path.name} holds {_kind(loaded)}, expected a state dict "
                f"(tensors by name). Save the model's state_dict()."
            )
        for name, value in loaded.items():
            if not isinstance(name, str):
                raise CheckpointError(
                    f"{self.path.name} has {name!r}, a {type(name).__name__}, where "
                    f"the name of a tensor is expected. Save the model's state_dict()."
                )
            if not isinstance(value, torch.Tensor):
                raise CheckpointError(
                    f"{self.path.name} holds {_kind(value)} under {name!r}, expected "
                    f"tensors only. Save the model's state_dict()."
                )
        return loaded


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        keys = ", ".join(repr(key)[:40] for key in list(value)[:5])
        return f"a mapping with {keys or 'nothing in it'}"
    return f"a {type(value).__name__}"


def _torch(path: Path) -> Any:
    try:
        import torch
    except ImportError as error:
        raise CheckpointError(
            f"Reading {path.name} needs PyTorch (pip install torch), because the "
            f".pt format is PyTorch's own. The same weights as .safetensors need "
            f"no PyTorch."
        ) from error
    return torch


def _unpickle(
    pickled: bytes, members: Mapping[str, _Member]
) -> tuple[Any, dict[int, str]]:
    """Returns the pickled object, its tensors without memory.

    Args:
        pickled: content of data.pkl.
        members: the files of the archive.

    Returns:
        The object, and the file that holds each storage, by the storage's address.
    """
    import torch
    from torch._weights_only_unpickler import Unpickler

    keys: dict[int, str] = {}
    storages: dict[str, Any] = {}

    def persistent_load(saved: Any) -> Any:
        kind, storage_type, key, _, count = saved
        if kind not in ("storage", b"storage") or not isinstance(key, str):
            raise ValueError("a reference to something else than a storage")
        dtype = getattr(storage_type, "dtype", torch.uint8)
        member = members.get(f"data/{key}")
        size = int(count) * dtype.itemsize
        if member is None or member.size < size:
            raise ValueError(f"data/{key} is missing or shorter than {size:,} bytes")
        if key not in storages:
            storages[key] = torch.UntypedStorage(size, device="meta")
            keys[storages[key]._cdata] = f"data/{key}"
        elif storages[key].nbytes() != size:
            raise ValueError(f"data/{key} has two sizes")
        return torch.storage.TypedStorage(
            wrap_storage=storages[key], dtype=dtype, _internal=True
        )

    unpickler: Any = Unpickler(io.BytesIO(pickled), encoding="utf-8")
    unpickler.persistent_load = persistent_load
    loaded = unpickler.load()
    # A tensor knows the address of its storage, which stays taken as long as the
    # tensor lives; storages that no tensor took are kept until here.
    return loaded, keys


def _place(
    path: Path,
    name: str,
    value: Any,
    keys: Mapping[int, str],
    members: Mapping[str, _Member],
) -> Place:
    """Returns where a tensor lies; refuses what is no plain tensor in the archive."""
    import torch

    problem = None
    if value.layout != torch.strided:
        problem = f"is sparse ({value.layout})"
    elif value.is_quantized:
        problem = "is quantised"
    elif value.is_neg() or value.is_conj():
        problem = "is a negated or conjugated view"
    elif value.untyped_storage()._cdata not in keys:
        problem = "was saved without its data (on the meta device)"
    if problem is not None:
        raise CheckpointError(
            f"{path.name} can't be loaded: {name} {problem}, expected a plain tensor. "
            f"Save {{name: tensor.detach().to_dense().clone()}} of the model instead."
        )
    dtype = str(value.dtype).removeprefix("torch.")
    item = value.element_size()
    member = members[keys[value.untyped_storage()._cdata]]
    shape, strides = tuple(value.shape), tuple(s * item for s in value.stride())
    first = value.storage_offset() * item
    last = first + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + item
    if 0 not in shape and (min(strides, default=0) < 0 or last > member.size):
        raise ValueError(f"{name} reaches beyond its data")
    return Place(
        member.start + first,
        shape,
        DTYPES.get(dtype, dtype),
        None if value.is_contiguous() else strides,
    )
