"""The vectors of the classes that a preset knows, kept beside its weights.

A preset may name classes and prompts in its metadata, as the bundled ones do with 1,364
and seven. Embedding these 9,548 prompts takes far longer than everything else that a
first classification does, so their result is saved along, in half precision. A key of
weights, tokenizer, names and prompts says what it belongs to: with any of them changed
the file is ignored.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_pe.presets.checksums import sha256_of, verify_file

CLASS_VECTORS = "class_vectors.safetensors"
TENSOR = "class_vectors"


class ClassVectors(NamedTuple):
    """The vectors of classes, and what they were computed from.

    Attributes:
        vectors: float32 `(classes, output_dim)`, of unit length.
        names: names of the classes.
        templates: their prompts.
    """

    vectors: np.ndarray
    names: Sequence[str]
    templates: Sequence[str]


def write_class_vectors(directory: Path, classes: ClassVectors) -> None:
    """Writes the vectors of classes into a preset.

    Args:
        directory: a preset whose weights and tokenizer are written already.
        classes: vectors from its model and tokenizer.
    """
    from safetensors.numpy import save_file

    sums = {path.name: sha256_of(path) for path in directory.iterdir()}
    save_file(
        {TENSOR: classes.vectors.astype("float16")},
        directory / CLASS_VECTORS,
        {"key": _key(sums, classes.names, classes.templates)},
    )


def read_class_vectors(
    directory: Path,
    metadata: Mapping[str, Any],
    names: Sequence[str],
    templates: Sequence[str],
) -> np.ndarray | None:
    """Returns the vectors of classes that a preset was saved with, if they are there.

    Args:
        directory: a preset.
        metadata: what `read_metadata` returned.
        names: names of the classes.
        templates: their prompts.

    Returns:
        float32 `(classes, output_dim)`, of unit length, or None: there are none, or
        they belong to other weights, names or prompts.

    Raises:
        CheckpointError: if the file is damaged.
    """
    from safetensors import safe_open

    if CLASS_VECTORS not in metadata["files"]:
        return None
    path = verify_file(directory, CLASS_VECTORS, metadata)
    sums = {name: entry["sha256"] for name, entry in metadata["files"].items()}
    with safe_open(path, framework="numpy") as file:
        key = (file.metadata() or {}).get("key")
        right = key == _key(sums, names, templates)
        if not right or TENSOR not in file.keys():  # noqa: SIM118
            return None
        vectors = file.get_tensor(TENSOR).astype("float32")
    if vectors.ndim != 2 or len(vectors) != len(names):
        return None
    # Half precision leaves lengths that differ from 1 in the fourth digit.
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _key(
    sums: Mapping[str, str], names: Sequence[str], templates: Sequence[str]
) -> str:
    used = {
        name: checksum
        for name, checksum in sums.items()
        if name in ("config.json", "tokenizer.json") or ".weights." in name
    }
    text = json.dumps([used, list(names), list(templates)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
