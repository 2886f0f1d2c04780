"""Language models of KerasHub by their presets: weights, vocabulary and template.

A preset is a name of KerasHub's, a handle of Kaggle or the Hugging Face Hub, or a
folder, such as `save_hub_decoder` writes.
"""

import json
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_pe.files import FilePath, write_directory
from keras_pe.language.chat_prompt import ChatPrompt, missing_marks
from keras_pe.language.chat_templates import (
    CHATML,
    GEMMA,
    LLAMA2,
    LLAMA3,
    MISTRAL,
    MISTRAL_V1,
    PHI3,
    QWEN,
    QWEN3,
    SMOLLM3,
    ChatTemplate,
)
from keras_pe.language.chat_tokenizers import ChatTokenizer, chat_tokenizer
from keras_pe.language.kerashub import KerasHubDecoder
from keras_pe.presets.report import CheckpointError
from keras_pe.presets.save import check_room

INSTALL = "pip install keras-hub"
# Of each family what its models were taught, the first one whose marks are tokens.
TAUGHT: dict[str, tuple[ChatTemplate, ...]] = {
    "LlamaBackbone": (CHATML, LLAMA2),
    "Llama3Backbone": (LLAMA3, CHATML),  # SmolLM2, as KerasHub reads it from hf://
    "MistralBackbone": (MISTRAL, MISTRAL_V1),
    "QwenBackbone": (QWEN,),
    "Qwen3Backbone": (QWEN3,),
    "GemmaBackbone": (GEMMA,),
    "Gemma3Backbone": (GEMMA,),
    "Phi3Backbone": (PHI3,),
    "SmolLM3Backbone": (SMOLLM3,),
}
CONFIG = "config.json"  # of KerasHub's presets
# What is written here of a model and its vocabulary, and no more.
WRITTEN = re.compile(
    r"(config|metadata|tokenizer)\.json|model(_\d+)?\.weights\.(h5|json)"
    r"|assets(/tokenizer(/(merges\.txt|vocabulary\.(json|spm)))?)?"
)


def hub_decoder(
    preset: str | os.PathLike[str],
    max_length: int = 4096,
    dtype: Any = None,
    load_weights: bool = True,
) -> KerasHubDecoder:
    """Returns the language model of a preset of KerasHub's.

    Args:
        preset: a name such as "llama3.2_instruct_1b", `kaggle://...`, `hf://...`, or a
            folder.
        max_length: most tokens of a sequence.
        dtype: dtype or policy of the model; None for Keras' own.
        load_weights: whether they are read; else they are drawn.

    Raises:
        ImportError: if KerasHub is missing.
        CheckpointError: if it can't be loaded, or is of a family that is not known.

    Example:
        >>> import keras_hub
        >>> backbone = keras_hub.models.Llama3Backbone(
        ...     vocabulary_size=60, num_layers=1, hidden_dim=16, intermediate_dim=32,
        ...     num_query_heads=2, num_key_value_heads=1)
        >>> backbone.save_to_preset("llama")
        >>> decoder = hub_decoder("llama", max_length=128)
        >>> type(decoder.backbone).__name__
        'Llama3Backbone'
    """
    models = _keras_hub().models
    options = {"load_weights": load_weights, "dtype": dtype}
    backbone = _loaded(
        preset, "model", lambda name: models.Backbone.from_preset(name, **options)
    )
    try:
        return KerasHubDecoder(backbone, max_length)
    except TypeError as error:
        raise CheckpointError(f"{preset}: {error}") from error


def hub_prompt(
    preset: str | os.PathLike[str], decoder: KerasHubDecoder, image_tokens: int
) -> ChatPrompt:
    """Returns how a language model is asked: with its vocabulary, in its template.

    The template is that of its family's chat models; those that were trained on text
    alone have the same vocabulary, and learn it if they are trained along. For another
    one make a `ChatPrompt`.

    Args:
        preset: whose vocabulary it is, as of `hub_decoder`.
        decoder: that it asks.
        image_tokens: tokens of an image.

    Raises:
        ImportError: if KerasHub, or a package that it needs for this, is missing.
        CheckpointError: if there is no vocabulary, or it is another model's or one
            without the template's marks.

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
        >>> prompt = hub_prompt("qwen", hub_decoder("qwen"), image_tokens=4)
        >>> prompt.text(prompt.answer("a cat"))
        'a cat'
    """
    words = _tokenizer(preset)
    try:
        tokenizer = chat_tokenizer(words)
        template = taught_template(decoder, tokenizer)
        prompt = ChatPrompt(
            tokenizer, image_tokens, template.told, template, decoder.vocabulary_size
        )
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{preset}: {error}") from error
    prompt.packs = decoder.packs
    return prompt


