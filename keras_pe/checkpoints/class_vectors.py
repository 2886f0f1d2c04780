"""The vectors of the classes that a preset knows, kept beside its weights.

A preset may name classes and prompts in its metadata, as the bundled ones do with 1,364
and seven. Embedding these 9,548 prompts takes far longer than everything else that a
first classification does, so their result is saved along, in half precision. A key of
weights, tokenizer, names and prompts says what it belongs to: with any of them changed
the file is ignored.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_pe.checkpoints.checksums import sha256_of, verify_file

CLASS_VECTORS = "class_vectors.safetensors"
TENSOR = "class_vectors"


def write_class_vectors(
    directory: Path, model: Any, tokenizer: Any, metadata: Mapping[str, Any]
) -> None:
    """Embeds the classes that metadata names, and writes their vectors.

    Args:
        directory: a preset whose weights and tokenizer are written already.
        model: the `PECore`.
        tokenizer: its `PETokenizer`.
        metadata: of the preset; without `zero_shot` nothing is written.
    """
    from safetensors.numpy import save_file

    from keras_pe.evaluation.zero_shot import class_vectors

    known = _classes(metadata)
    if known is None:
        return
    before = tokenizer.on_truncation
    tokenizer.on_truncation = "ignore"  # known names: a long one is no surprise
    try:
        vectors, _ = class_vectors(model, tokenizer, *known)
    finally:
        tokenizer.on_truncation = before
    sums = {path.name: sha256_of(path) for path in directory.iterdir()}
    save_file(
        {TENSOR: vectors.astype("float16")},
        directory / CLASS_VECTORS,
        {"key": _key(sums, known)},
    )


def read_class_vectors(
    directory: Path, metadata: Mapping[str, Any]
) -> np.ndarray | None:
    """Returns the vectors of the classes in a preset's metadata, if they are there.

    Args:
        directory: a preset.
        metadata: what `read_metadata` returned.

    Returns:
        float32 `(classes, output_dim)`, of unit length, or None: there are none, or
        they belong to other weights, names or prompts.

    Raises:
        CheckpointError: if the file is damaged.
        ValueError: if the metadata names what are no classes.
    """
    from safetensors import safe_open

    known = _classes(metadata)
    if known is None or CLASS_VECTORS not in metadata["files"]:
        return None
    path = verify_file(directory, CLASS_VECTORS, metadata)
    sums = {name: entry["sha256"] for name, entry in metadata["files"].items()}
    with safe_open(path, framework="numpy") as file:
        key = (file.metadata() or {}).get("key")
        if key != _key(sums, known) or TENSOR not in file.keys():  # noqa: SIM118
            return None
        vectors = file.get_tensor(TENSOR).astype("float32")
    if vectors.ndim != 2 or len(vectors) != len(known[0]):
        return None
    # Half precision leaves lengths that differ from 1 in the fourth digit.
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _classes(metadata: Mapping[str, Any]) -> tuple[list[str], list[str]] | None:
    from keras_pe.evaluation.known_classes import known_classes

    known = known_classes(metadata)
    if known is None or not metadata["zero_shot"].get("templates"):
        return None
    return known[0], list(known[1])


def _key(sums: Mapping[str, str], known: tuple[list[str], list[str]]) -> str:
    used = {
        name: checksum
        for name, checksum in sums.items()
        if name in ("config.json", "tokenizer.json") or ".weights." in name
    }
    text = json.dumps([used, *known], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
