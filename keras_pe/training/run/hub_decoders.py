"""Language models of KerasHub by the names of their presets, as plans count them."""

import importlib
from importlib.util import find_spec
from typing import Any

from keras_pe.language.kerashub import KerasHubDecoder
from keras_pe.training.run.overrides import SettingError

# Class and constructor arguments of published models, for plans alone. Llama 3.2's own
# embedding is tied; KerasHub's presets hold it twice (3.61 B parameters, not 3.21 B).
# Source: the models' cards and config.json on the Hugging Face hub.
SIZES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama3.2_instruct_1b": (
        "Llama3Backbone",
        {
            "vocabulary_size": 128_256,
            "num_layers": 16,
            "num_query_heads": 32,
            "num_key_value_heads": 8,
            "hidden_dim": 2048,
            "intermediate_dim": 8192,
        },
    ),
    "llama3.2_instruct_3b": (
        "Llama3Backbone",
        {
            "vocabulary_size": 128_256,
            "num_layers": 28,
            "num_query_heads": 24,
            "num_key_value_heads": 8,
            "hidden_dim": 3072,
            "intermediate_dim": 8192,
        },
    ),
}


def require_kerashub(decoder: str) -> None:
    """Raises SettingError if KerasHub is not installed."""
    if find_spec("keras_hub") is None:
        raise SettingError(
            f"decoder={decoder}: it comes from KerasHub, which is not installed: "
            f"pip install keras-hub. Or --set decoder=small."
        )


def planned_hub_decoder(preset: str, max_length: int, dtype: str) -> KerasHubDecoder:
    """Returns a language model of a published one's sizes, with weights of its own.

    Raises:
        SettingError: if its sizes are not known, or KerasHub is not installed.
    """
    require_kerashub(f"hub:{preset}")
    if preset not in SIZES:
        raise SettingError(
            f"decoder=hub:{preset}: a plan knows the sizes of {', '.join(SIZES)}. Plan "
            f"with the nearest of them."
        )
    kind, arguments = SIZES[preset]
    backbone = getattr(importlib.import_module("keras_hub").models, kind)
    return KerasHubDecoder(backbone(**arguments, dtype=dtype), max_length)