def taught_template(decoder: KerasHubDecoder, tokenizer: ChatTokenizer) -> ChatTemplate:
    """Returns what the chat models of a family were taught.

    Raises:
        CheckpointError: if a vocabulary does not have the marks of any of these.
    """
    kind = type(decoder.backbone).__name__
    lacking = []
    for template in TAUGHT[kind]:
        missing = missing_marks(tokenizer, template)
        if not missing:
            return template
        lacking.append(f"{template.name} ({', '.join(missing)})")
    raise CheckpointError(
        f"The vocabulary of this {kind} lacks marks of {' and of '.join(lacking)}, by "
        f"which chat models of its kind are asked: it is a model of text alone. Take "
        f"one that was taught to chat, an instruct model, or make a ChatPrompt with a "
        f"ChatTemplate of your own."
    )


def save_hub_decoder(
    decoder: KerasHubDecoder, directory: FilePath, preset: str | None = None
) -> None:
    """Writes a language model as a preset of KerasHub's, whole or not at all.

    One that was written before is replaced; anything else is left alone.

    Args:
        decoder: that was trained.
        directory: where; made if missing.
        preset: whose vocabulary is written along, with a warning if it has none; None
            for none.

    Raises:
        CheckpointError: if the directory holds something else.
        OSError: if it can't be written there, or the disk has no room for it.

    Example:
        >>> import keras_hub
        >>> backbone = keras_hub.models.Llama3Backbone(
        ...     vocabulary_size=60, num_layers=1, hidden_dim=16, intermediate_dim=32,
        ...     num_query_heads=2, num_key_value_heads=1)
        >>> save_hub_decoder(KerasHubDecoder(backbone), "decoder")
        >>> hub_decoder("decoder").vocabulary_size
        60
    """
    _check_target(Path(directory))
    with write_directory(directory) as aside:
        check_room(decoder, aside)
        decoder.backbone.save_to_preset(os.fspath(aside))
        # 0.32 leaves out of a Llama's what its weights can't be read without.
        path = aside / CONFIG
        found = json.loads(path.read_text(encoding="utf-8"))
        found["config"] = decoder.get_config()["backbone"]["config"] | found["config"]
        path.write_text(json.dumps(found, indent=4), encoding="utf-8")
        if preset is None:
            return
        try:
            words = _tokenizer(preset)
        except CheckpointError as error:  # what was trained is worth more
            warnings.warn(f"{directory} has no vocabulary. {error}", stacklevel=2)
        else:
            words.save_to_preset(os.fspath(aside))


def _check_target(target: Path) -> None:
    """Refuses a folder with anything in it that was not written here."""
    if not target.is_dir():
        return
    names = sorted(path.relative_to(target).as_posix() for path in target.rglob("*"))
    others = [name for name in names if not WRITTEN.fullmatch(name)]
    if names and not others and _family(target) not in TAUGHT:
        others = names
    if others:
        raise CheckpointError(
            f"{target} holds what is no language model that save_hub_decoder wrote "
            f"({', '.join(others[:5])}), and it would be deleted. Give another "
            f"directory, or empty this one."
        )


def _family(preset: Path) -> Any:
    """Returns the class that a preset says its model is of, or None."""
    try:
        found = json.loads((preset / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found.get("class_name") if isinstance(found, dict) else None


# === What KerasHub is asked ===
def _keras_hub() -> Any:
    try:
        import keras_hub
    except ModuleNotFoundError as error:
        raise ImportError(
            f"A language model of KerasHub needs {error.name}, which is not installed: "
            f"{INSTALL}."
        ) from error
    return keras_hub


def _tokenizer(preset: str | os.PathLike[str]) -> Any:
    load = _keras_hub().tokenizers.Tokenizer.from_preset
    return _loaded(preset, "tokenizer", load)


def _local(preset: str | os.PathLike[str]) -> str:
    """Returns a preset as KerasHub takes it: it does not know ~."""
    name = os.fspath(preset)
    path = Path(name).expanduser()
    return str(path) if path.is_dir() else name


def _loaded(
    preset: str | os.PathLike[str], what: str, load: Callable[[str], Any]
) -> Any:
    """Returns what KerasHub loads, or says in a sentence why it does not."""
    try:
        return load(_local(preset))
    except ImportError:
        raise
    except Exception as error:  # of KerasHub, Kaggle, the Hub or the network
        lines = str(error).strip().splitlines() or [""]
        raise CheckpointError(
            f"KerasHub loads no {what} from {os.fspath(preset)!r} "
            f"({type(error).__name__}: {lines[0].rstrip('.:')[:300]}). Give a name of "
            f"its presets, kaggle://owner/model/keras/variation, hf://owner/repo or a "
            f"folder with its files; if it can't be reached from here, download it "
            f"elsewhere and give the folder."
        ) from error
