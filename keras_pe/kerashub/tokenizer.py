"""Texts to token ids in KerasHub's pipelines, by our own tokenizer."""

import os
import sys
from typing import Any, Self

import keras
import keras_hub
import numpy as np

from keras_pe.kerashub.backbone import PEBackbone
from keras_pe.kerashub.encoder_backbone import PACKAGE, hub_preset
from keras_pe.preprocessing import tokenizer as ours
from keras_pe.preprocessing.converter_configs import narrowed_tokenizer

SIZE = ours.FULL_VOCABULARY_SIZE


@keras.saving.register_keras_serializable(PACKAGE)
class PETokenizer(keras_hub.tokenizers.Tokenizer):
    """`keras_pe.PETokenizer` as a tokenizer of KerasHub: the same ids.

    Ids come packed as the text tower reads them, with start and end id and zeros up to
    the context length, so that no packer follows. Called on one text it returns a row.
    The vocabulary ships with keras_pe; presets have no copy of it.

    Args: those of `keras_pe.PETokenizer`; `name`.

    Attributes:
        tokenizer: the tokenizer of ours that does the work.
        start_token_id, end_token_id, pad_token_id: special ids.

    Raises:
        ValueError: as `keras_pe.PETokenizer`.

    Example:
        >>> tokenizer = PETokenizer(context_length=6)
        >>> np.asarray(tokenizer(["a cat"]))
        array([[49406,   320,  2368, 49407,     0,     0]], dtype=int32)
        >>> tokenizer.detokenize([49406, 320, 2368, 49407])
        'a cat'
    """

    backbone_cls = PEBackbone

    def __init__(
        self,
        context_length: int = 32,
        vocabulary_size: int = SIZE,
        on_truncation: str = "warn",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.tokenizer = ours.PETokenizer(
            context_length=context_length,
            vocabulary_size=vocabulary_size,
            on_truncation=on_truncation,
        )
        self.context_length = self.tokenizer.context_length
        self.file_assets: list[str] = []
        self._add_special_token(ours.START_TEXT, "start_token")
        self._add_special_token(ours.END_TEXT, "end_token")
        self.pad_token_id = self.tokenizer.pad_id

    # === Text to ids, and back ===
    def tokenize(self, inputs: Any) -> Any:
        """Returns int32 `([texts, ]context_length)`.

        Args:
            inputs: a text, several, or a tensor of TensorFlow with either.

        Raises:
            TypeError: if something is no text.
            ValueError: if a text is too long and `on_truncation="error"`.
        """
        tensorflow = sys.modules.get("tensorflow")
        if tensorflow is not None and isinstance(inputs, tensorflow.Tensor):
            if tensorflow.executing_eagerly():
                return self._rows(inputs.numpy())
            rows = tensorflow.numpy_function(self._rows, [inputs], tensorflow.int32)
            rows.set_shape([*inputs.shape, self.context_length])
            return rows
        return self._rows(inputs)

    def _rows(self, texts: Any) -> np.ndarray:
        one = isinstance(texts, str | bytes) or np.ndim(texts) == 0
        given = [texts.item() if hasattr(texts, "item") else texts] if one else texts
        ids = self.tokenizer([x.decode() if isinstance(x, bytes) else x for x in given])
        return ids[0] if one else ids

    def detokenize(self, inputs: Any) -> str | list[str]:
        """Returns the text of ids `([texts, ]tokens)`, as far as they kept it."""
        if keras.ops.is_tensor(inputs):
            inputs = keras.ops.convert_to_numpy(inputs)
        return self.tokenizer.detokenize(inputs)

    # === Vocabulary ===
    def get_vocabulary(self) -> list[str]:
        """Returns all tokens, in the order of their ids."""
        return list(ours.token_texts(self.vocabulary_size()))

    def vocabulary_size(self) -> int:
        """Returns how many ids there are."""
        return self.tokenizer.vocabulary_size

    def id_to_token(self, id: int) -> str:
        """Returns the token of an id.

        Raises:
            ValueError: if there is no such id.
        """
        if not 0 <= id < self.vocabulary_size():
            raise ValueError(
                f"id must be from 0 to {self.vocabulary_size() - 1}, got {id}."
            )
        return ours.token_texts(self.vocabulary_size())[id]

    def token_to_id(self, token: str) -> int:
        """Returns the id of a token.

        Raises:
            ValueError: if it is none.
        """
        try:
            return ours.token_texts(self.vocabulary_size()).index(token)
        except ValueError as error:
            raise ValueError(
                f"{token!r} is none of the {self.vocabulary_size()} tokens. A word's "
                f"last token ends in {ours.WORD_END}."
            ) from error

    # === Files ===
    def save_assets(self, dir_path: str) -> None:
        """Writes nothing: the vocabulary ships with keras_pe."""

    def load_assets(self, dir_path: str) -> None:
        """Reads nothing: the vocabulary ships with keras_pe."""

    def load_preset_assets(self, preset: str) -> None:
        """Reads nothing: the vocabulary ships with keras_pe."""

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.tokenizer.get_config()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        # It may come from somebody else's file, which does not silence warnings.
        where = "the configuration of a PETokenizer"
        return cls(**narrowed_tokenizer(config, where))

    @classmethod
    def from_preset(
        cls,
        preset: str | os.PathLike[str],
        config_file: str = "tokenizer.json",
        **options: Any,
    ) -> Self:
        """Loads the tokenizer of a preset, of keras_pe or one that KerasHub wrote.

        Args:
            preset: as of `keras_pe.PETokenizer.from_preset`, or of KerasHub's.
            config_file: its file in a preset of KerasHub's.
            options: arguments of this class that are to differ.

        Raises:
            CheckpointError: if there is no such preset, or it reads no text.
        """
        written = hub_preset(preset)
        if written is not None:
            found = super().from_preset(written, config_file)
            return cls(**{**found.get_config(), **options}) if options else found
        config = ours.PETokenizer.from_preset(preset).get_config()
        return cls(**{**config, **options})
