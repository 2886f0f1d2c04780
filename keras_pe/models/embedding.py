"""Embeds texts, images and classes by the batch, and looks at what comes back."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from keras import ops

from keras_pe.arrays import check_finite
from keras_pe.models.compiled import padded_batch
from keras_pe.preprocessing.given_texts import check_tokenizer
from keras_pe.preprocessing.prompts import fill, known_classes
from keras_pe.preprocessing.tokenizer import PETokenizer
from keras_pe.presets.class_vectors import ClassVectors

# Prompts whose embeddings are held at once; ImageNet has 80,000.
MAX_PROMPTS = 8192


class DualEncoder(Protocol):
    """What embeds images and texts alike: a `PECore`."""

    name: str
    output_dim: int
    vision_encoder: Any

    def encode_image(self, images: Any) -> Any: ...

    def encode_text(self, token_ids: Any) -> Any: ...


def class_vectors(
    model: DualEncoder,
    tokenizer: PETokenizer,
    class_names: Sequence[str],
    templates: Sequence[str],
    batch_size: int = 32,
) -> tuple[np.ndarray, int]:
    """Embeds classes: the mean of their prompts' unit embeddings, of unit length.

    Args:
        model: a `PECore`.
        tokenizer: the model's `PETokenizer`.
        class_names: names of the classes.
        templates: prompts with one `{}` (or `{c}`) for the class name.
        batch_size: texts a forward pass.

    Returns:
        float32 `(classes, output_dim)`, and how many prompts were too long for the
        model and lost their ends.

    Raises:
        NonFiniteError: if the model gives NaN or infinity for a prompt, or a class's
            prompts cancel each other.
    """
    vectors, truncated = [], 0
    step = max(1, MAX_PROMPTS // len(templates))
    for start in range(0, len(class_names), step):
        names = class_names[start : start + step]
        prompts = [fill(template, name) for name in names for template in templates]
        embeddings = embed_texts(model, tokenizer, prompts, batch_size)
        mean = embeddings.reshape((len(names), len(templates), -1)).mean(axis=1)
        with np.errstate(invalid="ignore"):
            unit_length = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        vectors.append(check_finite(unit_length, "class vectors", "class", names))
        report = getattr(tokenizer, "last_report", None)
        truncated += report.num_truncated if report is not None else 0
    return np.concatenate(vectors), truncated


def preset_class_vectors(
    model: DualEncoder, tokenizer: PETokenizer | None, metadata: Mapping[str, Any]
) -> ClassVectors | None:
    """Embeds the classes that the metadata of a preset names; None without any."""
    known = known_classes(metadata)
    if tokenizer is None or known is None:
        return None
    before = tokenizer.on_truncation
    tokenizer.on_truncation = "ignore"  # known names: a long one is no surprise
    try:
        vectors, _ = class_vectors(model, tokenizer, *known)
    finally:
        tokenizer.on_truncation = before
    return ClassVectors(vectors, *known)


def embed_texts(
    model: DualEncoder,
    tokenizer: PETokenizer,
    texts: Sequence[str],
    batch_size: int = 32,
) -> np.ndarray:
    """Returns unit-length embeddings of texts, `(count, output_dim)` float32.

    Raises:
        ValueError: if the tokenizer is that of another model.
        NonFiniteError: if the model gives NaN or infinity for a text.
    """
    texts = list(texts)
    check_tokenizer(tokenizer, model)
    embeddings = embed_in_batches(
        model.encode_text, tokenizer(texts), batch_size, model.output_dim
    )
    return check_finite(embeddings, f"text embeddings of {model.name}", "text", texts)


def embed_images(
    model: DualEncoder,
    images: Any,
    batch_size: int = 32,
    names: Sequence[Any] | None = None,
) -> np.ndarray:
    """Returns unit-length embeddings of prepared images, float32.

    Raises:
        NonFiniteError: if the model gives NaN or infinity for an image, which is then
            called by its name, if there are `names`.
    """
    images = ops.convert_to_numpy(model.vision_encoder.checked_images(images))
    embeddings = embed_in_batches(
        model.encode_image, images, batch_size, model.output_dim
    )
    return check_finite(embeddings, f"image embeddings of {model.name}", "image", names)


def embed_in_batches(
    encode: Any, inputs: np.ndarray, batch_size: int, output_dim: int
) -> np.ndarray:
    """Returns `encode` of inputs, batch by batch, `(count, output_dim)` float32.

    Whether they are finite is for the caller to check, who knows what the rows are.
    """
    embeddings = np.empty((len(inputs), output_dim), "float32")
    for start in range(0, len(inputs), batch_size):
        batch = inputs[start : start + batch_size]
        result = ops.convert_to_numpy(encode(padded_batch(batch, batch_size)))
        embeddings[start : start + len(batch)] = result[: len(batch)]
    return embeddings
