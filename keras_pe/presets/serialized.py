"""Keras objects in JSON, as data: only classes of keras_pe are ever made from it.

Presets lie below models and know none of them: a class asks for its own weights, and
one that a file names is looked up where every class of ours registers itself.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import keras

from keras_pe.layers.fine_tuning import STATE_KEYS
from keras_pe.presets.report import CheckpointError
from keras_pe.version import __version__

# === The classes that a preset may hold ===
PREFIX = "keras_pe>"
DUAL = "PECore"
VISION = "PEVisionEncoder"
TEXT = "PETextEncoder"
LANG = "PELang"
MODELS = (DUAL, VISION, LANG, "PESpatial")  # what a preset holds
ANSWERING = "VisionLanguageModel"  # whose preset is that of its encoder, with more
PARTS = (TEXT,)
CONVERTERS = ("PETokenizer", "PEImageConverter", "PEVideoConverter")


def registered(name: str) -> str:
    """Returns the name under which Keras knows a class of ours."""
    return PREFIX + name


def class_named(name: str, where: str = "the preset") -> Any:
    """Returns one of our classes.

    Args:
        name: such as "PECore".
        where: what names it, for the error.

    Raises:
        CheckpointError: if this version of keras_pe has no such class.

    Example:
        >>> class_named("PETextEncoder").__name__
        'PETextEncoder'
    """
    cls = keras.saving.get_registered_object(registered(name))
    if cls is None:
        raise CheckpointError(
            f"{where} describes a {name}, which keras_pe {__version__} does not have. "
            f"Update keras_pe."
        )
    return cls


def family_of(cls: type) -> str:
    """Returns the most special name in `MODELS` of a class or of what it extends.

    Raises:
        CheckpointError: if it is no model of ours.

    Example:
        >>> import keras_pe
        >>> class Mine(keras_pe.PELang): ...
        >>> family_of(Mine)
        'PELang'
    """
    for base in cls.__mro__:
        name = keras.saving.get_registered_name(base).removeprefix(PREFIX)
        if name in MODELS and base is class_named(name):
            return name
    raise CheckpointError(
        f"{cls.__name__} is no model of keras_pe, expected one of "
        f"{', '.join(MODELS)} or a subclass."
    )


# === Their configurations ===
# Keys that make Keras treat a mapping as an object to build.
OBJECT_KEYS = {"class_name", "registered_name", "module"}
# A preset holds an architecture and weights, nothing of how somebody trained them.
FORBIDDEN_KEYS = {"compile_config", "build_config", "shared_object_id", *STATE_KEYS}
POLICY_NAME = re.compile(r"(mixed_)?(float16|float32|float64|bfloat16)")
MAX_DEPTH = 16


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
    found = config.get("registered_name") if isinstance(config, dict) else None
    allowed = tuple(map(registered, classes))
    if not isinstance(found, str) or found not in allowed:
        raise CheckpointError(
            f"{where} describes {found or 'no Keras object'!r}, expected one of "
            f"{', '.join(allowed)}. keras_pe builds its own classes only."
        )
    _check_nested(config, where, 0)
    return found.removeprefix(PREFIX)


def build(cls: Any, config: Mapping[str, Any], where: str) -> Any:
    """Builds a checked configuration as `cls`.

    A class may say what of its configuration a file decides: `narrowed(config, where)`.
    """
    narrowed = getattr(cls, "narrowed", None)
    try:
        values = config["config"]
        return cls.from_config(narrowed(values, where) if narrowed else values)
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        reason = str(error).rstrip(".")
        raise CheckpointError(
            f"{where} does not fit {cls.__name__}: {reason}. It may come from a newer "
            f"keras_pe: update it, or save the preset again."
        ) from error


def set_dtype(config: dict[str, Any], dtype: Any) -> None:
    """Sets the dtype policy in the configuration of a model and of its towers."""
    policy = keras.dtype_policies.serialize(keras.dtype_policies.get(dtype))
    towers = [
        config[key] for key in ("vision_encoder", "text_encoder") if key in config
    ]
    for tower in towers:
        tower["config"]["dtype"] = policy
    if not towers:
        config["dtype"] = policy


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
    registered_name = config.get("registered_name")
    inner = config.get("config")
    ours = (
        name in MODELS + PARTS + CONVERTERS
        and registered_name == registered(str(name))
        and isinstance(module, str)
        and module.split(".")[0] == "keras_pe"
        and isinstance(inner, dict)
    )
    policy = (
        name in ("DTypePolicy", "FloatDTypePolicy")
        and module == "keras"
        and registered_name is None
        and isinstance(inner, dict)
        and set(inner) == {"name"}
        and isinstance(inner["name"], str)
        and POLICY_NAME.fullmatch(inner["name"])
    )
    if not (ours or policy):
        raise CheckpointError(
            f"{where} asks for {module}.{name} (registered as {registered_name!r}), "
            f"expected classes of keras_pe and floating point dtype policies only. "
            f"Nothing was built."
        )


def _without(config: Any, keys: set[str]) -> Any:
    if isinstance(config, dict):
        return {k: _without(v, keys) for k, v in config.items() if k not in keys}
    if isinstance(config, list | tuple):
        return [_without(value, keys) for value in config]
    return config
