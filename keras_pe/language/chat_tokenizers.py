"""Vocabularies of chat models: what two libraries give, behind the same few calls.

The libraries' own objects are used, not KerasHub's layers around them: these can't be
sent to the processes that read data, and stand in presets as classes to be made, where
a vocabulary is data.
"""

import importlib
from typing import Any, Protocol

import numpy as np

from keras_pe.presets.hub import CHAT_TOKENIZERS
from keras_pe.presets.report import CheckpointError

# Words, digits, line breaks, another script: where splitting differs, ids do.
PROBE = "Two cats,\n\n 1984's fête & naïve  日本!\n"


class ChatTokenizer(Protocol):
    """A vocabulary and how texts become its ids.

    Attributes:
        tokenizer: of the library.
        special: ids of marks that are found in texts.
        size: more than any id.
    """

    tokenizer: Any
    special: frozenset[int]
    size: int

    def id_of(self, token: str) -> int | None:
        """Returns the id of a token, or None if there is no such."""

    def token_of(self, number: int) -> str:
        """Returns the token of an id."""

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text, without marks around it."""

    def decode(self, ids: list[int]) -> str:
        """Returns the text of ids; those that do not exist are left out."""

    def content(self) -> bytes:
        """Returns what a file holds that it is made of again."""


class BytePairs:
    """A vocabulary of the package `tokenizers`.

    Args:
        tokenizer: a `tokenizers.Tokenizer`, which stays as it is: a copy is used, that
            neither cuts texts off nor fills them up, whatever the file asks for.
    """

    def __init__(self, tokenizer: Any) -> None:
        from tokenizers import Tokenizer

        # Many a tokenizer.json cuts off at a length: an answer would lose its end.
        self.tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        added = self.tokenizer.get_added_tokens_decoder()
        self.special = frozenset(n for n, token in added.items() if token.special)
        self.size = 1 + max(self.tokenizer.get_vocab().values(), default=-1)

    @classmethod
    def from_content(cls, content: bytes) -> "BytePairs":
        """Returns one of what `content` gave."""
        from tokenizers import Tokenizer

        return cls(Tokenizer.from_str(content.decode("utf-8")))

    def id_of(self, token: str) -> int | None:
        """Returns the id of a token, or None if there is no such."""
        found: int | None = self.tokenizer.token_to_id(token)
        return found

    def token_of(self, number: int) -> str:
        """Returns the token of an id."""
        return str(self.tokenizer.id_to_token(number))

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text, without marks around it."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: list[int]) -> str:
        """Returns the text of ids; those that do not exist are left out."""
        known = [number for number in ids if number < self.size]
        return str(self.tokenizer.decode(known))

    def content(self) -> bytes:
        """Returns what a file holds that it is made of again."""
        return str(self.tokenizer.to_str()).encode("utf-8")


class SentencePieces:
    """A vocabulary of the package `sentencepiece`.

    Args:
        proto: what its .model file holds.

    Raises:
        ImportError: if `sentencepiece` is missing.
    """

    # Control tokens are never found in a text; those that are, templates name.
    special: frozenset[int] = frozenset()

    def __init__(self, proto: bytes) -> None:
        try:
            sentencepiece = importlib.import_module("sentencepiece")
        except ModuleNotFoundError as error:
            raise ImportError(
                "This language model's vocabulary needs the package sentencepiece, "
                "which is not installed: pip install sentencepiece."
            ) from error
        self.proto = proto
        self.tokenizer = sentencepiece.SentencePieceProcessor(model_proto=proto)
        self.size = int(self.tokenizer.GetPieceSize())

    def __reduce__(self) -> Any:
        return type(self), (self.proto,)

    @classmethod
    def from_content(cls, content: bytes) -> "SentencePieces":
        """Returns one of what `content` gave."""
        return cls(content)

    def id_of(self, token: str) -> int | None:
        """Returns the id of a token, or None if there is no such."""
        found = int(self.tokenizer.PieceToId(token))  # of an unknown one, unknown's
        return found if self.tokenizer.IdToPiece(found) == token else None

    def token_of(self, number: int) -> str:
        """Returns the token of an id."""
        return str(self.tokenizer.IdToPiece(number))

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text, without marks around it."""
        found = self.tokenizer.Encode(text, add_bos=False, add_eos=False)
        return [int(number) for number in found]

    def decode(self, ids: list[int]) -> str:
        """Returns the text of ids; those that do not exist are left out."""
        known = [number for number in ids if number < self.size]
        return str(self.tokenizer.Decode(known))

    def content(self) -> bytes:
        """Returns what a file holds that it is made of again."""
        return self.proto


# What of a preset's file names is of which kind.
KINDS: dict[str, type[BytePairs] | type[SentencePieces]] = dict(
    zip(CHAT_TOKENIZERS, (BytePairs, SentencePieces), strict=True)
)


def file_name(tokenizer: ChatTokenizer) -> str:
    """Returns the name of the file that a preset keeps a vocabulary in."""
    return next(name for name, kind in KINDS.items() if isinstance(tokenizer, kind))


def chat_tokenizer(given: Any) -> ChatTokenizer:
    """Returns the vocabulary of whatever has one.

    Args:
        given: a `tokenizers.Tokenizer`, a tokenizer of KerasHub's that is of byte pairs
            or SentencePiece, or a `ChatTokenizer`.

    Raises:
        TypeError: if it is none of these.
        CheckpointError: if it is KerasHub's, and gives other ids than what is inside.

    Example:
        >>> from tokenizers import Tokenizer, models
        >>> words = chat_tokenizer(Tokenizer(models.BPE({"a": 0, "b": 1}, [])))
        >>> words.encode("ab"), words.id_of("c")
        ([0, 1], None)
    """
    if isinstance(given, BytePairs | SentencePieces):
        return given
    if hasattr(given, "get_added_tokens_decoder"):
        return BytePairs(given)
    found: ChatTokenizer
    inner = getattr(given, "_tokenizer", None)
    if isinstance(getattr(given, "proto", None), bytes):
        found = SentencePieces(given.proto)
    elif hasattr(inner, "get_added_tokens_decoder"):
        found = BytePairs(inner)
    else:
        raise TypeError(
            f"A {type(given).__name__} is no tokenizer that is known here: of the "
            f"package tokenizers, or KerasHub's of byte pairs or SentencePiece."
        )
    theirs = np.asarray(given.tokenize(PROBE)).tolist()
    if found.encode(PROBE) != theirs:
        raise CheckpointError(
            f"A {type(given).__name__} makes {theirs} of {PROBE!r}, and the vocabulary "
            f"inside {found.encode(PROBE)}. It may be set to add tokens, or come from "
            f"another KerasHub than 0.32, with which this was tried."
        )
    return found


def read_tokenizer(name: str, content: bytes) -> ChatTokenizer:
    """Returns the vocabulary of a preset's file.

    Raises:
        CheckpointError: if it holds none.
        ImportError: if the package that reads it is missing.
    """
    try:
        return KINDS[name].from_content(content)
    except ImportError:
        raise
    except Exception as error:  # of the libraries, which have no class of their own
        raise CheckpointError(
            f"{name} is no tokenizer ({str(error)[:200]}). Save the preset again."
        ) from error
