"""Checksums of a preset directory: written with it, verified before it is used."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_pe.presets.report import CheckpointError

METADATA = "metadata.json"
SELF_CHECKSUM = "metadata_sha256"
MAX_JSON_BYTES = 64 * 2**20
# Names in metadata.json are joined to the directory: plain ones only.
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
SHA256 = re.compile(r"[0-9a-f]{64}")
# Stands in for the checksum while the file's own checksum is computed.
BLANK = "0" * 64


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_metadata(directory: Path, content: Mapping[str, Any]) -> None:
    """Writes metadata.json with the checksums of all other files and its own.

    Args:
        directory: the finished preset, but for this file.
        content: what else it says.
    """
    files = {
        path.name: {"sha256": sha256_of(path), "size": path.stat().st_size}
        for path in sorted(directory.iterdir())
    }
    full = {**content, "files": files, SELF_CHECKSUM: BLANK}
    text = json.dumps(full, indent=2, ensure_ascii=False, allow_nan=False)
    checksum = hashlib.sha256(text.encode()).hexdigest()
    end = text.rindex(BLANK)
    text = text[:end] + checksum + text[end + len(BLANK) :]
    (directory / METADATA).write_bytes(text.encode())


def read_metadata(directory: Path) -> dict[str, Any]:
    """Reads metadata.json and verifies its own checksum.

    Args:
        directory: a preset.

    Returns:
        What it says.

    Raises:
        CheckpointError: if it is missing or any of its bytes changed.
    """
    path = directory / METADATA
    raw = _read_small(path, "It holds the checksums, without which nothing is loaded")
    metadata = _parse(raw, path)
    checksum = metadata.get(SELF_CHECKSUM)
    if not isinstance(checksum, str) or not SHA256.fullmatch(checksum):
        raise CheckpointError(
            f"{path} has no {SELF_CHECKSUM}, the checksum of its own content: it is "
            f"damaged, or not written by keras_pe. {_advice(path)}"
        )
    before, found, after = raw.rpartition(checksum.encode())
    actual = hashlib.sha256(before + BLANK.encode() + after).hexdigest()
    if not found or actual != checksum:
        raise mismatch(path, actual, checksum)
    files = metadata.get("files")
    if not isinstance(files, dict) or not all(
        FILE_NAME.fullmatch(name)
        and isinstance(entry, dict)
        and SHA256.fullmatch(str(entry.get("sha256")))
        for name, entry in files.items()
    ):
        raise CheckpointError(
            f'"files" of {path} must give the sha256 of each file by its plain name. '
            f"{_advice(path)}"
        )
    return metadata


def read_verified(
    directory: Path, name: str, metadata: Mapping[str, Any]
) -> dict[str, Any]:
    """Reads one JSON file of a preset after comparing its checksum.

    Args:
        directory: a preset.
        name: name of the file.
        metadata: what `read_metadata` returned.

    Raises:
        CheckpointError: if it is missing, not listed, changed or no JSON object.
    """
    path = directory / name
    expected = _expected(path, metadata)
    raw = _read_small(path, "The preset is incomplete")
    actual = hashlib.sha256(raw).hexdigest()
    if actual != expected:
        raise mismatch(path, actual, expected)
    return _parse(raw, path)


def verify_file(directory: Path, name: str, metadata: Mapping[str, Any]) -> Path:
    """Compares the checksum of one file of a preset and returns its path.

    Raises:
        CheckpointError: if it is missing, not listed or changed.
    """
    path = directory / name
    expected = _expected(path, metadata)
    if not path.is_file():
        raise CheckpointError(
            f"No {name} in {directory}. The preset is incomplete. {_advice(path)}"
        )
    actual = sha256_of(path)
    if actual != expected:
        raise mismatch(path, actual, expected)
    return path


def mismatch(path: Path, actual: str, expected: str) -> CheckpointError:
    """Returns the error for a file whose content changed."""
    return CheckpointError(
        f"{path.name} is damaged: its SHA-256 is {actual}, expected {expected}. "
        f"Nothing was loaded. {_advice(path)}"
    )


def _expected(path: Path, metadata: Mapping[str, Any]) -> str:
    entry = metadata["files"].get(path.name)
    if entry is None and not path.exists():
        raise CheckpointError(
            f"{path.parent} holds no {path.name}, but {', '.join(metadata['files'])}: "
            f"one part of a preset. Save what is missing there too, or load the part "
            f"alone, by its own class."
        )
    if entry is None:
        raise CheckpointError(
            f"{METADATA} of {path.parent} lists no {path.name}, so its content can't "
            f"be verified. The preset has {', '.join(metadata['files'])}."
        )
    return str(entry["sha256"])


def _advice(path: Path) -> str:
    paths = [path]
    if path.is_symlink():  # the Hub's cache links to the file itself
        paths.append(path.resolve())
    listed = " ".join(f'"{found}"' for found in paths)
    return f"Delete the file (rm {listed}) and download or copy it again."


def _read_small(path: Path, why: str) -> bytes:
    if not path.is_file():
        raise CheckpointError(
            f"No {path.name} in {path.parent}. {why}. {_advice(path)}"
        )
    if path.stat().st_size > MAX_JSON_BYTES:
        raise CheckpointError(
            f"{path} has {path.stat().st_size} bytes, expected at most "
            f"{MAX_JSON_BYTES}. {_advice(path)}"
        )
    return path.read_bytes()


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def _parse(raw: bytes, path: Path) -> dict[str, Any]:
    try:
        content = json.loads(raw.decode("utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path.name} is no JSON ({error}): it is damaged. {_advice(path)}"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path.name} holds a {type(content).__name__}, expected a JSON object. "
            f"{_advice(path)}"
        )
    return content
