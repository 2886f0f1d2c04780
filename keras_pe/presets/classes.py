"""The classes that a preset may hold, by name, as Keras' registry has them.

Presets lie below models and know none of them: a class asks for its own weights, and
one that a file names is looked up where every class of ours registers itself.
"""

from typing import Any

import keras

from keras_pe.presets.report import CheckpointError
from keras_pe.version import __version__

PREFIX = "keras_pe>"
DUAL = "PECore"
VISION = "PEVisionEncoder"
TEXT = "PETextEncoder"
MODELS = (DUAL, VISION, "PELang", "PESpatial")  # what a preset holds
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
