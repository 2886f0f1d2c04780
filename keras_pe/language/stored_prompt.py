"""Prompts in presets: what language.json says of one, and the file of its vocabulary.

PE's own tokenizer is stored as the encoder's is. A chat model's vocabulary is a file of
one of two libraries, which read it as data.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_pe.language.chat_prompt import ChatPrompt
from keras_pe.language.chat_templates import TEMPLATES
from keras_pe.language.chat_tokenizers import KINDS, file_name, read_tokenizer
from keras_pe.language.prompts import Prompt, QuestionPrompt
from keras_pe.preprocessing.tokenizer import PETokenizer
from keras_pe.presets.checksums import verify_file
from keras_pe.presets.report import CheckpointError


def described_prompt(prompt: Any) -> dict[str, Any]:
    """Returns what is said of a prompt.

    Raises:
        CheckpointError: if it can't be stored.
    """
    found = {"kind": type(prompt).__name__, "image_tokens": prompt.image_tokens}
    if type(prompt) is QuestionPrompt:
        spelled = list(prompt.spelled_questions)
        return {
            **found,
            "spell_answers": prompt.spell_answers,
            "spelled_questions": spelled,
        }
    if type(prompt) is not ChatPrompt:
        raise CheckpointError(
            f"A {type(prompt).__name__} can't be saved, expected a QuestionPrompt or a "
            f"ChatPrompt."
        )
    template = prompt.template
    if TEMPLATES.get(template.name) != template:
        raise CheckpointError(
            f"A prompt in the template {template.name!r} can't be saved: presets know "
            f"those of keras_pe by their names, {', '.join(TEMPLATES)}."
        )
    return {**found, "system": prompt.system, "template": template.name}


def prompt_identity(prompt: Any) -> dict[str, Any]:
    """Returns what tells a chat model's prompt from others, vocabulary included."""
    content = prompt.words.content()
    return {**described_prompt(prompt), "sha256": hashlib.sha256(content).hexdigest()}


def write_words(prompt: Any, directory: Path) -> None:
    """Writes the vocabulary of a prompt, where it is a chat model's."""
    if isinstance(prompt, ChatPrompt):
        (directory / file_name(prompt.words)).write_bytes(prompt.words.content())


def load_prompt(
    described: Mapping[str, Any],
    vocabulary_size: int,
    directory: Path,
    metadata: Mapping[str, Any],
) -> Prompt:
    """Returns the prompt of a preset.

    Args:
        described: what is said of it, checked.
        vocabulary_size: how many ids the decoder knows.
        directory: the preset.
        metadata: what `read_metadata` returned.

    Raises:
        CheckpointError: if its vocabulary is missing, damaged or of another model.
        ImportError: if the package that reads it is missing.
    """
    image_tokens = described["image_tokens"]
    if described["kind"] == "QuestionPrompt":
        tokenizer = PETokenizer.from_preset(directory)
        return QuestionPrompt(
            tokenizer,
            image_tokens,
            described["spell_answers"],
            described["spelled_questions"],
        )
    listed = [name for name in KINDS if name in metadata["files"]]
    name = listed[0] if listed else next(iter(KINDS))
    content = verify_file(directory, name, metadata).read_bytes()
    template = TEMPLATES[described["template"]]
    try:
        words = read_tokenizer(name, content)
        return ChatPrompt(
            words, image_tokens, described["system"], template, vocabulary_size
        )
    except ValueError as error:
        raise CheckpointError(f"{os.fspath(directory / name)}: {error}") from error
