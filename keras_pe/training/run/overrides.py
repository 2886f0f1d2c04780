"""Settings by name: `--set learning_rate=1e-4 --set vision.num_layers=6`.

Every field of a configuration can be set, and every argument of the towers in it. The
types are those of the dataclass and of the towers' constructors.
"""

import dataclasses
import difflib
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from keras_pe.models.text_encoder import PETextEncoder
from keras_pe.models.vision_encoder import PEVisionEncoder
from keras_pe.training.resolution import ResolutionStage

# Fields that are constructor arguments, and whose.
TOWERS: dict[str, Callable[..., Any]] = {
    "vision": PEVisionEncoder,
    "text": PETextEncoder,
}
# Said elsewhere: `precision` and `remat` are of both towers.
NOT_OF_TOWERS = ("name", "dtype", "remat")


class SettingError(ValueError):
    """A setting that can't be: unknown, of another type, or given twice."""


def with_settings(config: Any, settings: Iterable[str]) -> Any:
    """Returns a configuration with settings changed.

    Args:
        config: a dataclass, such as `RunConfig`. A field that
            is a dataclass itself is reached as `student.seed`.
        settings: `name=value` each. Lists are written `a,b`, stages of resolution
            `48:600000,64:400000` (image size and samples), nothing at all `none`.

    Returns:
        The new configuration.

    Raises:
        SettingError: for an unknown name (the nearest one is named), a value of
            another type, or a name that is set twice.

    Example:
        >>> from keras_pe.training.run.config import RunConfig, small_towers
        >>> from keras_pe.training.run.training_config import stages_of
        >>> towers = small_towers(64, width=32, layers=2, text_layers=1)
        >>> config = RunConfig(**towers, stages=stages_of(640, (48, 64), (3, 2)))
        >>> changed = with_settings(config, ["seed=3", "vision.num_layers=6"])
        >>> changed.seed, changed.vision["num_layers"]
        (3, 6)
    """
    kinds = setting_kinds(config)
    changes: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        name = name.strip()
        if not equals:
            raise SettingError(
                f"{setting!r}: expected name=value, such as seed=3. --settings lists "
                "the names."
            )
        if name not in kinds:
            raise SettingError(_unknown(name, kinds))
        if name in changes:
            raise SettingError(f"{name} is set twice. Set it once.")
        changes[name] = parse_value(text.strip(), kinds[name], name)
    return _replaced(config, changes)


def setting_kinds(config: Any, prefix: str = "") -> dict[str, Any]:
    """Returns the type of every setting of a configuration, by its dotted name.

    Args:
        config: a dataclass.
        prefix: what stands before the names.

    Example:
        >>> from keras_pe.training.run.config import RunConfig, small_towers
        >>> from keras_pe.training.run.training_config import stages_of
        >>> towers = small_towers(64, width=32, layers=2, text_layers=1)
        >>> config = RunConfig(**towers, stages=stages_of(640, (48, 64), (3, 2)))
        >>> setting_kinds(config)["text.num_layers"]
        <class 'int'>
    """
    hints = typing.get_type_hints(type(config))
    kinds: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        name, value = prefix + field.name, getattr(config, field.name)
        if field.name in TOWERS:
            for argument, kind in tower_arguments(field.name).items():
                kinds[f"{name}.{argument}"] = kind
        elif dataclasses.is_dataclass(value):
            kinds |= setting_kinds(value, name + ".")
        else:
            kinds[name] = hints[field.name]
    return kinds


def tower_arguments(tower: str) -> dict[str, Any]:
    """Returns the type of each constructor argument of a tower, by its name.

    Args:
        tower: "vision" or "text".

    Example:
        >>> tower_arguments("text")["vocabulary_size"]
        <class 'int'>
    """
    constructor = TOWERS[tower].__init__
    hints = typing.get_type_hints(constructor)
    names = inspect.signature(constructor).parameters
    return {
        name: hints[name]
        for name in names
        if name in hints and name not in NOT_OF_TOWERS
    }


