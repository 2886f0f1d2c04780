"""How an object of these classes is shown: as the call that makes it again."""

import inspect
from typing import Any


def shown_call(thing: Any) -> str:
    """Returns the call that makes a thing, with the arguments that are not the default.

    Args:
        thing: an object whose `get_config` gives its constructor's arguments.

    Example:
        >>> from keras_pe.preprocessing.tokenizer import PETokenizer
        >>> PETokenizer(context_length=8)
        PETokenizer(context_length=8)
    """
    parameters = inspect.signature(type(thing)).parameters
    shown = []
    for name, value in thing.get_config().items():
        value = _plain(value)
        if name not in parameters or value != _plain(parameters[name].default):
            shown.append(f"{name}={value!r}")
    return f"{type(thing).__name__}({', '.join(shown)})"


def _plain(value: Any) -> Any:
    """Returns lists, which JSON has, as the tuples that signatures have."""
    return tuple(value) if isinstance(value, list | frozenset | set) else value
