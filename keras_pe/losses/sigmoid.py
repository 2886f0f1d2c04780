"""The sigmoid contrastive loss of SigLIP, plain and in chunks."""

from typing import Any

from keras import ops

from keras_pe.losses.contrastive import (
    Duplicates,
    Gather,
    float32_pairs,
    gathered,
    ids_left_out,
    pair_logits,
)
from keras_pe.losses.row_chunks import (
    checked_chunk_size,
    fold_row_chunks,
    product_gradients,
    with_gradient,
)


def sigmoid_contrastive_loss(
    image_embeddings: Any,  # (batch, channels), unit length
    text_embeddings: Any,  # (batch, channels), unit length
    logit_scale: Any,
    logit_bias: Any,
    *,
    caption_ids: Any = None,
    duplicates: Duplicates = "negative",
    gather: Gather | None = None,
) -> Any:
    """Returns the sigmoid contrastive loss of a batch.

    Each pair of the batch is a yes-or-no question of its own: the sum over all pairs
    of -log sigmoid(z * (logit_scale * cosine + logit_bias)), z = 1 for pairs that
    belong together and -1 for others, divided by the batch. Computed in float32.

    Args:
        image_embeddings: `(batch, channels)`, unit length.
        text_embeddings: `(batch, channels)`, unit length.
        logit_scale: factor of the cosines; SigLIP starts at 10.
        logit_bias: added to the logits; SigLIP starts at -10.
        caption_ids: `(batch,)` integers, equal where captions are equal. Only "ignore"
            reads them.
        duplicates: "negative": rows of equal captions are negatives like any other.
            "ignore": the pairs (i, j), i != j, of equal captions are left out.
        gather: as in `keras_pe.losses.softmax_contrastive_loss`.

    Returns:
        float32 scalar; with `gather`, this device's share, whose mean over the devices
        is the loss of the global batch.

    Raises:
        ValueError: if shapes or options do not fit.

    Source: Zhai et al. 2023, Sigmoid Loss for Language Image Pre-Training, section 3.2.

    Example:
        >>> import numpy as np
        >>> x = np.eye(4, dtype="float32")
        >>> float(sigmoid_contrastive_loss(x, x, 100.0, -50.0)) < 1e-6
        True
    """
    images, texts, all_texts, ids, all_ids = _prepared(
        image_embeddings, text_embeddings, caption_ids, duplicates, gather
    )
    scale, bias = ops.cast(logit_scale, "float32"), ops.cast(logit_bias, "float32")
    matching = ops.sum(images * texts, axis=-1) * scale + bias  # (local_batch,)
    logits = pair_logits(images, all_texts, scale, all_ids, ids) + bias
    as_negatives = ops.sum(ops.softplus(logits), axis=1)
    return _mean_loss(as_negatives, matching, ids is not None)


def chunked_sigmoid_contrastive_loss(
    image_embeddings: Any,  # (batch, channels), unit length
    text_embeddings: Any,  # (batch, channels), unit length
    logit_scale: Any,
    logit_bias: Any,
    *,
    chunk_size: int,
    caption_ids: Any = None,
    duplicates: Duplicates = "negative",
    gather: Gather | None = None,
) -> Any:
    """Returns `sigmoid_contrastive_loss` without holding the (batch, batch) logits.

    Args:
        image_embeddings: `(batch, channels)`, unit length.
        text_embeddings: `(batch, channels)`, unit length.
        logit_scale: factor of the cosines.
        logit_bias: added to the logits.
        chunk_size: images at a time, as in `chunked_softmax_contrastive_loss`.
        caption_ids: as in `sigmoid_contrastive_loss`.
        duplicates: as in `sigmoid_contrastive_loss`.
        gather: as in `keras_pe.losses.softmax_contrastive_loss`.

    Returns:
        float32 scalar; with `gather`, this device's share.

    Raises:
        ValueError: if shapes or options do not fit.

    Source: Zhai et al. 2023, Sigmoid Loss for Language Image Pre-Training, section 3.3.

    Example:
        >>> import numpy as np
        >>> x = np.eye(4, dtype="float32")
        >>> loss = chunked_sigmoid_contrastive_loss(x, x, 100.0, -50.0, chunk_size=3)
        >>> float(loss) < 1e-6
        True
    """
    checked_chunk_size(chunk_size)
    images, texts, all_texts, ids, all_ids = _prepared(
        image_embeddings, text_embeddings, caption_ids, duplicates, gather
    )
    scale, bias = ops.cast(logit_scale, "float32"), ops.cast(logit_bias, "float32")
    matching = ops.sum(images * texts, axis=-1) * scale + bias  # (local_batch,)
    as_negatives = _streaming_softplus(
        images, all_texts, scale, bias, chunk_size, ids, all_ids
    )
    return _mean_loss(as_negatives, matching, ids is not None)


