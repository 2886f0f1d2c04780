"""Text to token ids: CLIP's byte-pair encoding, as Perception Encoder uses it."""

import functools
import gzip
import html
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any, Self

import keras
import numpy as np

from keras_pe.preprocessing.converter_configs import narrowed_tokenizer, shown_call
from keras_pe.preprocessing.given_texts import as_texts
from keras_pe.presets.from_preset import load_tokenizer
from keras_pe.presets.save_part import save_part

if TYPE_CHECKING:
    import tokenizers

NUM_BYTE_SYMBOLS = 512  # 256 bytes, and the same 256 at the end of a word
NUM_MERGES = 48_894
FULL_VOCABULARY_SIZE = NUM_BYTE_SYMBOLS + NUM_MERGES + 2
SMALLEST_VOCABULARY_SIZE = NUM_BYTE_SYMBOLS + 2
START_TEXT = "<start_of_text>"
END_TEXT = "<end_of_text>"
WORD_END = "</w>"

# Text is lower-cased before this runs, so the one letter that still folds onto a
# letter below is the long s. Spelling it out replaces a case-insensitive flag,
# whose folding rules differ between regular-expression engines.
LONG_S = "\u017f"
# Its case-insensitive engine takes the iota below a Greek letter neither for a letter
# (it is a mark) nor for anything else (its capital is a letter), and drops it.
IOTA_BELOW = "\u0345"
WORD_PATTERN = (
    f"<[s{LONG_S}]tart_of_text>|<end_of_text>"
    f"|'[s{LONG_S}]|'t|'re|'ve|'m|'ll|'d"
    rf"|\p{{L}}+|\p{{N}}|[^\s\p{{L}}\p{{N}}{IOTA_BELOW}]+"
)
ON_TRUNCATION = ("warn", "ignore", "error")


@dataclass(frozen=True)
class TruncationReport:
    """What one call of a `PETokenizer` cut off.

    Args:
        num_texts: texts in the call.
        num_truncated: texts that did not fit the context.
        truncated_indices: their positions in the call.
        longest: ids that the longest text needed, start and end included.

    Example:
        >>> tokenizer = PETokenizer(context_length=8, on_truncation="ignore")
        >>> _ = tokenizer(["a cat", "a cat that sleeps on the roof of a small house"])
        >>> report: TruncationReport = tokenizer.last_report
        >>> report.num_truncated, report.truncated_indices
        (1, (1,))
    """

    num_texts: int
    num_truncated: int
    truncated_indices: tuple[int, ...]
    longest: int


