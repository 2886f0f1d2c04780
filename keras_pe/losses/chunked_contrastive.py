"""The contrastive loss of large batches, without the matrix of all logits."""

from typing import Any

from keras import ops

from keras_pe.losses.contrastive import (
    Duplicates,
    Gather,
    float32_pairs,
    gathered,
    ids_left_out,
    row_losses,
)
from keras_pe.losses.row_chunks import checked_chunk_size, streaming_logsumexp


def chunked_softmax_contrastive_loss(
    image_embeddings: Any,  # (batch, channels), unit length
    text_embeddings: Any,  # (batch, channels), unit length
    logit_scale: Any,
    *,
    chunk_size: int,
    caption_ids: Any = None,
    duplicates: Duplicates = "negative",
    gather: Gather | None = None,
) -> Any:
    """Returns `softmax_contrastive_loss` without holding the (batch, batch) logits.

    Both directions come from one walk over chunks of images; the backward pass
    computes each chunk's logits again. Value and gradients are those of the plain loss
    up to float32 rounding, for four matrix products in place of three. With `gather`
    only the texts are gathered, and each device computes its rows of the one matrix.

    Args:
        image_embeddings: `(batch, channels)`, unit length.
        text_embeddings: `(batch, channels)`, unit length.
        logit_scale: factor of the cosines.
        chunk_size: images at a time: a few float32 matrices of (chunk_size, batch)
            are held. It need not divide the batch. Where a batch is sharded over
            devices as one array (JAX), these are rows of all devices together: take
            a multiple of the number of devices, and few chunks, because each one
            sums the texts' gradients over the devices.
        caption_ids: as in `softmax_contrastive_loss`.
        duplicates: as in `softmax_contrastive_loss`.
        gather: as in `softmax_contrastive_loss`; also called with float32 vectors of
            the length of the global batch.

    Returns:
        float32 scalar: the mean over both directions; with `gather`, this device's
        share of it.

    Raises:
        ValueError: if shapes or options do not fit.

    Source: Perception Encoder, section 2.1 and table 18 (a batch of 131,072).

    Example:
        >>> import numpy as np
        >>> x = np.eye(4, dtype="float32")
        >>> float(chunked_softmax_contrastive_loss(x, x, 100.0, chunk_size=3)) < 1e-6
        True
    """
    checked_chunk_size(chunk_size)
    images, texts = float32_pairs(image_embeddings, text_embeddings)
    ids = ids_left_out(caption_ids, duplicates, images.shape[0])
    scale = ops.cast(logit_scale, "float32")
    matching = ops.sum(images * texts, axis=-1) * scale  # (local_batch,)
    all_matching = gathered(matching, gather)  # (global_batch,)
    all_texts = gathered(texts, gather)
    to_text, to_image = streaming_logsumexp(
        images, all_texts, scale, chunk_size, ids, gathered(ids, gather)
    )
    if gather is not None:
        # So far over this device's images only.
        each_device = ops.reshape(gather(to_image), (-1, *all_matching.shape))
        to_image = ops.logsumexp(each_device, axis=0)
    left_out = ids is not None
    return 0.5 * (
        ops.mean(row_losses(to_text, matching, left_out))
        + ops.mean(row_losses(to_image, all_matching, left_out))
    )
