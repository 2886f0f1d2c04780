"""Writes a tokenizer or a converter into a preset, or into a new one of its own."""

import datetime
import json
import os
import shutil
from pathlib import Path
from typing import Any

import keras

from keras_pe.files import write_directory
from keras_pe.presets.checksums import (
    METADATA,
    SELF_CHECKSUM,
    read_metadata,
    read_verified,
    verify_file,
    write_metadata,
)
from keras_pe.presets.hub import CONFIG
from keras_pe.presets.report import CheckpointError
from keras_pe.presets.save import preset_target
from keras_pe.presets.serialized import check, serialize
from keras_pe.version import __version__

NAMES = {
    "PETokenizer": "tokenizer.json",
    "PEImageConverter": "image_converter.json",
    "PEVideoConverter": "video_converter.json",
}


def save_part(item: Any, directory: str | os.PathLike[str]) -> None:
    """Writes a tokenizer or converter into a preset directory, with its checksum.

    All other files of a preset that is there stay as they are; it is replaced as a
    whole or not at all. An empty or new directory becomes one with this part alone.

    Args:
        item: a `PETokenizer`, `PEImageConverter` or `PEVideoConverter`.
        directory: where; made if missing.

    Raises:
        CheckpointError: if the directory holds something else, a file of the preset is
            damaged, or a tokenizer is not that of the preset's model.
        OSError: if it can't be written there.
        TypeError: if the directory is neither text nor a path.

    Example:
        >>> from keras_pe import PETokenizer
        >>> save_part(PETokenizer(context_length=16), "words")
        >>> PETokenizer.from_preset("words").context_length
        16
    """
    config = serialize(item)
    name = NAMES[check(config, type(item).__name__, NAMES)]
    target = preset_target(directory)
    metadata = read_metadata(target) if (target / METADATA).is_file() else _new()
    files = metadata.pop("files", {})
    metadata.pop(SELF_CHECKSUM, None)
    if name == NAMES["PETokenizer"] and CONFIG in files:
        _check_tokenizer(item, target, {**metadata, "files": files})
    with write_directory(target) as aside:
        for kept in files:
            if kept != name:
                verify_file(target, kept, {"files": files})
                shutil.copy2(target / kept, aside / kept)
        text = json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False)
        (aside / name).write_text(text, encoding="utf-8")
        write_metadata(aside, metadata)


def _new() -> dict[str, Any]:
    now = datetime.datetime.now(datetime.UTC)
    return {
        "keras_version": keras.__version__,
        "keras_pe_version": __version__,
        "date_saved": now.strftime("%Y-%m-%d@%H:%M:%S"),
    }


def _check_tokenizer(tokenizer: Any, directory: Path, metadata: dict[str, Any]) -> None:
    """Refuses a tokenizer whose ids mean something else to the preset's model."""
    config = read_verified(directory, CONFIG, metadata)["config"]
    text = config.get("text_encoder", {}).get("config")
    if text is None:
        raise CheckpointError(
            f"{directory} holds a model that reads no text: it needs no tokenizer."
        )
    fits = tokenizer.vocabulary_size == text["vocabulary_size"]
    if not fits or tokenizer.context_length > text["context_length"]:
        raise CheckpointError(
            f"The tokenizer makes {tokenizer.context_length} ids a text of "
            f"{tokenizer.vocabulary_size}, and the model of {directory} reads up to "
            f"{text['context_length']} of {text['vocabulary_size']}. Save the one that "
            f"the model was trained with."
        )
