"""The two files of a run checkpoint: tensors, and everything else, with checksums.

Nothing here needs Keras unless it is handed a Keras variable.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  (NumPy then knows bfloat16 by its name)
import numpy as np

from keras_pe.files import sync
from keras_pe.presets.checksums import sha256_of
from keras_pe.presets.report import CheckpointError

VARIABLES = "variables.safetensors"
STATE = "state.json"
FORMAT = 1
SAFETENSORS_NAMES = {  # NumPy's name -> the format's
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
}


def write_files(
    directory: Path, step: int, variables: Mapping[str, Any], state: dict[str, Any]
) -> None:
    """Writes both files and waits until they are on the disk.

    Args:
        directory: an empty directory.
        step: number of the step.
        variables: arrays, tensors or Keras variables by name; copied to the host one
            by one.
        state: what `checked_state` returned.
    """
    checksum = _write_tensors(directory / VARIABLES, variables)
    content = {
        "format": FORMAT,
        "step": step,
        "variables_sha256": checksum,
        "state": state,
    }
    text = json.dumps({"sha256": _content_sha256(content), **content}, indent=1)
    with (directory / STATE).open("xb") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())
    sync(directory)


def read_files(directory: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads both files after comparing their checksums.

    Returns:
        The arrays by name, and the state.

    Raises:
        CheckpointError: if a file is missing, damaged or of a newer format.
    """
    from safetensors import SafetensorError, safe_open

    try:
        content = _read_state(directory / STATE)
        path = directory / VARIABLES
        actual, expected = sha256_of(path), content["variables_sha256"]
        if actual != expected:
            raise CheckpointError(
                f"{path} is damaged: its SHA-256 is {actual}, expected {expected}."
            )
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{directory} can't be read: {error}.") from error
    return arrays, content["state"]


def checked_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a state as JSON gives it back: tuples as lists, keys as strings.

    Raises:
        ValueError: if a value has no form in JSON, or NaN or infinity is among them.
    """
    try:
        loaded = json.loads(json.dumps(dict(state), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The state of a checkpoint must be made of JSON values (finite numbers, "
            f"strings, lists, mappings): {error}."
        ) from error
    return dict(loaded)


# === Tensors ===
def _write_tensors(path: Path, variables: Mapping[str, Any]) -> str:
    """Writes a safetensors file tensor by tensor; returns its SHA-256."""
    described = {name: _describe(name, value) for name, value in variables.items()}
    # Wide elements first keeps each tensor aligned, as the format recommends.
    names = sorted(described, key=lambda name: -np.dtype(described[name][0]).itemsize)
    header: dict[str, Any] = {}
    end = 0
    for name in names:
        dtype, shape = described[name]
        start, end = end, end + math.prod(shape) * np.dtype(dtype).itemsize
        header[name] = {
            "dtype": SAFETENSORS_NAMES[dtype],
            "shape": shape,
            "data_offsets": [start, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)

    def pieces() -> Iterator[Any]:
        yield len(text).to_bytes(8, "little")
        yield text
        for name in names:
            yield _bytes_of(name, variables[name], described[name])

    checksum = hashlib.sha256()
    with path.open("xb") as file:
        for piece in pieces():
            file.write(piece)
            checksum.update(piece)
        file.flush()
        os.fsync(file.fileno())
    return checksum.hexdigest()


def _describe(name: str, value: Any) -> tuple[str, tuple[int, ...]]:
    """Returns dtype and shape of an array, a tensor, a Keras variable or a number."""
    if not hasattr(value, "dtype"):
        value = np.asarray(value)
    dtype = getattr(value.dtype, "name", None) or str(value.dtype)
    dtype = dtype.removeprefix("torch.")
    if dtype not in SAFETENSORS_NAMES:
        raise CheckpointError(
            f"{name} has dtype {dtype}, expected one of {', '.join(SAFETENSORS_NAMES)}."
        )
    return dtype, tuple(int(length) for length in value.shape)


def _bytes_of(name: str, value: Any, described: tuple[str, tuple[int, ...]]) -> Any:
    """Copies one tensor to the host, if it is not there, and returns its bytes."""
    live = getattr(value, "value", value)
    if not (
        getattr(live, "is_fully_addressable", True)
        or getattr(live, "is_fully_replicated", False)
    ):
        raise CheckpointError(
            f"{name} is spread over several hosts, of which this one sees a part only. "
            f"Gather it first (jax.experimental.multihost_utils.process_allgather), or "
            f"save with Orbax."
        )
    if not isinstance(value, np.ndarray | np.generic | int | float):
        import keras

        value = keras.ops.convert_to_numpy(value)
    # Not ascontiguousarray, which makes an array of one dimension out of a scalar.
    array = np.asarray(value, order="C")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if (array.dtype.name, array.shape) != described:
        raise CheckpointError(
            f"{name} changed while it was saved: it is {array.dtype.name} "
            f"{array.shape}, and was {described[0]} {described[1]}."
        )
    return array.reshape(-1).view(np.uint8).data


# === State ===
def _content_sha256(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _read_state(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {error}.") from error
    checksum = content.pop("sha256", None) if isinstance(content, dict) else None
    if checksum is None or checksum != _content_sha256(content):
        raise CheckpointError(f"{path} is damaged: its checksum does not fit.")
    if content.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} has format {content.get('format')}, and this keras_pe reads "
            f"{FORMAT}. Update keras_pe."
        )
    return dict(content)
