"""An encoder, a projector and a language model that answer questions about images."""

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from keras import ops

from keras_pe.arrays import check_sizes
from keras_pe.data.packing import Document
from keras_pe.language.answers import among_words
from keras_pe.language.asked import Asked, paired, question_batches
from keras_pe.language.generation import generate
from keras_pe.language.language_preset import (
    load_language_preset,
    save_language_preset,
)
from keras_pe.language.prompts import Prompt, padded
from keras_pe.layers.projector import VisionProjector, check_widths
from keras_pe.models.compiled import padded_batch, run_compiled
from keras_pe.models.vision_forward import VisionForward
from keras_pe.preprocessing.image import PEImageConverter
from keras_pe.presets.report import CheckpointError
from keras_pe.presets.table import PresetsProperty

WIDTH_STEP = 8  # prompts are padded to multiples: fewer shapes to compile


class VisionLanguageModel:
    """Answers questions about images, or about none.

    It holds its parts and copies nothing: what trains them trains it.

    Args:
        encoder: a `PELang`, or any vision encoder of PE's; its last block's patches
            are read, before the final norm.
        projector: from its channels to the decoder's.
        decoder: a `keras_pe.language.Decoder` that is a Keras model.
        prompt: how it is asked, with the tokens of an image that the projector gives.
        image_converter: of the size that the encoder was trained with.

    Raises:
        ValueError: if the parts do not fit together.

    Source: Perception Encoder, section 5.

    Example:
        >>> from keras_pe import PETokenizer, PEVisionEncoder
        >>> from keras_pe.language import QuestionPrompt, SmallDecoder
        >>> model = VisionLanguageModel(
        ...     PEVisionEncoder(image_size=32, patch_size=8, hidden_dim=32,
        ...         num_layers=1, num_heads=4, intermediate_dim=64, output_dim=None),
        ...     VisionProjector(32, 16, pooling=2),
        ...     SmallDecoder(600, hidden_dim=16, num_layers=1, num_heads=2),
        ...     QuestionPrompt(PETokenizer(16, 600), image_tokens=4),
        ...     PEImageConverter(32))
        >>> picture = np.zeros((40, 30, 3), "uint8")
        >>> answers = model.generate([picture, None], "What is this?", max_tokens=2)
        >>> len(answers)
        2
    """

    def __init__(
        self,
        encoder: VisionForward,
        projector: VisionProjector,
        decoder: Any,
        prompt: Prompt,
        image_converter: PEImageConverter,
    ) -> None:
        check_widths(projector, encoder, decoder)
        shape = (1, *image_converter.image_size, 3)
        self.grid = encoder.grid(shape)
        patches = (1, self.grid[0] * self.grid[1], encoder.hidden_dim)
        _, tokens, _ = projector.compute_output_shape(patches, self.grid)
        if tokens != prompt.image_tokens:
            raise ValueError(
                f"The projector gives {tokens} tokens of an image of "
                f"{shape[1]}x{shape[2]} pixels, and the prompt has "
                f"{prompt.image_tokens}. Make it with image_tokens={tokens}, or give "
                f"the converter the size that the prompt was made for."
            )
        vocabulary = prompt.vocabulary_size
        if vocabulary != decoder.vocabulary_size:
            raise ValueError(
                f"The prompt's tokenizer has {vocabulary} ids, and the decoder "
                f"{decoder.vocabulary_size}: each id would be another word."
            )
        self.encoder, self.projector, self.decoder = encoder, projector, decoder
        self.prompt: Any = prompt
        self.image_converter = image_converter

    # === Presets ===
    presets = PresetsProperty()

    @classmethod
    def from_preset(
        cls,
        preset: str | os.PathLike[str],
        decoder: Any = None,
        dtype: Any = None,
    ) -> Self:
        """Loads a preset: all parts with their weights.

        Args:
            preset: name (`VisionLanguageModel.presets` lists them), directory, or
                `hf://owner/repo[@revision]`.
            decoder: the `KerasHubDecoder` that it was trained with, if it was one: such
                are not in a preset. Or its name, as of `foreign_decoder`.
            dtype: another dtype or policy of encoder, projector and small decoder, such
                as "bfloat16".

        Raises:
            CheckpointError: if there is no such preset, it is of an encoder alone, a
                file is damaged, or the decoder is missing or another one.

        Example:
            >>> from importlib.resources import files
            >>> model = VisionLanguageModel.from_preset("pe_captioner_emoji_patch8_64")
            >>> drawings = files("keras_pe") / "cli" / "demo_images"
            >>> model.generate(drawings / "guitar.png", "What is this?")
            'guitar'
        """
        parts = load_language_preset(preset, decoder, dtype)
        try:
            return cls(*parts)
        except ValueError as error:
            raise CheckpointError(
                f"{os.fspath(preset)} holds parts that do not fit together: {error} "
                f"They come from two presets, or one was saved into the other: save "
                f"the whole model again."
            ) from error

    def save_to_preset(
        self,
        directory: str | os.PathLike[str],
        metadata: Mapping[str, Any] | None = None,
        dtype: str | None = None,
        decoder_handle: str | None = None,
    ) -> None:
        """Writes a preset directory that `from_preset` reads, whole or not at all.

        The encoder's files are those of its own `save_to_preset`, and load without the
        rest: `PELang.from_preset(directory)`.

        Args:
            directory: where; made if missing.
            metadata: more to say in metadata.json, such as scores; JSON values.
            dtype: of the weights in the files, "float16", "bfloat16" or "float32"; None
                is their own.
            decoder_handle: of a language model of KerasHub, which is not written, what
                it was loaded by.

        Raises:
            CheckpointError: if a part can't be saved, or the directory holds files that
                belong to no preset.
        """
        save_language_preset(self, directory, metadata, dtype, decoder_handle)

    # === Answers ===
    def generate(
        self,
        images: Any,
        questions: str | Sequence[str],
        max_tokens: int = 32,
        batch_size: int = 64,
    ) -> str | list[str]:
        """Returns the likeliest answer to each question.

        Args:
            images: one image or many, of all that `PEImageConverter` takes; None, alone
                or among them, asks about no image.
            questions: one for all images, or one each, or several about one image.
            max_tokens: most tokens of an answer.
            batch_size: questions a forward pass. What is compiled is compiled for few
                shapes: prompts and batches are padded.

        Returns:
            The answers in their order; of one image and one question, given as such,
            the answer alone.

        Raises:
            ImageError: naming the first image that can't be used.
            ValueError: if there is not a question an image, one is longer than the
                tokenizer's context, or prompt and answer than the decoder reads.
            NonFiniteError: if weights or embeddings are not finite.
        """
        asked, alone = paired(images, questions)
        convert = self.image_converter.convert
        answers = self._answers(
            asked, lambda one: convert(one.image, one.name), max_tokens, batch_size
        )
        return answers[0] if alone else answers

    def answer(
        self,
        images: Any,
        questions: str | Sequence[str],
        max_tokens: int = 32,
        batch_size: int = 64,
    ) -> list[str]:
        """Returns the answers to questions about images that are converted already.

        Args:
            images: float32 `(images, height, width, 3)` in [-1, 1], of the converter's
                size.
            questions: one for all images, or one each.
            max_tokens: most tokens of an answer.
            batch_size: questions a forward pass.

        Raises:
            ValueError, NonFiniteError: as `generate`.
        """
        found = self.encoder.checked_images(images)
        if len(found.shape) != 4:
            raise ValueError(
                f"Expected images (images, height, width, 3), got {tuple(found.shape)}."
                f" To one image add an axis: image[None]."
            )
        size = tuple(self.image_converter.image_size)
        if tuple(found.shape[1:3]) != size:
            raise ValueError(
                f"Images of {found.shape[1]}x{found.shape[2]} pixels: the prompt has "
                f"{self.prompt.image_tokens} tokens for one of {size[0]}x{size[1]}. "
                f"`generate` takes any size, or convert them with `image_converter`."
            )
        asked, _ = paired(list(found), questions)
        return self._answers(
            asked, lambda one: ops.convert_to_numpy(one.image), max_tokens, batch_size
        )

    def _answers(
        self,
        asked: list[Asked],
        read: Callable[[Asked], np.ndarray],
        max_tokens: int,
        batch_size: int,
    ) -> list[str]:
        check_sizes(max_tokens=max_tokens, batch_size=batch_size)
        answers = [""] * len(asked)
        rows = min(batch_size, _power_of_two(len(asked)))
        questions = [
            self.prompt.question(one.text, one.image is not None) for one in asked
        ]
        chunks = list(question_batches(asked, list(map(len, questions)), rows))
        most = max((len({one.key for one in chunk}) for chunk in chunks), default=0)
        known: dict[Any, np.ndarray] = {}
        for chunk in chunks:
            documents = [questions[one.place] for one in chunk]
            shown = {one.key: one for one in chunk if one.image is not None}
            order = {key: place for place, key in enumerate(shown)}
            places = [order.get(one.key, 0) for one in chunk]
            # Questions about one image may go on in the next batch, and what comes out
            # of a pipe can't be read again.
            known = {
                key: known[key] if key in known else read(one)
                for key, one in shown.items()
            }
            pixels = list(known.values())
            pixels += pixels[-1:] * (most - len(pixels))  # one shape in all batches
            ids = self._answer_ids(pixels, documents, places, max_tokens, rows)
            for one, row in zip(chunk, ids, strict=False):
                answers[one.place] = self.prompt.text(row)
        return answers

    def _answer_ids(
        self,
        pixels: Sequence[np.ndarray],  # each (height, width, 3) in [-1, 1]
        documents: Sequence[Document],
        places: Sequence[int],  # of each document's image among them
        max_tokens: int,
        rows: int,
    ) -> np.ndarray:
        """Returns int32 `(rows, max_tokens)`: what is generated, padding included."""
        found = padded(documents)
        longest = int(found["lengths"].max())
        most = max(longest, self.decoder.max_length - max_tokens)
        width = min(-(-longest // WIDTH_STEP) * WIDTH_STEP, most)
        ids, slots = np.zeros((2, rows, width), "int32")
        ids[:, :longest] = padded_batch(found["token_ids"], rows)
        shown = padded_batch(found["image"], rows)
        slots[:, :longest] = np.where(shown, np.cumsum(shown, axis=1), 0)
        prompts = self.prompts(ids, slots, pixels, padded_batch(np.array(places), rows))
        lengths = padded_batch(found["lengths"], rows)
        return generate(self.decoder, prompts, self.prompt.stop_id, max_tokens, lengths)

    def prompts(
        self,
        token_ids: np.ndarray,
        slots: np.ndarray,
        pixels: Sequence[np.ndarray],
        places: np.ndarray,
    ) -> Any:
        """Returns what the decoder reads, `(rows, length, hidden_dim)`.

        Args:
            token_ids: int32 `(rows, length)`.
            slots: int32 `(rows, length)`: k where token k of the row's image stands,
                counted from 1; 0 where a word stands.
            pixels: images `(height, width, 3)` in [-1, 1], each encoded once.
            places: int32 `(rows,)`: which of them is each row's; any for a row of words
                alone.
        """
        if not len(pixels):
            words = self.decoder.embed(token_ids)
            return ops.cast(words, self.projector.compute_dtype)
        count = min(_power_of_two(len(pixels)), len(token_ids))
        tokens = self.image_tokens(padded_batch(np.stack(pixels), count))
        shown = ops.take(tokens, ops.convert_to_tensor(places, "int32"), axis=0)
        return among_words(self.decoder, token_ids, slots, shown)

    def image_tokens(self, images: Any) -> Any:
        """Returns what the decoder reads of images, `(images, tokens, hidden_dim)`.

        Args:
            images: `(images, height, width, 3)` in [-1, 1].
        """
        found = self.encoder.features(images, -1)
        project = functools.partial(self.projector.__call__, grid=found.grid)
        key = ("project", found.grid)
        return run_compiled(self.projector, key, project, found.values)


def _power_of_two(count: int) -> int:
    return 1 << max(count - 1, 0).bit_length()
