"""What an export needs beside keras_pe, imported where it is used."""

import importlib
from typing import Any

# import name -> name in the package index, if another
_PACKAGES = {"ai_edge_litert.interpreter": "ai-edge-litert"}


def require(name: str) -> Any:
    """Imports a package that only exports need.

    Args:
        name: as it is imported.

    Returns:
        The module.

    Raises:
        ImportError: saying what to install.

    Example:
        >>> require("json").__name__
        'json'
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = _PACKAGES.get(name, name.partition(".")[0])
        raise ImportError(
            f"This export needs {package}, which can't be imported ({error}). Install "
            f'it with pip install "keras-pe[export]", or alone with pip install '
            f"{package}."
        ) from error
