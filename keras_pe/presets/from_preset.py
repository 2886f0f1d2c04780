"""Builds models, tokenizers and converters from a handle."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras

from keras_pe.folder_reading import read_directory
from keras_pe.presets.assign import build_unfilled, fill, rule
from keras_pe.presets.checksums import read_metadata, read_verified
from keras_pe.presets.hub import CONFIG, Location, Need, known_preset, resolve
from keras_pe.presets.inspect import CheckpointInfo, describe, inspect_checkpoint
from keras_pe.presets.load import load_open
from keras_pe.presets.manifest import model_variables
from keras_pe.presets.open_checkpoint import open_checkpoint
from keras_pe.presets.preset_weights import PresetWeights
from keras_pe.presets.report import CheckpointError
from keras_pe.presets.serialized import (
    ANSWERING,
    DUAL,
    LANG,
    MODELS,
    POLICY_NAME,
    TEXT,
    VISION,
    build,
    check,
    class_named,
    family_of,
    set_dtype,
)


def load_preset(
    cls: Any,
    handle: str | os.PathLike[str],
    *,
    dtype: Any = None,
    image_size: int | None = None,
    load_weights: bool = True,
) -> Any:
    """Builds a model and loads its weights.

    Args:
        cls: the class of a model, or a subclass of one; `PEVisionEncoder` takes any
            vision encoder, and the vision tower of a dual encoder.
        handle: see `keras_pe.presets.hub.resolve`.
        dtype: a floating point dtype or policy; without it a policy other than float32
            that was set by `keras.config.set_dtype_policy` counts, then the preset's
            own.
        image_size: pixels; of foreign checkpoints only, whose position embedding is
            resampled.
        load_weights: whether the preset's weights are loaded. Without, the model starts
            at random, and no weights of known presets are downloaded.

    Returns:
        The model.

    Raises:
        CheckpointError: if there is no such preset, it is of another family (says
            which class loads it), a file is damaged, or an override does not work.

    Example:
        >>> from keras_pe import PECore
        >>> load_preset(PECore, "pe_core_large_patch14_336")    # doctest: +SKIP
    """
    overrides = _global_policy() if dtype is None else {"dtype": dtype}
    if image_size is not None:
        overrides["image_size"] = image_size
    _check_dtype(overrides)
    family = family_of(cls)
    preset = known_preset(handle)
    if preset is not None:  # a wrong class is no reason to download gigabytes
        _check_family(cls, str(handle), preset.class_name)
    need: Need = "weights" if load_weights else "config"
    location = resolve(handle, need, vision_only=family == VISION)
    if location.directory is not None:
        return read_directory(
            location.directory,
            lambda place: _load_own(
                cls, place, location.handle, overrides, load_weights
            ),
            (CheckpointError, OSError),
        )
    if location.checkpoint is None:  # known from the table
        return _foreign_builder(cls, location, None, overrides)()
    with open_checkpoint(location.checkpoint) as reader:
        build_model = _foreign_builder(cls, location, describe(reader), overrides)
        if not load_weights:
            return build_model()
        model = build_unfilled(build_model)
        resample = "image_size" in overrides
        load_open(model, reader, resample_positions=resample, fresh=True)
        return model


def load_tokenizer(cls: Any, handle: str | os.PathLike[str]) -> Any:
    """Builds the tokenizer of a dual encoder; downloads no weights of known presets.

    Args:
        cls: `PETokenizer`.
        handle: see `keras_pe.presets.hub.resolve`.

    Returns:
        The tokenizer.

    Raises:
        CheckpointError: if the model reads no text.

    Example:
        >>> from keras_pe import PETokenizer
        >>> load_tokenizer(PETokenizer, "PE-Core-G14-448").context_length
        72
    """
    location = resolve(handle, need="config")
    if location.directory is not None:
        return _load_object(cls, location.directory, "tokenizer.json", "PETokenizer")
    _, text = _foreign_configs(location)
    if text is None:
        raise CheckpointError(
            f"{location.handle} is a vision encoder and reads no text, so it has no "
            f"tokenizer. Dual encoders (pe_core_...) have one."
        )
    return cls(
        context_length=text["context_length"], vocabulary_size=text["vocabulary_size"]
    )


def load_image_converter(cls: Any, handle: str | os.PathLike[str]) -> Any:
    """Builds the image converter of a model; downloads no weights of known presets.

    Args:
        cls: `PEImageConverter`.
        handle: see `keras_pe.presets.hub.resolve`.

    Returns:
        The converter, for the model's image size.

    Raises:
        CheckpointError: if there is no such preset, or it has no converter.

    Example:
        >>> from keras_pe import PEImageConverter
        >>> load_image_converter(PEImageConverter, "PE-Core-L14-336").image_size
        (336, 336)
    """
    location = resolve(handle, need="config")
    if location.directory is not None:
        name = "image_converter.json"
        return _load_object(cls, location.directory, name, "PEImageConverter")
    vision, _ = _foreign_configs(location)
    return cls(image_size=vision["image_size"])


def load_video_converter(
    cls: Any, image_class: Any, handle: str | os.PathLike[str]
) -> Any:
    """Builds the video converter of a model; downloads no weights of known presets.

    A preset without one of its own has its frames prepared as its images are.

    Args:
        cls: `PEVideoConverter`.
        image_class: `PEImageConverter`.
        handle: see `keras_pe.presets.hub.resolve`.

    Returns:
        The converter, for the model's image size.

    Raises:
        CheckpointError: if there is no such preset, or it has neither converter.

    Example:
        >>> from keras_pe import PEImageConverter, PEVideoConverter
        >>> load_video_converter(
        ...     PEVideoConverter, PEImageConverter, "PE-Core-L14-336").num_frames
        8
    """
    name = "video_converter.json"
    location = resolve(handle, need="config")
    directory = location.directory

    def load(place: Path) -> Any:
        if name in read_metadata(place)["files"]:
            return _read_object(cls, place, name, "PEVideoConverter")
        return None

    if directory is not None:
        found = read_directory(directory, load, (CheckpointError, OSError))
        if found is not None:
            return found
    return cls(**load_image_converter(image_class, handle).get_config())


# === Presets of our own format ===
def _load_own(
    cls: Any,
    directory: Path,
    handle: str,
    overrides: Mapping[str, Any],
    load_weights: bool,
) -> Any:
    if "image_size" in overrides:
        raise CheckpointError(
            f"image_size can't be changed for {handle}, a preset of keras_pe. It is "
            f"not needed: the loaded model takes images of any size in whole patches."
        )
    metadata = read_metadata(directory)
    config = read_verified(directory, CONFIG, metadata)
    where = f"{directory / CONFIG}"
    found = check(config, where, MODELS)
    _check_family(cls, handle, found)
    family = family_of(cls)
    if "dtype" in overrides:
        set_dtype(config["config"], overrides["dtype"])
    build_class = cls if found == family else class_named(found, where)
    if load_weights:
        # All is compared before a single weight is allocated.
        with PresetWeights(directory, metadata, config) as weights:
            model = build_unfilled(lambda: build(build_class, config, where))
            infos = weights.tensors.items()
            rules = [rule(name, info.shape, name) for name, info in infos]
            fill(weights, rules, model_variables(model), fresh=True)
    else:
        model = build(build_class, config, where)
    return model.vision_encoder if (family, found) == (VISION, DUAL) else model


def _load_object(cls: Any, directory: Path, name: str, class_name: str) -> Any:
    return read_directory(
        directory,
        lambda place: _read_object(cls, place, name, class_name),
        (CheckpointError, OSError),
    )


def _read_object(cls: Any, directory: Path, name: str, class_name: str) -> Any:
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
    return build(cls, config, where)


# === Checkpoints of other projects ===
def _foreign_builder(
    cls: Any,
    location: Location,
    info: CheckpointInfo | None,
    overrides: Mapping[str, Any],
) -> Callable[[], Any]:
    """Returns what builds the model of another project's checkpoint."""
    family, foreign = family_of(cls), _foreign_family(location, info)
    pools = info is None or info.vision_config["pooling"] is not None
    if foreign == VISION and family != DUAL and not pools:
        foreign = family  # it could be of any kind: what the user says counts
    _check_family(cls, location.handle, foreign)
    vision, text = _foreign_configs(location, info)
    vision = {**vision, **overrides}
    if (family, foreign) == (VISION, DUAL):
        foreign = VISION
    build_class = cls if foreign == family else class_named(foreign)
    dtype = {key: overrides[key] for key in overrides if key == "dtype"}

    def build_model() -> Any:
        try:
            if foreign != DUAL:
                return build_class(**vision)
            text_encoder = class_named(TEXT)(**{**(text or {}), **dtype})
            return build_class(class_named(VISION)(**vision), text_encoder)
        except (ValueError, TypeError) as error:
            raise CheckpointError(
                f"{location.handle} can't be built: {error}"
            ) from error

    return build_model


