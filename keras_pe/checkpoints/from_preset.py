"""Builds models, tokenizers and converters from a handle."""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from keras_pe.checkpoints.checksums import read_metadata, read_verified
from keras_pe.checkpoints.deferred import build_unfilled
from keras_pe.checkpoints.hub import CONFIG, Location, known_preset, resolve
from keras_pe.checkpoints.inspect import CheckpointInfo, describe, inspect_checkpoint
from keras_pe.checkpoints.load import load_open
from keras_pe.checkpoints.preset_weights import PresetWeights, assign_weights
from keras_pe.checkpoints.reader import Reader, open_checkpoint
from keras_pe.checkpoints.report import CheckpointError
from keras_pe.checkpoints.serialized import MODELS, POLICY_NAME, build, build_as, check
from keras_pe.files import read_directory
from keras_pe.models.core import PECore
from keras_pe.models.lang import PELang
from keras_pe.models.spatial import PESpatial
from keras_pe.models.text_encoder import PETextEncoder
from keras_pe.models.vision_encoder import PEVisionEncoder

# Most special first: a PELang is a PEVisionEncoder too.
FAMILIES = (PECore, PELang, PESpatial, PEVisionEncoder)
OVERRIDES = ("dtype", "image_size")


def load_preset(cls: Any, handle: str | os.PathLike[str], **overrides: Any) -> Any:
    """Builds a model and loads its weights.

    Args:
        cls: `PECore`, `PELang`, `PESpatial`, `PEVisionEncoder` (any vision encoder, or
            the vision tower of a dual encoder), or a subclass of one.
        handle: see `keras_pe.checkpoints.hub.resolve`.
        overrides: `dtype`, a floating point dtype or policy; without it a policy
            other than float32 that was set by `keras.config.set_dtype_policy` counts,
            then the preset's own. `image_size`, of foreign checkpoints only, which
            resamples the position embedding.

    Returns:
        The model, with all of its weights.

    Raises:
        CheckpointError: if there is no such preset, it is of another family (says
            which class loads it), a file is damaged, or an override does not work.

    Example:
        >>> load_preset(PECore, "pe_core_large_patch14_336")    # doctest: +SKIP
    """
    overrides = {**_global_policy(), **overrides}
    _check_overrides(overrides)
    family = _family(cls)
    preset = known_preset(handle)
    if preset is not None:  # a wrong class is no reason to download gigabytes
        _check_family(cls, str(handle), _class_named(preset.class_name))
    location = resolve(handle, vision_only=family is PEVisionEncoder)
    if location.directory is not None:
        return read_directory(
            location.directory,
            lambda directory: _load_own(cls, directory, location.handle, overrides),
            (CheckpointError, OSError),
        )
    return _load_foreign(cls, location, overrides)


def load_tokenizer(handle: str | os.PathLike[str]) -> Any:
    """Builds the tokenizer of a dual encoder; downloads no weights of known presets.

    Args:
        handle: see `keras_pe.checkpoints.hub.resolve`.

    Returns:
        A `PETokenizer`.

    Raises:
        CheckpointError: if the model reads no text.

    Example:
        >>> load_tokenizer("PE-Core-G14-448").context_length
        72
    """
    from keras_pe.preprocessing.tokenizer import PETokenizer

    location = resolve(handle, need="config")
    if location.directory is not None:
        return _load_object(location.directory, "tokenizer.json", "PETokenizer")
    _, text = _foreign_configs(location)
    if text is None:
        raise CheckpointError(
            f"{location.handle} is a vision encoder and reads no text, so it has no "
            f"tokenizer. Dual encoders (pe_core_...) have one."
        )
    return PETokenizer(
        context_length=text["context_length"], vocabulary_size=text["vocabulary_size"]
    )


