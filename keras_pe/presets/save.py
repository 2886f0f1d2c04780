"""Writes a preset directory, whole or not at all."""

import datetime
import errno
import json
import math
import os
import re
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_pe.files import check_directory_target, write_directory
from keras_pe.full_disk import NoRoomError
from keras_pe.presets.assign import build_unfilled
from keras_pe.presets.checksums import METADATA, read_metadata, write_metadata
from keras_pe.presets.class_vectors import ClassVectors, write_class_vectors
from keras_pe.presets.manifest import model_manifest
from keras_pe.presets.preset_weights import SHARD_MAP, SINGLE_FILE
from keras_pe.presets.report import CheckpointError
from keras_pe.presets.serialized import MODELS, check, serialize, set_dtype
from keras_pe.version import __version__

H5_BYTES_OF_A_TENSOR = 4096  # of headers, about
MAX_SHARD_GB = 10.0  # KerasHub's default
DTYPES = ("float16", "bfloat16", "float32")
# What write_metadata and this file say; not the caller's to set.
RESERVED = {
    "keras_version",
    "keras_pe_version",
    "parameter_count",
    "date_saved",
    "dtype",
    "files",
    "metadata_sha256",
}


def save_preset(
    model: keras.Model,
    directory: str | os.PathLike[str],
    tokenizer: Any = None,
    image_converter: Any = None,
    metadata: Mapping[str, Any] | None = None,
    dtype: str | None = None,
    max_shard_size: float = MAX_SHARD_GB,
    class_vectors: Callable[[], ClassVectors | None] | None = None,
    write_more: Callable[[Path], None] | None = None,
) -> None:
    """Writes a preset directory in KerasHub's layout, with checksums of all files.

    It is written aside and then moved into place. A preset that is there is replaced
    as a whole; anything else is left alone.

    Args:
        model: a `PECore`, `PEVisionEncoder`, `PELang` or `PESpatial`. LoRA updates are
            merged into the weights, optimizer state is left out.
        directory: where; made if missing.
        tokenizer: a `PETokenizer` to write along.
        image_converter: a `PEImageConverter` to write along.
        metadata: more to say in metadata.json, such as scores; JSON values.
        dtype: dtype of the weights in the file, "float16", "bfloat16" or "float32";
            None is the model's own. The loaded model has the dtype it has here.
        max_shard_size: gigabytes above which the weights are split into files.
        class_vectors: gives vectors of classes to write along, if there are any; asked
            when the weights are written.
        write_more: writes further files into the new directory.

    Raises:
        CheckpointError: if something can't be saved, or the directory holds files
            that belong to no preset.
        TargetBusyError: if another process writes it.
        OSError: if it can't be written there, or the disk has no room for it; a preset
            that is there stays.
        TypeError: if the directory is neither text nor a path.

    Example:
        >>> save_preset(model, "cats", tokenizer=tokenizer)    # doctest: +SKIP
    """
    _check_arguments(model, metadata, dtype)
    objects = {"config.json": serialize(model)}
    for name, item, expected in (
        ("tokenizer.json", tokenizer, "PETokenizer"),
        ("image_converter.json", image_converter, "PEImageConverter"),
    ):
        if item is not None:
            objects[name] = serialize(item)
            check(objects[name], name.removesuffix(".json"), (expected,))
    target = preset_target(directory)
    with write_directory(target) as aside:
        for name, config in objects.items():
            text = json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False)
            (aside / name).write_text(text, encoding="utf-8")
        stored = _save_weights(model, aside, dtype, max_shard_size)
        classes = None if class_vectors is None else class_vectors()
        if classes is not None:
            write_class_vectors(aside, classes)
        if write_more is not None:
            write_more(aside)
        usual = (aside / "config.json").stat().st_mode
        for path in aside.iterdir():  # safetensors makes its files private
            path.chmod(usual)
        write_metadata(aside, _metadata(model, stored, metadata))


def warn_of_missing(**parts: Any) -> None:
    """Warns of parts without which a preset is not whole.

    Args:
        parts: what was given, by the name of the argument.
    """
    missing = [name for name, part in parts.items() if part is None]
    if missing:
        classes = {"tokenizer": "PETokenizer", "image_converter": "PEImageConverter"}
        warnings.warn(
            f"The preset is saved without {' and '.join(missing)}: "
            f"{' and '.join(f'{classes[name]}.from_preset' for name in missing)} will "
            f"not load from it. Give {', '.join(f'{name}=...' for name in missing)}, "
            f"or add it later with its own save_to_preset.",
            stacklevel=3,
        )


def _save_weights(
    model: keras.Model, directory: Path, dtype: str | None, max_shard_size: float
) -> str:
    """Writes the weights; returns the dtype in the file."""
    towers = [*model.towers().values()]
    own = str(towers[0].dtype_policy.variable_dtype)
    stored = dtype or own
    adapted = any(tower.has_lora for tower in towers)
    check_room(model, directory)
    if stored != own or model.compiled or adapted:
        # Keras writes what the model has, in its dtype and with its optimizer. A twin
        # has neither. It gets the weights through a file, which merges LoRA.
        twin = build_unfilled(lambda: _twin(model, stored))
        full = directory / "full.weights.h5"
        model.save_weights(full)
        twin.load_weights(full)
        full.unlink()
        model = twin
    _check_finite(model, stored, own)  # no reader takes anything else
    size = sum(
        math.prod(variable.shape) * _item_size(variable.dtype)
        for variable in model.variables
    )
    if size > max_shard_size * 1024**3:
        model.save_weights(directory / SHARD_MAP, max_shard_size=max_shard_size)
    else:
        model.save_weights(directory / SINGLE_FILE)
    return stored


