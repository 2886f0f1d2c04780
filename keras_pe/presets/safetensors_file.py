"""Safetensors files: a JSON header, then the tensors one behind the other."""

import json
from pathlib import Path
from typing import Any

from keras_pe.presets.reader import (
    MAX_HEADER_BYTES,
    OpenFile,
    Place,
    check_count,
)
from keras_pe.presets.report import CheckpointError


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