@keras.saving.register_keras_serializable("keras_pe")
class PETokenizer:
    """Turns texts into the token ids that the text tower reads.

    Texts are repaired (`ftfy`), HTML-unescaped, white space collapsed and
    lower-cased, split into words and byte-pair encoded. Each row is the start
    id, the text, the end id, then zeros. A text that is too long loses its
    tail and keeps the end id, because the tower reads its output there.

    As in the reference, the literal texts `<start_of_text>` and
    `<end_of_text>` become the special ids where they stand as words of their
    own; strip them from untrusted captions if that matters to you.

    Source: `SimpleTokenizer` of https://github.com/openai/CLIP and of
    https://github.com/facebookresearch/perception_models; ids are identical.

    Args:
        context_length: ids per text, at least 2. Perception Encoder uses 32,
            and 72 for its largest model.
        vocabulary_size: 49408 for every published model. A smaller number
            keeps the 512 byte symbols, the first `vocabulary_size - 514`
            merges and the two special tokens, for small models of your own.
        on_truncation: `"warn"` warns once per tokenizer, `"error"` raises,
            `"ignore"` says nothing. `last_report` counts in all three cases.

    Example:
        >>> tokenizer = PETokenizer(context_length=8)
        >>> tokenizer(["a cat", "a dog"])
        array([[49406,   320,  2368, 49407,     0,     0,     0,     0],
               [49406,   320,  1929, 49407,     0,     0,     0,     0]],
              dtype=int32)
    """

    def __init__(
        self,
        context_length: int = 32,
        vocabulary_size: int = FULL_VOCABULARY_SIZE,
        on_truncation: str = "warn",
    ) -> None:
        if not _is_int(context_length) or context_length < 2:
            raise ValueError(
                f"context_length={context_length!r}: expected an integer of at "
                "least 2 (a start id and an end id). Published models use 32 or 72."
            )
        if not _is_int(vocabulary_size) or not (
            SMALLEST_VOCABULARY_SIZE <= vocabulary_size <= FULL_VOCABULARY_SIZE
        ):
            raise ValueError(
                f"vocabulary_size={vocabulary_size!r}: expected an integer from "
                f"{SMALLEST_VOCABULARY_SIZE} (bytes only) to {FULL_VOCABULARY_SIZE} "
                "(every published model)."
            )
        if on_truncation not in ON_TRUNCATION:
            raise ValueError(
                f"on_truncation={on_truncation!r}: expected one of {ON_TRUNCATION}."
            )
        self.context_length = int(context_length)
        self.vocabulary_size = int(vocabulary_size)
        self.on_truncation = on_truncation
        self.start_id = self.vocabulary_size - 2
        self.end_id = self.vocabulary_size - 1
        self.pad_id = 0
        self.last_report: TruncationReport | None = None
        self._warned = False

    def __call__(self, texts: str | Sequence[str]) -> np.ndarray:
        """Encodes one text or many.

        Args:
            texts: a string, or a flat sequence of strings: a list, an array of one
                axis, a column of a table. An array of no axes is one string.

        Returns:
            int32 array (texts, context_length); one string is a batch of one.

        Raises:
            TypeError: if something is not a string.
            ValueError: if a text is too long and `on_truncation="error"`.

        Example:
            >>> PETokenizer()("a cat").shape
            (1, 32)
        """
        batch = as_texts(texts)
        engine = _engine(self.vocabulary_size)
        cleaned = [_clean(text) for text in batch]
        encoded = engine.encode_batch_fast(cleaned, add_special_tokens=False)
        ids = np.full((len(batch), self.context_length), self.pad_id, "int32")
        truncated: list[int] = []
        longest = 0
        for i, (text, encoding) in enumerate(zip(cleaned, encoded, strict=True)):
            body = encoding.ids
            if START_TEXT in text or END_TEXT in text:
                body = self._encode_with_literals(engine, text)
            row = [self.start_id, *body, self.end_id]
            longest = max(longest, len(row))
            if len(row) > self.context_length:
                truncated.append(i)
                row = row[: self.context_length]
                row[-1] = self.end_id
            ids[i, : len(row)] = row
        self.last_report = TruncationReport(
            len(batch), len(truncated), tuple(truncated), longest
        )
        if truncated:
            self._tell_truncation(batch, self.last_report)
        return ids

    def detokenize(self, ids: Any) -> str | list[str]:
        """Turns ids back into text, as far as the encoding kept it.

        Start ids are dropped and a row is read up to its first end id. Case,
        repeated white space and the original spacing of punctuation are gone.

        Args:
            ids: integers, (tokens,) or (texts, tokens).

        Returns:
            A string for one row, a list of strings for a batch.

        Raises:
            ValueError: if the array has another shape, is not made of
                integers, or holds ids outside the vocabulary.

        Example:
            >>> tokenizer = PETokenizer()
            >>> tokenizer.detokenize(tokenizer("A  cat"))
            ['a cat']
        """
        try:
            array = np.asarray(ids)
        except ValueError as error:
            raise ValueError(
                f"ids of rows of different lengths ({error}): expected integers of "
                "shape (tokens,) or (texts, tokens). Pass such rows one by one."
            ) from error
        if array.ndim not in (1, 2) or array.dtype.kind not in "iu":
            raise ValueError(
                f"ids of shape {array.shape} and dtype {array.dtype}: expected "
                "integers of shape (tokens,) or (texts, tokens)."
            )
        if array.size and not 0 <= array.min() <= array.max() < self.vocabulary_size:
            raise ValueError(
                f"ids span {array.min()} to {array.max()}: expected 0 to "
                f"{self.vocabulary_size - 1}. Use the tokenizer that made them."
            )
        if array.ndim == 1:
            return self._detokenize_row(array.tolist())
        return [self._detokenize_row(row) for row in array.tolist()]

    def __repr__(self) -> str:
        return shown_call(self)

    def to_tokenizers_json(self) -> str:
        """Returns the byte-pair encoder as a file of the `tokenizers` package.

        It splits and encodes words; the cleaning before it, start and end ids, the
        context length and special tokens that a text spells out are this class'.

        Example:
            >>> import tokenizers
            >>> text = PETokenizer(vocabulary_size=600).to_tokenizers_json()
            >>> tokenizers.Tokenizer.from_str(text).get_vocab_size()
            600
        """
        return str(_engine(self.vocabulary_size).to_str())

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, ready for JSON."""
        return {
            "context_length": self.context_length,
            "vocabulary_size": self.vocabulary_size,
            "on_truncation": self.on_truncation,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Builds a tokenizer from what `get_config` returned."""
        return cls(**config)

    narrowed = staticmethod(narrowed_tokenizer)  # what a file decides of it

    @classmethod
    def from_preset(cls, preset: str | os.PathLike[str]) -> Self:
        """Builds the tokenizer of a preset; see `keras_pe.presets.hub`.

        Args:
            preset: name, alias, directory, `hf://owner/repo[@revision]` or
                `kaggle://...`.

        Returns:
            The tokenizer, with the context length of the preset's text tower.

        Raises:
            CheckpointError: if there is no such preset, or it reads no text.

        Example:
            >>> PETokenizer.from_preset("pe_core_gigantic_patch14_448").context_length
            72
        """
        return load_tokenizer(cls, preset)

    def save_to_preset(self, directory: str | os.PathLike[str]) -> None:
        """Writes this tokenizer into a preset, or into a new one of its own.

        Args:
            directory: a preset, of which all else stays as it is; made if missing.

        Raises:
            CheckpointError: if it holds something else, or the model there has another.

        Example:
            >>> PETokenizer(context_length=8).save_to_preset("words")
            >>> PETokenizer.from_preset("words")
            PETokenizer(context_length=8)
        """
        save_part(self, directory)

    def _encode_with_literals(
        self, engine: "tokenizers.Tokenizer", text: str
    ) -> list[int]:
        """Encodes a text that spells out a special token somewhere."""
        # The literal is special only where the word pattern yields it whole, so
        # "!<end_of_text>" is ordinary text. An added token would match there too.
        special = {START_TEXT: self.start_id, END_TEXT: self.end_id}
        ids: list[int] = []
        for word, _ in engine.pre_tokenizer.pre_tokenize_str(text):
            if word in special:
                ids.append(special[word])
            else:
                ids.extend(token.id for token in engine.model.tokenize(word))
        return ids

    def _tell_truncation(self, texts: list[str], report: TruncationReport) -> None:
        if self.on_truncation == "ignore" or (
            self.on_truncation == "warn" and self._warned
        ):
            return
        first = report.truncated_indices[0]
        text = texts[first]
        shown = text if len(text) <= 80 else text[:77] + "..."
        message = (
            f"{report.num_truncated} of {report.num_texts} texts do not fit "
            f"context_length={self.context_length}; the longest needs "
            f"{report.longest} ids. First: texts[{first}] = {shown!r}. Shorten the "
            "text"
        )
        if self.on_truncation == "error":
            raise ValueError(message + ", or allow it with on_truncation='warn'.")
        self._warned = True
        warnings.warn(
            message + "; `last_report` counts every call, on_truncation='ignore' "
            "silences this (shown once per tokenizer).",
            stacklevel=3,
        )

    def _detokenize_row(self, ids: list[int]) -> str:
        if self.end_id in ids:
            ids = ids[: ids.index(self.end_id)]
        symbols = token_texts(self.vocabulary_size)
        joined = "".join(symbols[i] for i in ids if i != self.start_id)
        # "<", "/", "w" and ">" are byte symbols of themselves, so the word end
        # may be replaced after the bytes are back.
        values = bytes(_BYTE_OF_SYMBOL[symbol] for symbol in joined)
        text = values.decode("utf-8", errors="replace")
        return text.replace(WORD_END, " ").strip()


