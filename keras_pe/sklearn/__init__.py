"""For scikit-learn's pipelines, which is imported on first use."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_pe.sklearn.transformer import PETransformer

__all__ = ["PETransformer"]


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.transformer")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "sklearn":
            raise
        raise ImportError(
            f"keras_pe.sklearn.{name} needs scikit-learn: pip install scikit-learn."
        ) from error
    return getattr(module, name)