def load_image_converter(handle: str | os.PathLike[str]) -> Any:
    """Builds the image converter of a model; downloads no weights of known presets.

    Args:
        handle: see `keras_pe.checkpoints.hub.resolve`.

    Returns:
        A `PEImageConverter` for the model's image size.

    Raises:
        CheckpointError: if there is no such preset, or it has no converter.

    Example:
        >>> load_image_converter("pe_core_large_patch14_336").image_size
        (336, 336)
    """
    from keras_pe.preprocessing.image import PEImageConverter

    location = resolve(handle, need="config")
    if location.directory is not None:
        name = "image_converter.json"
        return _load_object(location.directory, name, "PEImageConverter")
    vision, _ = _foreign_configs(location)
    return PEImageConverter(image_size=vision["image_size"])


# === Presets of our own format ===
def _load_own(
    cls: Any, directory: Path, handle: str, overrides: Mapping[str, Any]
) -> Any:
    if "image_size" in overrides:
        raise CheckpointError(
            f"image_size can't be changed for {handle}, a preset of keras_pe. It is "
            f"not needed: the loaded model takes pictures of any size in whole patches."
        )
    metadata = read_metadata(directory)
    config = read_verified(directory, CONFIG, metadata)
    where = f"{directory / CONFIG}"
    preset_class = _class_named(check(config, where, MODELS))
    _check_family(cls, handle, preset_class)
    family = _family(cls)
    tower = family is PEVisionEncoder and preset_class is PECore
    if "dtype" in overrides:
        _set_dtype(config["config"], overrides["dtype"])
    same = preset_class is family
    # All is compared before a single weight is allocated.
    with PresetWeights(directory, metadata, config) as weights:
        model = build_unfilled(
            lambda: build_as(cls, config, where) if same else build(config, where)
        )
        assign_weights(model, weights, fresh=True)
    return model.vision_encoder if tower else model


def _load_object(directory: Path, name: str, class_name: str) -> Any:
    return read_directory(
        directory,
        lambda place: _read_object(place, name, class_name),
        (CheckpointError, OSError),
    )


def _read_object(directory: Path, name: str, class_name: str) -> Any:
    metadata = read_metadata(directory)
    if name not in metadata["files"]:
        raise CheckpointError(
            f"The preset {directory} has no {name}. Make a keras_pe.{class_name} with "
            f"arguments that fit the model, and save it along: "
            f"model.save_to_preset(directory, tokenizer=..., image_converter=...)."
        )
    config = read_verified(directory, name, metadata)
    where = f"{directory / name}"
    check(config, where, (class_name,))
    return build(config, where)


def _set_dtype(config: dict[str, Any], dtype: Any) -> None:
    policy = keras.dtype_policies.serialize(keras.dtype_policies.get(dtype))
    towers = [
        config[key] for key in ("vision_encoder", "text_encoder") if key in config
    ]
    for tower in towers:
        tower["config"]["dtype"] = policy
    if not towers:
        config["dtype"] = policy


# === Checkpoints of other projects ===
def _load_foreign(cls: Any, location: Location, overrides: Mapping[str, Any]) -> Any:
    assert location.checkpoint is not None
    with open_checkpoint(location.checkpoint) as reader:
        return _load_reader(cls, location, reader, overrides)


def _load_reader(
    cls: Any, location: Location, reader: Reader, overrides: Mapping[str, Any]
) -> Any:
    info = describe(reader)
    family, foreign = _family(cls), _foreign_family(location, info)
    pools = info.vision_config["pooling"] is not None
    if foreign is PEVisionEncoder and family is not PECore and not pools:
        foreign = family  # it could be of any kind: what the user says counts
    _check_family(cls, location.handle, foreign)
    vision, text = _foreign_configs(location, info)
    vision = {**vision, **overrides}
    if foreign is PECore and family is PEVisionEncoder:
        foreign = PEVisionEncoder
    build_class = cls if foreign is family else foreign
    dtype = {key: overrides[key] for key in overrides if key == "dtype"}

    def build_model() -> Any:
        if foreign is not PECore:
            return build_class(**vision)
        text_encoder = PETextEncoder(**{**(text or {}), **dtype})
        return build_class(PEVisionEncoder(**vision), text_encoder)

    try:
        model = build_unfilled(build_model)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{location.handle} can't be built: {error}") from error
    resample = "image_size" in overrides
    load_open(model, reader, resample_positions=resample, fresh=True)
    return model


