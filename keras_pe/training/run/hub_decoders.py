"""Language models of KerasHub in a run: as plans count them, and whether they run."""

import contextlib
import importlib
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from keras_pe.language.foreign import HUB
from keras_pe.language.kerashub import KerasHubDecoder
from keras_pe.language.kerashub_preset import hub_decoder, hub_prompt
from keras_pe.layers.initializers import without_allocation
from keras_pe.presets.report import CheckpointError
from keras_pe.training.run.overrides import SettingError

# Class and constructor arguments of published models, for plans without a download.
# Llama 3.2's own embedding is tied; KerasHub's presets hold it twice (3.61 B weights,
# not 3.21 B). Source: the models' cards and config.json on the Hugging Face hub.
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

    Of most, KerasHub is asked for the sizes, which it may fetch.

    Raises:
        SettingError: if its sizes are not known, or KerasHub is not installed.
    """
    require_kerashub(f"{HUB}{preset}")
    if preset not in SIZES:
        try:
            return hub_decoder(preset, max_length, dtype, load_weights=False)
        except (CheckpointError, ImportError) as error:
            raise SettingError(
                f"decoder={HUB}{preset}: a plan knows the sizes of {', '.join(SIZES)} "
                f"without a download. {error}"
            ) from error
    kind, arguments = SIZES[preset]
    backbone = getattr(importlib.import_module("keras_hub").models, kind)
    return KerasHubDecoder(backbone(**arguments, dtype=dtype), max_length)


def check_hub_decoder(preset: str, asked: bool = True) -> None:
    """Refuses a language model of KerasHub that can't be run, before its weights come.

    Args:
        preset: of KerasHub.
        asked: whether its own vocabulary is needed.

    Raises:
        SettingError: if KerasHub is not installed or does not have it, its family is
            not known, or it has no vocabulary with the marks of a known template.
    """
    require_kerashub(f"{HUB}{preset}")
    with said_of(f"{HUB}{preset}"):
        with without_allocation():
            decoder = hub_decoder(preset, load_weights=False)
        if asked:
            hub_prompt(preset, decoder, image_tokens=1)


@contextlib.contextmanager
def said_of(decoder: str) -> Iterator[None]:
    """Says of the setting `decoder` why a language model can't be had.

    Raises:
        SettingError: instead of what says it of a file.
    """
    try:
        yield
    except (CheckpointError, ImportError) as error:
        raise SettingError(
            f"decoder={decoder}: {error} Or --set decoder=small."
        ) from error
