"""Keras objects in JSON, as data: only classes of keras_pe are ever made from it."""

import math
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import keras

from keras_pe.checkpoints.report import CheckpointError
from keras_pe.layers.layer_state import STATE_KEYS

PREFIX = "keras_pe>"
MODELS = ("PECore", "PEVisionEncoder", "PELang", "PESpatial")  # what a preset holds
PARTS = ("PETextEncoder",)
CONVERTERS = ("PETokenizer", "PEImageConverter", "PEVideoConverter")
# Keys that make Keras treat a mapping as an object to build.
OBJECT_KEYS = {"class_name", "registered_name", "module"}
# A preset holds an architecture and weights, nothing of how somebody trained them.
FORBIDDEN_KEYS = {"compile_config", "build_config", "shared_object_id", *STATE_KEYS}
POLICY_NAME = re.compile(r"(mixed_)?(float16|float32|float64|bfloat16)")
MAX_DEPTH = 16
MAX_PIXEL = 1e6  # of a picture after mean and std; published models have 1
MAX_CONTEXT = 65_536  # tokens of a text; Perception Encoder has 72


def serialize(item: Any) -> dict[str, Any]:
    """Returns a model, tokenizer or converter as JSON, in Keras' form.

    Args:
        item: an object of a class of keras_pe.

    Raises:
        CheckpointError: if its class can't be read back.
    """
    config = _without(keras.saving.serialize_keras_object(item), FORBIDDEN_KEYS)
    check(config, f"the configuration of {type(item).__name__}", MODELS + CONVERTERS)
    return config


def check(config: Any, where: str, classes: Iterable[str]) -> str:
    """Refuses a configuration that is anything but one of our objects.

    Args:
        config: a parsed JSON file.
        where: what to call it in the error.
        classes: names of the classes that it may be.

    Returns:
        Name of its class.

    Raises:
        CheckpointError: naming the offending class.
    """
    registered = config.get("registered_name") if isinstance(config, dict) else None
    allowed = tuple(classes)
    if not isinstance(registered, str) or registered not in map(_registered, allowed):
        raise CheckpointError(
            f"{where} describes {registered or 'no Keras object'!r}, expected one of "
            f"{', '.join(map(_registered, allowed))}. keras_pe builds its own classes "
            f"only."
        )
    _check_nested(config, where, 0)
    return registered.removeprefix(PREFIX)


def build(config: Mapping[str, Any], where: str) -> Any:
    """Builds the object of a checked configuration.

    Raises:
        CheckpointError: if its values do not fit the class.
    """
    import keras_pe

    name = str(config["registered_name"]).removeprefix(PREFIX)
    cls = getattr(keras_pe, name, None)
    if cls is None:
        raise CheckpointError(
            f"{where} describes a {name}, which keras_pe {keras_pe.__version__} does "
            f"not have. Update keras_pe."
        )
    return build_as(cls, config, where)


def build_as(cls: Any, config: Mapping[str, Any], where: str) -> Any:
    """Builds a checked configuration as `cls`; a file only narrows the defaults."""
    from keras_pe.preprocessing.untrusted_config import narrowed

    try:
        values = config["config"]
        if cls.__name__ in ("PEImageConverter", "PEVideoConverter"):
            values = narrowed(values, where)
            _check_scale(values)
        elif cls.__name__ == "PETokenizer":
            values = _narrowed_tokenizer(values, where)
        return cls.from_config(values)
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        reason = str(error).rstrip(".")
        raise CheckpointError(
            f"{where} does not fit {cls.__name__}: {reason}. It may come from a newer "
            f"keras_pe: update it, or save the preset again."
        ) from error


def _check_scale(config: Mapping[str, Any]) -> None:
    """Refuses a mean and a deviation by which pixels become no numbers of float32."""
    for mean, std in zip(
        config.get("mean", (0.5,)), config.get("std", (0.5,)), strict=False
    ):
        largest = max(abs(mean), abs(1 - mean)) / std if std else math.inf
        if not largest < MAX_PIXEL:
            raise ValueError(
                f"mean {mean} and std {std} make pixels of up to {largest:g}, expected "
                f"less than {MAX_PIXEL:g}"
            )


def _narrowed_tokenizer(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Returns a tokenizer's configuration with nothing in it that says less."""
    kept = dict(config)
    if kept.get("on_truncation") == "ignore":
        kept["on_truncation"] = "warn"
        warnings.warn(
            f"{where} asks for on_truncation='ignore', which a file does not decide: "
            f"cut texts are warned of. Make the PETokenizer yourself if you want it.",
            stacklevel=2,
        )
    if kept.get("context_length", 0) > MAX_CONTEXT:
        raise ValueError(
            f"context_length is {kept['context_length']} tokens, expected at most "
            f"{MAX_CONTEXT} from a file"
        )
    return kept


def _registered(name: str) -> str:
    return PREFIX + name


def _check_nested(config: Any, where: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise CheckpointError(f"{where} is nested deeper than {MAX_DEPTH} levels.")
    if isinstance(config, float) and not math.isfinite(config):
        raise CheckpointError(f"{where} holds {config}, expected finite numbers.")
    if isinstance(config, list):
        for value in config:
            _check_nested(value, where, depth + 1)
    if not isinstance(config, dict):
        return
    forbidden = FORBIDDEN_KEYS & set(config)
    if forbidden:
        raise CheckpointError(
            f"{where} has {', '.join(sorted(forbidden))}, expected an architecture "
            f"and nothing else. Save the preset with save_to_preset."
        )
    if OBJECT_KEYS & set(config):
        _check_object(config, where)
    for value in config.values():
        _check_nested(value, where, depth + 1)


def _check_object(config: dict[str, Any], where: str) -> None:
    name, module = config.get("class_name"), config.get("module")
    registered = config.get("registered_name")
    inner = config.get("config")
    ours = (
        name in MODELS + PARTS + CONVERTERS
        and registered == _registered(str(name))
        and isinstance(module, str)
        and module.split(".")[0] == "keras_pe"
        and isinstance(inner, dict)
    )
    policy = (
        name in ("DTypePolicy", "FloatDTypePolicy")
        and module == "keras"
        and registered is None
        and isinstance(inner, dict)
        and set(inner) == {"name"}
        and isinstance(inner["name"], str)
        and POLICY_NAME.fullmatch(inner["name"])
    )
    if not (ours or policy):
        raise CheckpointError(
            f"{where} asks for {module}.{name} (registered as {registered!r}), "
            f"expected classes of keras_pe and floating point dtype policies only. "
            f"Nothing was built."
        )


def _without(config: Any, keys: set[str]) -> Any:
    if isinstance(config, dict):
        return {k: _without(v, keys) for k, v in config.items() if k not in keys}
    if isinstance(config, list | tuple):
        return [_without(value, keys) for value in config]
    return config
