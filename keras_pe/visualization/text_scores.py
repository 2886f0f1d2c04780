"""Where in the image is what the text says?"""

from typing import Any, Literal, get_args

import numpy as np
from keras import ops

from keras_pe.models.core import PECore
from keras_pe.visualization.patch_embeddings import PatchMethod, patch_embeddings

Contrast = Literal["none", "mean", "softmax"]


def text_score_maps(
    model: PECore,
    images: Any,
    text_embeddings: Any,
    method: PatchMethod = "contribution",
    contrast: Contrast = "none",
) -> np.ndarray:
    """Scores each patch against each text.

    Args:
        model: a dual encoder whose vision tower pools by attention.
        images: `(batch, height, width, 3)` in [-1, 1].
        text_embeddings: `(texts, output_dim)`, from `model.encode_text`; scaled to
            unit length here.
        method: how a patch gets its embedding, see `patch_embeddings`. With
            "contribution" a map adds up to the cosine of image and text, but for
            the parts of class token and biases. With "value" and "projection" each
            score is a cosine of its own.
        contrast: "none" leaves the scores. "mean" subtracts the mean over all texts:
            what speaks for this text rather than for the others. "softmax" turns the
            scores of each patch into probabilities over the texts, with the model's
            logit scale; contributions are multiplied by the number of patches first,
            which makes cosines of them.

    Returns:
        float32 `(batch, texts, rows, columns)`.

    Raises:
        ValueError: if an argument makes no sense, or the images do not fit.

    Example:
        >>> from keras_pe import PECore, PETokenizer
        >>> preset = "pe_core_emoji_small_patch8_64"
        >>> model = PECore.from_preset(preset)
        >>> tokenizer = PETokenizer.from_preset(preset)
        >>> texts = model.encode_text(tokenizer(["a cat", "a dog"]))
        >>> text_score_maps(model, np.zeros((1, 64, 64, 3), "float32"), texts).shape
        (1, 2, 8, 8)
    """
    if contrast not in get_args(Contrast):
        raise ValueError(
            f"contrast must be one of {', '.join(get_args(Contrast))}; got "
            f"{contrast!r}."
        )
    if hasattr(text_embeddings, "dtype"):
        text_embeddings = ops.convert_to_numpy(ops.cast(text_embeddings, "float32"))
    texts = np.asarray(text_embeddings, "float32")
    if texts.ndim != 2 or texts.shape[1] != model.output_dim or not len(texts):
        raise ValueError(
            f"Expected text embeddings (texts, {model.output_dim}), got {texts.shape}. "
            f"model.encode_text(tokenizer([...])) makes them; for one text keep a list."
        )
    if contrast != "none" and len(texts) < 2:
        raise ValueError(
            f"contrast={contrast!r} compares texts with each other and needs at least "
            f'two, got one. Add others, such as "background", or use contrast="none".'
        )
    texts = texts / np.maximum(np.linalg.norm(texts, axis=1, keepdims=True), 1e-12)
    patches = patch_embeddings(model.vision_encoder, images, method)
    scores = np.einsum("brcd,td->btrc", patches, texts, optimize=True)
    if contrast == "mean":
        scores = scores - scores.mean(axis=1, keepdims=True)
    elif contrast == "softmax":
        factor = float(ops.convert_to_numpy(model.clamped_logit_scale()))
        if method == "contribution":
            factor *= scores.shape[2] * scores.shape[3]
        weights = np.exp(factor * (scores - scores.max(axis=1, keepdims=True)))
        scores = weights / weights.sum(axis=1, keepdims=True)
    return scores.astype("float32")
