"""Fingerprints of what a number was measured with: the weights and the data."""

import contextlib
import hashlib
import json
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from PIL import Image

from keras_pe.preprocessing.given_images import file_content, is_file, to_array
from keras_pe.preprocessing.image_errors import ImageError
from keras_pe.preprocessing.media_folders import list_files
from keras_pe.presets.manifest import model_variables

UNREADABLE = b"unreadable"  # stands for what will be, or was, skipped and named


def weights_hash(model: keras.Model) -> str:
    """Returns the SHA-256 of a model's weights, the same on every backend.

    Names, dtypes, shapes and values of all weights count; the state of random
    generators, of the optimizer and names of models do not. LoRA updates are weights.

    Args:
        model: a `PECore` or a vision encoder.

    Returns:
        64 hexadecimal digits.

    Example:
        >>> from keras_pe import PEVisionEncoder
        >>> encoder = PEVisionEncoder.from_preset("pe_core_emoji_small_patch8_64")
        >>> weights_hash(encoder)[:8]
        'e580d14a'
    """
    digest = hashlib.sha256()
    for name, variable in sorted(model_variables(model).items()):
        if "seed_generator" in name:
            continue
        value = np.asarray(ops.convert_to_numpy(variable))
        if variable.dtype in ("float16", "bfloat16"):  # torch hands out float32
            value = value.astype("float32")
        _add(digest, f"{name} {variable.dtype} {tuple(value.shape)}".encode())
        _add(digest, _contiguous(value))
    return digest.hexdigest()


def data_hash(samples: Iterable[Any], targets: Any, contents: bool = True) -> str:
    """Returns the SHA-256 of samples and their targets, in this order.

    Folders that files lie in do not count, so it is the same on another machine.

    Args:
        samples: files, open or by their paths, folders of frames, bytes, PIL images,
            arrays, lists of those, or objects with `filename` and `read()`.
        targets: labels, texts and whatever else belongs to the data; JSON values.
        contents: True hashes all bytes of files. False hashes their names and sizes,
            which is quick and misses a file that was replaced by one of equal length.

    Returns:
        64 hexadecimal digits.

    Example:
        >>> data_hash([b"an image"], [3]) == data_hash([b"an image"], [4])
        False
    """
    digest = hashlib.sha256(b"contents" if contents else b"names and sizes")
    for sample in samples:
        _add(digest, _sample_digest(sample, contents))
    targets = json.dumps(targets, ensure_ascii=False, sort_keys=True, default=_plain)
    _add(digest, targets.encode())
    return digest.hexdigest()


def _sample_digest(sample: Any, contents: bool) -> bytes:
    digest = hashlib.sha256()
    if isinstance(sample, str | os.PathLike):
        path = Path(sample)
        if path.is_dir():
            for file in list_files(path, suffixes=(), recursive=True):
                _add(digest, _file_digest(file, contents))
            return digest.digest()
        return _file_digest(path, contents)
    if isinstance(sample, list | tuple):
        for item in sample:
            _add(digest, _sample_digest(item, contents))
    elif hasattr(sample, "read") and hasattr(sample, "filename"):
        if contents:
            return hashlib.sha256(sample.read()).digest()
        _add(digest, os.path.basename(sample.filename).encode())
    elif isinstance(sample, bytes | bytearray | memoryview):
        return hashlib.sha256(sample).digest()
    elif is_file(sample):  # whose content is gone, or was never bytes, is skipped
        with contextlib.suppress(ImageError):
            return hashlib.sha256(file_content(sample, "sample")).digest()
        return UNREADABLE
    else:  # a PIL image or an array
        array = _pixels(sample)
        if array is None:
            return UNREADABLE
        _add(digest, f"{array.dtype} {array.shape}".encode())
        _add(digest, _contiguous(array))
        if isinstance(sample, Image.Image):  # numbers of colours are no colours
            clear = sample.info.get("transparency")
            if sample.palette or clear is not None:
                _add(digest, f"{sample.getpalette()} {clear}".encode())
    return digest.digest()


def _file_digest(path: Path, contents: bool) -> bytes:
    try:
        if contents:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").digest()
        return hashlib.sha256(f"{path.name} {path.stat().st_size}".encode()).digest()
    except OSError:  # it will be skipped and named when it is read
        return UNREADABLE


def _pixels(sample: Any) -> np.ndarray | None:
    """Returns the array of an image or tensor; None if it holds no numbers."""
    try:
        if isinstance(sample, Image.Image):
            sample.load()  # NumPy would hide what is wrong
            array = np.asarray(sample)
        else:
            array = to_array(sample, "sample")
    except Exception:  # what no converter reads either: it was skipped and named
        return None
    return None if array.dtype.hasobject else array


def _add(digest: Any, content: Any) -> None:
    """Adds a piece with its length, so that pieces cannot run into each other."""
    digest.update(struct.pack("<Q", memoryview(content).nbytes))
    digest.update(content)


def _contiguous(array: np.ndarray) -> Any:
    array = np.asarray(array, order="C")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return array.reshape(-1).view(np.uint8).data


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{value!r} in the targets has no form in JSON.")
