"""Opens a checkpoint file of any format that keras_pe reads."""

import os
from pathlib import Path

from keras_pe.presets.reader import TORCH_SUFFIXES, OpenFile, Reader
from keras_pe.presets.report import CheckpointError
from keras_pe.presets.safetensors_file import SafetensorsFile
from keras_pe.presets.torch_file import TorchFile
from keras_pe.presets.wrappers import take_off


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