def _prepared(
    image_embeddings: Any,
    text_embeddings: Any,
    caption_ids: Any,
    duplicates: str,
    gather: Gather | None,
) -> tuple[Any, Any, Any, Any, Any]:
    """Returns images, texts, all texts, and the ids of both whose pairs are left out.

    Where it is known which pair is a row's own, that pair is left out of the negatives.
    """
    images, texts = float32_pairs(image_embeddings, text_embeddings)
    ids = ids_left_out(caption_ids, duplicates, images.shape[0])
    if ids is None and gather is None:
        ids = ops.arange(ops.shape(images)[0], dtype="int32")
    return images, texts, gathered(texts, gather), ids, gathered(ids, gather)


def _mean_loss(as_negatives: Any, matching: Any, matching_left_out: bool) -> Any:
    """Returns the mean over rows from `(rows,)` sums over negatives.

    If the matching pair is among them, its term softplus(logit) becomes the one of a
    positive, softplus(-logit), by taking away the logit. The rounding of that is 1e-7
    of the logit: seen in the loss of a row only where it is nearly zero anyway.
    """
    own = ops.softplus(-matching) if matching_left_out else -matching
    return ops.mean(as_negatives + own)


def _streaming_softplus(
    images: Any,  # (rows, channels)
    texts: Any,  # (keys, channels)
    scale: Any,
    bias: Any,
    chunk_size: int,
    image_ids: Any,  # (rows,) or None
    text_ids: Any,  # (keys,) or None
) -> Any:
    """Returns the sum of softplus(logit) over the texts, `(rows,)`."""

    def forward(images: Any, texts: Any, scale: Any, bias: Any, *ids: Any) -> Any:
        def step(totals: Any, chunk: Any) -> Any:
            images, *image_ids = chunk
            logits = pair_logits(images, texts, scale, *ids[1:], *image_ids)
            logits += bias
            return totals, [ops.sum(ops.softplus(logits), axis=1)]

        rows = [images, *ids[:1]]
        _, (sums,) = fold_row_chunks(step, (), rows, chunk_size, [()])
        return sums, None

    def backward(
        upstream: Any,
        _: None,
        images: Any,
        texts: Any,
        scale: Any,
        bias: Any,
        *ids: Any,
    ) -> Any:
        def step(totals: Any, chunk: Any) -> Any:
            text_total, scale_total, bias_total = totals
            images, upstream, *image_ids = chunk
            logits = pair_logits(images, texts, scale, *ids[1:], *image_ids)
            logits += bias
            gradient = ops.sigmoid(logits)
            gradient *= upstream[:, None]
            image_gradient, text_total, scale_total = product_gradients(
                gradient, images, texts, scale, text_total, scale_total
            )
            bias_total = bias_total + ops.sum(gradient)
            return (text_total, scale_total, bias_total), [image_gradient]

        start = tuple(ops.zeros_like(x) for x in (texts, scale, bias))
        totals, (image_gradient,) = fold_row_chunks(
            step,
            start,
            [images, upstream, *ids[:1]],
            chunk_size,
            [tuple(images.shape[1:])],
        )
        return image_gradient, *totals

    inputs = [ops.convert_to_tensor(x) for x in (images, texts, scale, bias)]
    if image_ids is not None:
        inputs += [image_ids, text_ids]
    return with_gradient(forward, backward)(*inputs)
