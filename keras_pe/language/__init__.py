"""Language models that read an encoder's tokens: what aligns it to language."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_pe.language.answers import AnswerCost, answer_cost
    from keras_pe.language.chat_prompt import ChatPrompt
    from keras_pe.language.chat_templates import ChatTemplate
    from keras_pe.language.decoder import Decoder
    from keras_pe.language.foreign import foreign_decoder, foreign_prompt
    from keras_pe.language.generation import generate
    from keras_pe.language.gguf_llama import llama_decoder, llama_prompt
    from keras_pe.language.kerashub import KerasHubDecoder
    from keras_pe.language.kerashub_preset import (
        hub_decoder,
        hub_prompt,
        save_hub_decoder,
    )
    from keras_pe.language.prompts import Prompt, QuestionPrompt
    from keras_pe.language.small_decoder import SmallDecoder
    from keras_pe.language.vision_language_model import VisionLanguageModel

__all__ = [
    "AnswerCost",
    "ChatPrompt",
    "ChatTemplate",
    "Decoder",
    "KerasHubDecoder",
    "Prompt",
    "QuestionPrompt",
    "SmallDecoder",
    "VisionLanguageModel",
    "answer_cost",
    "foreign_decoder",
    "foreign_prompt",
    "generate",
    "hub_decoder",
    "hub_prompt",
    "llama_decoder",
    "llama_prompt",
    "save_hub_decoder",
]

# Imported on first use: Keras is told of the small decoder whenever keras_pe is
# imported, and should not need all that answers questions for it.
_MODULES = {
    "AnswerCost": "answers",
    "ChatPrompt": "chat_prompt",
    "ChatTemplate": "chat_templates",
    "Decoder": "decoder",
    "KerasHubDecoder": "kerashub",
    "Prompt": "prompts",
    "QuestionPrompt": "prompts",
    "SmallDecoder": "small_decoder",
    "VisionLanguageModel": "vision_language_model",
    "answer_cost": "answers",
    "foreign_decoder": "foreign",
    "foreign_prompt": "foreign",
    "generate": "generation",
    "hub_decoder": "kerashub_preset",
    "hub_prompt": "kerashub_preset",
    "llama_decoder": "gguf_llama",
    "llama_prompt": "gguf_llama",
    "save_hub_decoder": "kerashub_preset",
}


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
