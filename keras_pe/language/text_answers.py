"""Answers of a language model alone, and about the frames of a video."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops

from keras_pe.arrays import check_sizes
from keras_pe.data.packing import Document
from keras_pe.language.answers import among_words
from keras_pe.language.decoder import Decoder
from keras_pe.language.generation import generate
from keras_pe.language.prompts import Prompt, padded

if TYPE_CHECKING:
    from keras_pe.language.vision_language_model import VisionLanguageModel

STEP = 64  # prompts are padded to multiples of so many tokens: few shapes to compile


def answer_texts(
    decoder: Decoder,
    prompt: Prompt,
    questions: Sequence[str],
    max_tokens: int = 128,
    no_repeat: int | None = None,
) -> list[str]:
    """Returns the likeliest answers of a language model that is shown no image.

    Args:
        decoder: that answers.
        prompt: how it is asked.
        questions: texts, answered one by one: an answer does not depend on the others.
        max_tokens: most tokens of an answer.
        no_repeat: as of `keras_pe.language.generate`.

    Raises:
        ValueError: if a question is too long for the decoder, or can't be tokens.

    Example:
        >>> from keras_pe import PETokenizer
        >>> from keras_pe.language import QuestionPrompt, SmallDecoder
        >>> prompt = QuestionPrompt(PETokenizer(16), image_tokens=1)
        >>> decoder = SmallDecoder(prompt.vocabulary_size, hidden_dim=16, num_layers=1,
        ...                        num_heads=2)
        >>> len(answer_texts(decoder, prompt, ["What is an owl?"], max_tokens=2))
        1
    """
    check_sizes(max_tokens=max_tokens)
    if isinstance(questions, str):
        raise TypeError(f"questions={questions!r:.80}: expected a list of texts.")
    answers = []
    for question in questions:
        found = padded([prompt.question(question, image=False)])
        ids, lengths = found["token_ids"], found["lengths"]
        width = _width(ids.shape[1], decoder, max_tokens)
        ids = np.pad(ids, ((0, 0), (0, width - ids.shape[1])))
        embedded = decoder.embed(ids)
        (row,) = generate(
            decoder, embedded, prompt.stop_id, max_tokens, lengths, no_repeat
        )
        answers.append(prompt.text(row))
    return answers


def answer_about_frames(
    model: "VisionLanguageModel", frames: Any, question: str, max_tokens: int = 32
) -> str:
    """Returns the answer to a question about a video, whose frames are averaged.

    A model that has seen single images reads the mean of its tokens of the frames, at
    each place, as if it were one image: as Perception Encoder averages frames. So what
    stands still is seen as it is, and the order of the frames is not.

    Args:
        model: that answers about images.
        frames: `(frames, height, width, 3)` in [-1, 1], of its converter's size.
        question: what is asked.
        max_tokens: most tokens of the answer.

    Raises:
        ValueError: if the frames have another shape or size.
        NonFiniteError: if frames, weights or logits are not finite.

    Example:
        >>> from keras_pe.language import VisionLanguageModel
        >>> model = VisionLanguageModel.from_preset("captioner")    # doctest: +SKIP
        >>> answer_about_frames(model, frames, "What is this?")     # doctest: +SKIP
        'owl'
    """
    check_sizes(max_tokens=max_tokens)
    images = model.encoder.checked_images(frames)
    size = tuple(model.image_converter.image_size)
    if len(images.shape) != 4 or not images.shape[0] or images.shape[1:3] != size:
        raise ValueError(
            f"Expected the frames of one video (frames, {size[0]}, {size[1]}, 3), got "
            f"{tuple(images.shape)}. PEVideoConverter makes them."
        )
    tokens = ops.mean(model.image_tokens(images), axis=0, keepdims=True)
    document = model.prompt.question(question, image=True)
    ids, slots, lengths = _in_place(model, document, max_tokens)
    prompts = among_words(model.decoder, ids, slots, tokens)
    stop = model.prompt.stop_id
    row = generate(model.decoder, prompts, stop, max_tokens, lengths)[0]
    return model.prompt.text(row)


def _in_place(
    model: "VisionLanguageModel", document: Document, max_tokens: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns ids and slots of an image `(1, width)`, and how many tokens there are."""
    found = padded([document])
    shown = np.asarray(found["image"], bool)
    slots = np.where(shown, np.cumsum(shown, axis=1), 0).astype("int32")
    width = _width(slots.shape[1], model.decoder, max_tokens)
    more = ((0, 0), (0, width - slots.shape[1]))
    return np.pad(found["token_ids"], more), np.pad(slots, more), found["lengths"]


def _width(length: int, decoder: Decoder, max_tokens: int) -> int:
    """Returns to how many tokens a prompt is padded."""
    return min(-(-length // STEP) * STEP, max(length, decoder.max_length - max_tokens))