def _foreign_family(location: Location, info: CheckpointInfo | None) -> str:
    """Returns the class of a foreign checkpoint, as far as it can be known."""
    if location.preset is not None:
        return location.preset.class_name
    assert info is not None
    if info.kind == "core":
        return DUAL
    architecture = info.architecture or ""
    if architecture.startswith("PE-Lang"):
        return "PELang"
    return "PESpatial" if architecture.startswith("PE-Spatial") else VISION


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
            f"keras_pe.presets.load_weights(model, path). The other arguments are "
            f"keras_pe.presets.inspect_checkpoint(path).vision_config."
        )
    return info.vision_config, info.text_config


# === Checks ===
def _global_policy() -> dict[str, Any]:
    """Returns the dtype policy that the user set for all of Keras, as an override."""
    policy = keras.config.dtype_policy()
    return {} if policy.name == "float32" else {"dtype": policy}


def _check_family(cls: Any, handle: str, found: str) -> None:
    """Refuses a class that does not load what was found; says which one does."""
    family = family_of(cls)
    if family in (VISION, found) or (family, found) == (LANG, ANSWERING):
        return
    package = "keras_pe.language" if found == ANSWERING else "keras_pe"
    loaders = [f"{package}.{found}.from_preset"]
    if found == DUAL:
        loaders.append(f"keras_pe.{VISION}.from_preset (its vision tower)")
    if found == ANSWERING:
        loaders.append(f"keras_pe.{LANG}.from_preset (its encoder)")
    raise CheckpointError(
        f"{handle} is a {found}, not a {cls.__name__}. Load it with "
        f"{' or '.join(loaders)}."
    )


def _check_dtype(overrides: Mapping[str, Any]) -> None:
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
