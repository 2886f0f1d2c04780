"""A classifier beside the weights of its encoder: names of classes and a head, as data.

The encoder's own files are those of `PEVisionEncoder.save_to_preset`: whoever wants the
encoder alone loads it as ever.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_pe.folder_reading import read_directory
from keras_pe.models.vision_encoder import PEVisionEncoder
from keras_pe.preprocessing.image import PEImageConverter
from keras_pe.presets.checksums import read_metadata, read_verified, verify_file
from keras_pe.presets.hub import CLASSIFIER, CLASSIFIER_WEIGHTS, resolve
from keras_pe.presets.open_checkpoint import SafetensorsFile
from keras_pe.presets.report import CheckpointError
from keras_pe.presets.save import save_preset

FORMAT = 1
METHODS = ("probe", "lora", "full")
MOST_CLASSES, LONGEST_NAME = 1_000_000, 1_000


class SavedClassifier(NamedTuple):
    """What a preset holds of a classifier.

    Attributes:
        encoder: of the images.
        image_converter: what prepares them.
        class_names: names of the classes.
        method: how it was trained.
        head: mean, deviation, kernel and bias.
    """

    encoder: PEVisionEncoder
    image_converter: PEImageConverter
    class_names: list[str]
    method: str
    head: dict[str, np.ndarray]


def check_names(names: Sequence[str]) -> None:
    """Refuses names of classes that are too few, alike, or can't be in a preset.

    Raises:
        ValueError: saying which.

    Example:
        >>> check_names(["cat", "dog"])
    """
    if len(set(names)) < max(len(names), 2):
        raise ValueError(
            f"class_names must be two or more, all different, got {[*names]!r:.200}."
        )
    for place, name in enumerate(names):
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"class_names[{place}] is {name!r:.80}, which is no Unicode text: it "
                f"may come from a file of another encoding. Write it anew."
            ) from error
        if len(name) > LONGEST_NAME:
            raise ValueError(
                f"class_names[{place}] has {len(name)} characters ({name!r:.40}...), "
                f"expected at most {LONGEST_NAME}. Give it a shorter name."
            )


def save_classifier(
    directory: str | os.PathLike[str],
    saved: SavedClassifier,
    metadata: Mapping[str, Any] | None,
    dtype: str | None,
) -> None:
    """Writes a preset directory; see `ImageClassifier.save_to_preset`."""
    text = json.dumps(
        {
            "format": FORMAT,
            "class_names": saved.class_names,
            "method": saved.method,
        },
        indent=2,
        ensure_ascii=False,
    )

    def write(aside: Path) -> None:
        from safetensors.numpy import save_file

        (aside / CLASSIFIER).write_text(text, encoding="utf-8")
        save_file(saved.head, aside / CLASSIFIER_WEIGHTS)

    save_preset(
        saved.encoder,
        directory,
        image_converter=saved.image_converter,
        metadata=metadata,
        dtype=dtype,
        write_more=write,
    )


def load_classifier(
    handle: str | os.PathLike[str], dtype: Any = None
) -> SavedClassifier:
    """Reads what `save_classifier` wrote.

    Raises:
        CheckpointError: if there is no classifier, or a file is damaged.
    """
    directory = resolve(handle).directory
    if directory is None:
        raise CheckpointError(_NO_CLASSIFIER.format(handle=os.fspath(handle)))
    return read_directory(
        directory,
        lambda place: _load(place, os.fspath(handle), dtype),
        (CheckpointError, OSError),
    )


_NO_CLASSIFIER = (
    "{handle} is an encoder that knows no classes of its own. Name them: "
    'ImageClassifier.from_preset(preset, ["cat", "dog"]), and fit.'
)


def _load(directory: Path, handle: str, dtype: Any) -> SavedClassifier:
    metadata = read_metadata(directory)
    if CLASSIFIER not in metadata["files"]:
        raise CheckpointError(_NO_CLASSIFIER.format(handle=handle))
    where = str(directory / CLASSIFIER)
    names, method = _described(read_verified(directory, CLASSIFIER, metadata), where)
    verify_file(directory, CLASSIFIER_WEIGHTS, metadata)
    reader = SafetensorsFile(directory / CLASSIFIER_WEIGHTS)
    try:
        head = {name: reader.read(name) for name in reader.tensors}
    finally:
        reader.close()
    encoder = PEVisionEncoder.from_preset(directory, dtype=dtype)
    converter = PEImageConverter.from_preset(directory)
    return SavedClassifier(encoder, converter, names, method, head)


def _described(content: Mapping[str, Any], where: str) -> tuple[list[str], str]:
    if content.get("format") != FORMAT:
        raise CheckpointError(
            f"{where} is of format {content.get('format')!r}, expected {FORMAT}. It "
            f"may come from a newer keras_pe: update it."
        )
    names, method = content.get("class_names"), content.get("method")
    right = isinstance(names, list) and 0 < len(names) <= MOST_CLASSES
    if not right or not all(
        isinstance(name, str) and 0 < len(name) <= LONGEST_NAME for name in names or ()
    ):
        raise CheckpointError(
            f"{where} has class_names={names!r:.80}, expected a list of texts of at "
            f"most {LONGEST_NAME} characters."
        )
    if method not in METHODS:
        raise CheckpointError(
            f"{where} has method={method!r:.80}, expected one of {METHODS}."
        )
    assert isinstance(names, list)
    return names, str(method)


def check_head(
    arrays: Mapping[str, np.ndarray], channels: int, num_classes: int, where: str
) -> None:
    """Refuses a head that is not that of the encoder and the classes beside it.

    Raises:
        CheckpointError: naming what is wrong.
    """
    shapes = {
        "mean": (channels,),
        "deviation": (channels,),
        "kernel": (channels, num_classes),
        "bias": (num_classes,),
    }
    found = {name: array.shape for name, array in arrays.items()}
    if found != shapes:
        raise CheckpointError(
            f"{where} has a head of {found}, expected {shapes} for its encoder and "
            f"{num_classes} classes. Save it again."
        )
    for name, array in arrays.items():
        if array.dtype != np.float32 or not np.isfinite(array).all():
            raise CheckpointError(
                f"{where} has values in {name} that are NaN, infinite or no float32."
            )
    if not (arrays["deviation"] > 0).all():
        raise CheckpointError(f"{where} has deviations that are not above 0.")