def setting_values(config: Any) -> dict[str, str]:
    """Returns every setting of a configuration as it is written after `--set`.

    Args:
        config: a dataclass.

    Example:
        >>> from keras_pe.training.run.config import RunConfig, small_towers
        >>> from keras_pe.training.run.training_config import stages_of
        >>> towers = small_towers(64, width=32, layers=2, text_layers=1)
        >>> config = RunConfig(**towers, stages=stages_of(640, (48, 64), (3, 2)))
        >>> setting_values(config)["stages"]
        '48:384,64:256'
    """
    values = {}
    for name in setting_kinds(config):
        value: Any = config
        for part in name.split("."):
            if isinstance(value, dict):
                value = value.get(part, inspect.Parameter.empty)
            else:
                value = getattr(value, part)
        if value is not inspect.Parameter.empty:
            values[name] = _written(value)
    return values


# === Values ===
def parse_value(text: str, kind: Any, name: str) -> Any:
    """Reads a value of a type.

    Args:
        text: as written after `=`.
        kind: the annotation of the field.
        name: of the setting, for the error.

    Raises:
        SettingError: if the text is no such value.

    Example:
        >>> parse_value("1e-3", float, "learning_rate"), parse_value("a,b", tuple[
        ...     str, ...], "lamb_exclude"), parse_value("none", int | None, "chunk")
        (0.001, ('a', 'b'), None)
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if text.lower() == "none" and type(None) in arguments:
            return None
        kinds = [each for each in arguments if each is not type(None)]
        return parse_value(text, kinds[0], name)
    try:
        if origin is Literal:
            return _choice(text, arguments)
        if origin in (tuple, Sequence):
            items = [item.strip() for item in text.split(",") if item.strip()]
            return tuple(parse_value(item, arguments[0], name) for item in items)
        return _READERS[kind](text)
    except SettingError:
        raise
    except (ValueError, OverflowError) as error:
        raise SettingError(f"{name}={text!r}: {error}") from None


def _choice(text: str, choices: tuple[Any, ...]) -> Any:
    if text not in choices:
        raise ValueError(f"expected {' or '.join(map(str, choices))}.")
    return text


def _bool(text: str) -> bool:
    words = {"true": True, "yes": True, "1": True} | {
        "false": False,
        "no": False,
        "0": False,
    }
    if text.lower() not in words:
        raise ValueError("expected true or false.")
    return words[text.lower()]


def _int(text: str) -> int:
    try:
        number = float(text)  # also 1e6
        if number.is_integer():
            return int(text) if text.lstrip("+-").isdigit() else int(number)
    except (ValueError, OverflowError):
        pass
    raise ValueError("expected a whole number.")


def _float(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if number - number != 0:  # NaN and infinity
        raise ValueError("expected a number.")
    return number


def _stage(text: str) -> ResolutionStage:
    size, colon, samples = text.partition(":")
    if not colon:
        raise ValueError(
            "expected image sizes and samples, such as 48:600000,64:400000."
        )
    return ResolutionStage(_int(size), _int(samples))


_READERS: dict[Any, Callable[[str], Any]] = {
    int: _int,
    float: _float,
    bool: _bool,
    str: str,
    ResolutionStage: _stage,
}


def _written(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ",".join(map(_written, value))
    if isinstance(value, ResolutionStage):
        return f"{value.image_size}:{value.samples}"
    return (
        str(value).lower() if value is None or isinstance(value, bool) else f"{value}"
    )


# === Names ===
def _unknown(name: str, kinds: dict[str, Any]) -> str:
    whole = sorted(each for each in kinds if each.startswith(name + "."))
    if whole:
        return f"{name} is set by its parts, such as --set {whole[0]}=..."
    near = difflib.get_close_matches(name, kinds, n=3, cutoff=0.6)
    if not near:  # "num_layers" for "vision.num_layers"
        near = [each for each in kinds if each.rpartition(".")[2] == name]
    meant = f"Did you mean {' or '.join(near)}?" if near else "--settings lists them."
    return f"There is no setting {name!r}. {meant}"


def _replaced(config: Any, changes: dict[str, Any]) -> Any:
    """Returns a dataclass with values changed, which have dotted names."""
    direct: dict[str, Any] = {}
    inner: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        head, dot, rest = name.partition(".")
        if dot:
            inner.setdefault(head, {})[rest] = value
        else:
            direct[head] = value
    for head, values in inner.items():
        old = getattr(config, head)
        if isinstance(old, dict):
            direct[head] = {**old, **values}
        else:
            direct[head] = _replaced(old, values)
    return dataclasses.replace(config, **direct)