def _foreign_family(location: Location, info: CheckpointInfo) -> Any:
    """Returns the class of a foreign checkpoint, as far as it can be known."""
    if location.preset is not None:
        return next(f for f in FAMILIES if f.__name__ == location.preset.class_name)
    if info.kind == "core":
        return PECore
    architecture = info.architecture or ""
    if architecture.startswith("PE-Lang"):
        return PELang
    return PESpatial if architecture.startswith("PE-Spatial") else PEVisionEncoder


def _foreign_configs(
    location: Location, info: CheckpointInfo | None = None
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Returns the constructor arguments of both towers."""
    if location.preset is not None:
        return location.preset.vision_config(), location.preset.text_config()
    assert location.checkpoint is not None
    info = info or inspect_checkpoint(location.checkpoint)
    if info.unknown_heads:
        raise CheckpointError(
            f"{location.handle} has sizes that no published model has, and weights do "
            f"not tell the number of attention heads. Build the model yourself with "
            f"the num_heads (and pooling_heads) that it was trained with, then call "
            f"keras_pe.checkpoints.load_weights(model, path). The other arguments are "
            f"keras_pe.checkpoints.inspect_checkpoint(path).vision_config."
        )
    return info.vision_config, info.text_config


# === Checks ===
def _global_policy() -> dict[str, Any]:
    """Returns the dtype policy that the user set for all of Keras, as an override."""
    policy = keras.config.dtype_policy()
    return {} if policy.name == "float32" else {"dtype": policy}


def _family(cls: Any) -> Any:
    for family in FAMILIES:
        if issubclass(cls, family):
            return family
    raise CheckpointError(
        f"{cls.__name__} is no model of keras_pe, expected one of "
        f"{', '.join(family.__name__ for family in FAMILIES)} or a subclass."
    )


def _class_named(name: str) -> Any:
    return next(family for family in FAMILIES if family.__name__ == name)


def _check_family(cls: Any, handle: str, found: Any) -> None:
    """Refuses a class that does not load what was found; says which one does."""
    family = _family(cls)
    if family is PEVisionEncoder or issubclass(found, family):
        return
    loaders = [f"keras_pe.{found.__name__}.from_preset"]
    if found is PECore:
        loaders.append("keras_pe.PEVisionEncoder.from_preset (its vision tower)")
    raise CheckpointError(
        f"{handle} is a {found.__name__}, not a {cls.__name__}. Load it with "
        f"{' or '.join(loaders)}."
    )


def _check_overrides(overrides: Mapping[str, Any]) -> None:
    unknown = sorted(set(overrides) - set(OVERRIDES))
    if unknown:
        near = difflib.get_close_matches(unknown[0], OVERRIDES, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise CheckpointError(
            f"from_preset can't change {', '.join(unknown)}: a preset's weights fit "
            f"one architecture. Expected nothing or {', '.join(OVERRIDES)}.{hint}"
        )
    if "dtype" in overrides:
        try:
            name = keras.dtype_policies.get(overrides["dtype"]).name
        except (ValueError, TypeError) as error:
            raise CheckpointError(
                f"dtype={overrides['dtype']!r} is no dtype: {error}"
            ) from error
        if not POLICY_NAME.fullmatch(name):
            raise CheckpointError(
                f"dtype={overrides['dtype']!r}: expected a floating point dtype or "
                f'policy such as "bfloat16". To quantise, load first, then call '
                f"model.quantize."
            )
