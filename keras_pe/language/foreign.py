"""Language models that come from elsewhere, by one name: `hub:PRESET`, `gguf:FILE`."""

from typing import Any

from keras_pe.language.chat_prompt import ChatPrompt
from keras_pe.language.gguf_llama import llama_decoder, llama_prompt
from keras_pe.language.kerashub import KerasHubDecoder
from keras_pe.language.kerashub_preset import hub_decoder, hub_prompt

GGUF = "gguf:"  # and the path of a file
HUB = "hub:"  # and a preset of KerasHub's


def foreign_decoder(
    name: str, max_length: int = 4096, dtype: Any = None
) -> KerasHubDecoder:
    """Returns the language model of a name.

    Args:
        name: "hub:" and what `hub_decoder` takes, or "gguf:" and the path of a Llama's
            GGUF file.
        max_length: most tokens of a sequence.
        dtype: dtype or policy of the model.

    Raises:
        ValueError: if the name is neither, or there is no such model.
        ImportError: if what it needs is not installed.

    Example:
        >>> import keras_hub
        >>> backbone = keras_hub.models.Llama3Backbone(
        ...     vocabulary_size=60, num_layers=1, hidden_dim=16, intermediate_dim=32,
        ...     num_query_heads=2, num_key_value_heads=1)
        >>> backbone.save_to_preset("llama")
        >>> decoder = foreign_decoder("hub:llama")    # or "hub:llama3.2_instruct_1b"
        >>> decoder.vocabulary_size
        60
    """
    path = after(GGUF, name)
    if path is not None:
        return llama_decoder(path, max_length, dtype)
    return hub_decoder(_preset(name), max_length, dtype)


def foreign_prompt(
    name: str, decoder: KerasHubDecoder, image_tokens: int
) -> ChatPrompt:
    """Returns how the language model of a name is asked.

    Args:
        name: as of `foreign_decoder`.
        decoder: what that gave.
        image_tokens: tokens of an image.

    Raises:
        ValueError: if the name is neither, or no template is known for it.
        ImportError: if what it needs is not installed.

    Example:
        >>> import keras_hub
        >>> from tokenizers.pre_tokenizers import ByteLevel
        >>> marks = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
        >>> words = [*sorted(ByteLevel.alphabet()), "th", *marks]
        >>> ids = {word: number for number, word in enumerate(words)}
        >>> keras_hub.models.QwenBackbone(vocabulary_size=len(words), num_layers=1,
        ...     hidden_dim=16, intermediate_dim=32, num_query_heads=2,
        ...     num_key_value_heads=1).save_to_preset("qwen")
        >>> keras_hub.tokenizers.QwenTokenizer(ids, ["t h"]).save_to_preset("qwen")
        >>> decoder = foreign_decoder("hub:qwen")
        >>> foreign_prompt("hub:qwen", decoder, image_tokens=4).image_tokens
        4
    """
    path = after(GGUF, name)
    if path is not None:
        return llama_prompt(path, image_tokens)
    return hub_prompt(_preset(name), decoder, image_tokens)


def after(prefix: str, name: str) -> str | None:
    """Returns what stands behind a prefix, or None where it is another one.

    Example:
        >>> after(HUB, "hub:llama3.2_instruct_1b"), after(HUB, "small")
        ('llama3.2_instruct_1b', None)
    """
    return name.removeprefix(prefix) if name.startswith(prefix) else None


def _preset(name: str) -> str:
    found = after(HUB, name)
    if not found:
        raise ValueError(
            f"{name!r} names no language model: expected {HUB}PRESET or {GGUF}FILE."
        )
    return found