def check_room(model: keras.Model, directory: Path) -> None:
    """Refuses a disk that is too full: HDF5 ends the process if a write fails.

    Raises:
        NoRoomError: saying how much room there is, and how much is needed.
    """
    optimizer = getattr(model, "optimizer", None)  # Keras writes its state along
    variables = [*model.variables, *(optimizer.variables if optimizer else ())]
    wanted = sum(
        math.prod(variable.shape) * _item_size(variable.dtype) + H5_BYTES_OF_A_TENSOR
        for variable in variables
    )
    free = shutil.disk_usage(directory).free
    if free < wanted:
        raise NoRoomError(
            errno.ENOSPC,
            f"the weights of {type(model).__name__} need {wanted:,} bytes, and "
            f"{free:,} are free. Nothing was written. Make room, or give another "
            f"directory.",
        )


def _twin(model: keras.Model, dtype: str) -> Any:
    """Returns a model of the same architecture, uncompiled, in another dtype."""
    config = serialize(model)["config"]  # without what is trained, quantised, adapted
    set_dtype(config, keras.DTypePolicy(dtype))
    return type(model).from_config(config)


def _check_finite(model: keras.Model, dtype: str, own: str) -> None:
    for variable in model.weights:
        array = keras.ops.convert_to_numpy(variable)
        if np.isfinite(array.astype("float32", copy=False)).all():
            continue
        beyond = "" if dtype == own else f"values that {dtype} can't hold, or "
        advice = "" if dtype == own else "Save as float32 or bfloat16. "
        raise CheckpointError(
            f"{variable.path} of {type(model).__name__} has {beyond}values that are "
            f"NaN or infinite. {advice}Look at the training that gave them, and save "
            f"the weights of an earlier checkpoint. Nothing was written."
        )


def _item_size(dtype: str) -> int:
    return {"float16": 2, "bfloat16": 2, "float64": 8}.get(dtype, 4)


def _metadata(
    model: keras.Model, dtype: str, more: Mapping[str, Any] | None
) -> dict[str, Any]:
    sizes = map(math.prod, model_manifest(model).values())
    now = datetime.datetime.now(datetime.UTC)
    return {
        "keras_version": keras.__version__,
        "keras_pe_version": __version__,
        "parameter_count": sum(sizes),
        "date_saved": now.strftime("%Y-%m-%d@%H:%M:%S"),
        "dtype": dtype,
        **(more or {}),
    }


# === The directory ===
def preset_target(directory: Any) -> Path:
    """Returns where a preset can be written, as a full path.

    Raises:
        CheckpointError: if it is an address, or something else would be lost.
        OSError: if it can't be written there.
        TypeError: if it is neither text nor a path.
        ValueError: if it is no name of a folder.
    """
    if not isinstance(directory, str | os.PathLike):
        raise TypeError(
            f"A preset is saved to a directory, given as text or a path, got "
            f"{directory!r} ({type(directory).__name__})."
        )
    name = os.fspath(directory)
    if not isinstance(name, str) or "\0" in name:
        raise ValueError(f"{name!r:.80} is no name of a folder. Give another path.")
    if re.match(r"(hf|kaggle):/", name):  # Path makes one slash of two
        raise CheckpointError(
            f"{name} is an address, and a preset is saved to a folder of this machine. "
            f'Give a folder, such as "my-model"; keras_pe.upload_preset then puts it '
            f"on the Hugging Face Hub."
        )
    target = Path(name).expanduser().resolve()
    check_preset_target(target)
    check_directory_target(target)
    return target


def check_preset_target(target: Path) -> None:
    """Refuses a place where something else than a preset would be lost.

    Raises:
        CheckpointError: saying what is there.
    """
    if not target.exists():
        return
    if not target.is_dir():
        raise CheckpointError(
            f"{target} is a file, expected a directory, new or with a preset in it."
        )
    names = {path.name for path in target.iterdir()}
    if not names:
        return
    if METADATA not in names:
        raise CheckpointError(
            f"{target} is not empty and holds no preset ({', '.join(sorted(names)[:5])}"
            f"). Give another directory, or empty this one."
        )
    try:
        listed = set(read_metadata(target)["files"]) | {METADATA}
    except CheckpointError as error:
        raise CheckpointError(
            f"{target} holds a damaged preset, or none of keras_pe, and is not "
            f"replaced ({error}). Give another directory, or empty this one."
        ) from error
    others = sorted(names - listed)
    if others:
        raise CheckpointError(
            f"{target} holds {', '.join(others[:5])} beside a preset, which replacing "
            f"it would delete. Move them, or give another directory."
        )


# === Arguments ===
def _check_arguments(
    model: keras.Model, metadata: Mapping[str, Any] | None, dtype: str | None
) -> None:
    if type(model).__name__ not in MODELS:
        raise CheckpointError(
            f"A {type(model).__name__} can't be saved as a preset, expected one of "
            f"{', '.join(MODELS)}. Other models have save_weights."
        )
    if dtype is not None and dtype not in DTYPES:
        raise CheckpointError(
            f"dtype={dtype!r}: expected one of {', '.join(DTYPES)} or None."
        )
    for layer in model._flatten_layers():
        if getattr(layer, "quantization_mode", None) is not None:
            raise CheckpointError(
                f"{layer.path} is quantised ({layer.quantization_mode}), and a preset "
                f"holds floating point weights. Save before calling quantize."
            )
    taken = sorted(RESERVED & set(metadata or ()))
    if taken:
        raise CheckpointError(
            f"metadata can't set {', '.join(taken)}, which save_preset sets itself. "
            f"Use other names."
        )
    try:
        json.dumps(dict(metadata or {}), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"metadata must be made of JSON values (numbers that are finite, strings, "
            f"lists, mappings): {error}."
        ) from error
