"""Writes a file in a process of its own, on the backend that can.

LiteRT and SavedModel come from TensorFlow, `.pt2` from PyTorch; a process has one
backend. The model travels as a preset in a temporary folder.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_pe.models.tower import Tower
from keras_pe.presets.save import save_preset

BACKENDS = {"litert": "tensorflow", "savedmodel": "tensorflow", "torch": "torch"}


def write(
    model: Any,
    tower: Tower,
    path: Path,
    file_format: str,
    example: np.ndarray,
    layers: tuple[str, ...] = (),
    quantize: str = "none",
) -> None:
    """Writes a file here if this is its backend, else in a child process.

    Args:
        model: what `tower` is a part of, or itself.
        tower: the encoder.
        path: of the file or folder.
        file_format: "litert", "savedmodel" or "torch".
        example: inputs, two or more.
        layers: whose outputs it returns after the tower's.
        quantize: as in `export`.

    Raises:
        RuntimeError: if the process fails, with the end of what it said.
    """
    if keras.backend.backend() == BACKENDS[file_format]:
        _write(tower, path, file_format, example, layers, quantize)
        return
    with tempfile.TemporaryDirectory() as folder:
        save_preset(model, Path(folder, "preset"))
        np.save(Path(folder, "example.npy"), example)
        request = {
            "path": str(path.absolute()),
            "file_format": file_format,
            "modality": tower.modality,
            "class_name": type(model).__name__,
            "layers": layers,
            "quantize": quantize,
        }
        Path(folder, "request.json").write_text(json.dumps(request))
        environment = {**os.environ, "KERAS_BACKEND": BACKENDS[file_format]}
        done = subprocess.run(
            [sys.executable, "-m", __name__, folder],
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
        )
    if done.returncode:
        said = "\n".join(done.stderr.strip().splitlines()[-8:])
        raise RuntimeError(
            f"{file_format} is written by a process on the {BACKENDS[file_format]} "
            f"backend, which failed: {said}. Is it installed? pip install "
            f'"keras-pe[{BACKENDS[file_format]}]".'
        )


def _write(
    tower: Tower,
    path: Path,
    file_format: str,
    example: np.ndarray,
    layers: tuple[str, ...],
    quantize: str,
) -> None:
    if file_format == "torch":
        from keras_pe.export import torch_file

        torch_file.write(tower, path, example, layers)
    elif file_format == "savedmodel":
        from keras_pe.export import tensorflow_files

        tensorflow_files.write_savedmodel(tower, path, example, layers)
    else:
        from keras_pe.export import tensorflow_files

        tensorflow_files.write_litert(tower, path, example, layers, quantize)


def main(folder: str) -> None:
    """Does what the request in a folder says."""
    import keras_pe

    request = json.loads(Path(folder, "request.json").read_text())
    model = getattr(keras_pe, request["class_name"]).from_preset(Path(folder, "preset"))
    modality = request["modality"]
    _write(
        model.towers().get(modality, model),
        Path(request["path"]),
        request["file_format"],
        np.load(Path(folder, "example.npy")),
        tuple(request["layers"]),
        request["quantize"],
    )


if __name__ == "__main__":
    main(sys.argv[1])
