"""The contrastive loss between images and texts, and what all such losses share."""

from collections.abc import Callable
from typing import Any, Literal

from keras import ops

# === Checks, float32, logits ===
Gather = Callable[[Any], Any]
Duplicates = Literal["negative", "ignore"]

# Stands for the logit of a pair that is left out: differences of two stay finite.
LEFT_OUT = -1e30


def float32_pairs(
    image_embeddings: Any, text_embeddings: Any
) -> tuple[Any, Any]:  # both (batch, channels)
    """Returns both sides in float32.

    Raises:
        ValueError: if they are not two matrices of one shape.
    """
    shapes = [tuple(side.shape) for side in (image_embeddings, text_embeddings)]
    known = all(None not in shape for shape in shapes)
    if any(len(shape) != 2 for shape in shapes) or (known and shapes[0] != shapes[1]):
        raise ValueError(
            f"Image and text embeddings must both be (batch, channels), got {shapes[0]}"
            f" and {shapes[1]}. Row i of one side belongs to row i of the other."
        )
    return ops.cast(image_embeddings, "float32"), ops.cast(text_embeddings, "float32")


def ids_left_out(caption_ids: Any, duplicates: str, batch: int | None) -> Any:
    """Returns the ids whose pairs are left out as int32 `(batch,)`, or None.

    Raises:
        ValueError: if `duplicates` is unknown, or "ignore" comes without its ids.
    """
    if duplicates not in ("negative", "ignore"):
        raise ValueError(
            f'duplicates must be "negative" or "ignore", got {duplicates!r}.'
        )
    if duplicates == "negative":
        return None
    if caption_ids is None:
        raise ValueError(
            'duplicates="ignore" needs caption_ids: (batch,) integers, equal where '
            "captions are equal."
        )
    caption_ids = ops.cast(caption_ids, "int32")
    shape = tuple(caption_ids.shape)
    if len(shape) != 1 or (None not in (shape[0], batch) and shape[0] != batch):
        raise ValueError(
            f"caption_ids must be (batch,) = ({batch},), got {shape}: one for each "
            f"row of the text embeddings."
        )
    return caption_ids


def gathered(x: Any, gather: Gather | None) -> Any:  # (local_batch, ...)
    """Returns the rows of all devices; without `gather`, the ones given."""
    return x if gather is None or x is None else gather(x)


def pair_logits(
    queries: Any,  # (rows, channels)
    keys: Any,  # (keys, channels)
    logit_scale: Any,
    key_ids: Any = None,  # (keys,)
    query_ids: Any = None,  # (rows,)
) -> Any:
    """Returns the logits `(rows, keys)`; pairs of equal ids get `LEFT_OUT`."""
    logits = ops.matmul(queries * logit_scale, ops.transpose(keys))
    if query_ids is None:
        return logits
    same = ops.equal(query_ids[:, None], key_ids[None, :])
    return ops.where(same, LEFT_OUT, logits)


# === The loss ===
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
