"""The contrastive loss between pictures and texts."""

from typing import Any

from keras import ops

from keras_pe.losses.pairs import (
    Duplicates,
    Gather,
    float32_pairs,
    gathered,
    ids_left_out,
    pair_logits,
)


def softmax_contrastive_loss(
    image_embeddings: Any,  # (batch, channels), unit length
    text_embeddings: Any,  # (batch, channels), unit length
    logit_scale: Any,
    *,
    caption_ids: Any = None,
    duplicates: Duplicates = "negative",
    gather: Gather | None = None,
) -> Any:
    """Returns the symmetric softmax contrastive (InfoNCE) loss of a batch.

    Row i of one side belongs to row i of the other; all other rows are negatives.
    Computed in float32. `chunked_softmax_contrastive_loss` is the same loss without
    the (batch, batch) matrix.

    Args:
        image_embeddings: `(batch, channels)`, unit length.
        text_embeddings: `(batch, channels)`, unit length.
        logit_scale: factor of the cosines, at most 100 in the paper.
        caption_ids: `(batch,)` integers, equal where captions are equal. Only "ignore"
            reads them.
        duplicates: what rows of equal captions are to each other. "negative":
            negatives like any other, as in CLIP and the paper. "ignore": nothing; the
            pairs (i, j), i != j, of equal captions are left out of both softmaxes.
        gather: for a batch spread over devices that each call this with their rows
            (on JAX the batch is whole, and nothing has to be gathered). A function
            that maps `(local_batch, ...)` to `(global_batch, ...)`, all devices' rows
            in the same order everywhere; the gradient of a row must be the sum over
            the devices of the gradients of its copies. It is also called with integer
            ids. See `keras_pe.training.devices.distribution`.

    Returns:
        float32 scalar: the mean over both directions. With `gather`, this device's
        share: the mean of the shares over the devices is the loss of the global batch,
        and the mean of their gradients is its gradient.

    Raises:
        ValueError: if shapes or options do not fit.

    Source: Perception Encoder, section 2.1 and table 18; Radford et al. 2021.

    Example:
        >>> import numpy as np
        >>> x = np.eye(4, dtype="float32")
        >>> float(softmax_contrastive_loss(x, x, 100.0)) < 1e-6
        True
    """
    images, texts = float32_pairs(image_embeddings, text_embeddings)
    ids = ids_left_out(caption_ids, duplicates, images.shape[0])
    all_ids = gathered(ids, gather)
    scale = ops.cast(logit_scale, "float32")
    # Which of the gathered rows are this device's own need not be known: the logits
    # of the pairs that belong together are computed from the local rows.
    matching = ops.sum(images * texts, axis=-1) * scale  # (local_batch,)
    to_text = pair_logits(images, gathered(texts, gather), scale, all_ids, ids)
    if gather is None:
        to_image = ops.transpose(to_text)
    else:
        to_image = pair_logits(texts, gather(images), scale, all_ids, ids)
    directions = [
        ops.mean(row_losses(ops.logsumexp(logits, axis=1), matching, ids is not None))
        for logits in (to_text, to_image)  # (local_batch, global_batch)
    ]
    return 0.5 * (directions[0] + directions[1])


def row_losses(log_sum: Any, matching: Any, matching_left_out: bool) -> Any:  # (rows,)
    """Returns -log of the matching pair's probability, `(rows,)`.

    Args:
        log_sum: `(rows,)`: log-sum-exp of a row's logits.
        matching: `(rows,)`: logit of the matching pair.
        matching_left_out: whether the sum lacks that pair. A pair matches itself in
            its caption, so leaving out equal captions takes it too.
    """
    below = log_sum - matching
    # log(exp(log_sum) + exp(matching)) - matching
    return ops.softplus(below) if matching_left_out else below