def _byte_symbols() -> dict[int, str]:
    """Gives each byte a visible character, in the order of the vocabulary."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    symbols = {byte: chr(byte) for byte in visible}
    symbols.update({byte: chr(256 + n) for n, byte in enumerate(hidden)})
    return symbols


_SYMBOL_OF_BYTE = _byte_symbols()
_BYTE_OF_SYMBOL = {symbol: byte for byte, symbol in _SYMBOL_OF_BYTE.items()}


@functools.lru_cache(maxsize=1)
def _all_merges() -> tuple[tuple[str, str], ...]:
    """Reads the shipped merges, most frequent first."""
    packed = resources.files(__package__).joinpath("clip_merges.txt.gz").read_bytes()
    lines = gzip.decompress(packed).decode("utf-8").splitlines()
    pairs = tuple((left, right) for left, right in map(str.split, lines))
    if len(pairs) != NUM_MERGES:
        raise RuntimeError(
            f"clip_merges.txt.gz holds {len(pairs)} merges, expected {NUM_MERGES}: "
            "the installation is damaged. Reinstall keras_pe."
        )
    return pairs


@functools.lru_cache(maxsize=4)
def token_texts(vocabulary_size: int) -> tuple[str, ...]:
    """Returns the text of each id."""
    bytes_alone = list(_SYMBOL_OF_BYTE.values())
    at_word_end = [symbol + WORD_END for symbol in bytes_alone]
    merges = _all_merges()[: vocabulary_size - SMALLEST_VOCABULARY_SIZE]
    merged = [left + right for left, right in merges]
    return (*bytes_alone, *at_word_end, *merged, START_TEXT, END_TEXT)


# Built on first use and shared: an instance then holds numbers only, so it is
# cheap to make, to copy and to send to a data-loading process.
@functools.lru_cache(maxsize=4)
def _engine(vocabulary_size: int) -> "tokenizers.Tokenizer":
    """Builds the byte-pair encoder."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    ids = {symbol: i for i, symbol in enumerate(token_texts(vocabulary_size))}
    merges = list(_all_merges()[: vocabulary_size - SMALLEST_VOCABULARY_SIZE])
    engine = Tokenizer(
        models.BPE(vocab=ids, merges=merges, end_of_word_suffix=WORD_END)
    )
    words = pre_tokenizers.Split(Regex(WORD_PATTERN), behavior="removed", invert=True)
    to_symbols = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    engine.pre_tokenizer = pre_tokenizers.Sequence([words, to_symbols])
    return engine


def _clean(text: str) -> str:
    """Repairs a text, unescapes it, collapses white space, and lower-cases it."""
    from ftfy import fix_text  # 0.1 s to import; most sessions never need it

    # Twice: captions from the web often went through two rounds of escaping.
    text = html.unescape(html.unescape(fix_text(text)))
    # Stripped before lower-casing, as in the reference: the order is visible in
    # the few letters whose lower case is longer than one character.
    return re.sub(r"\s+", " ", text).strip().lower()


def _is_int(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
