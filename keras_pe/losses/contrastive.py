"""The contrastive loss between pictures and texts."""

from typing import Any

from keras import ops


def softmax_contrastive_loss(  # both (batch, channels), unit length
    image_embeddings: Any, text_embeddings: Any, logit_scale: Any
) -> Any:
    """Returns the symmetric softmax contrastive (InfoNCE) loss of a batch.

    Row i of one side belongs to row i of the other; all other rows are negatives.
    Computed in float32.

    Args:
        image_embeddings: `(batch, channels)`, unit length.
        text_embeddings: `(batch, channels)`, unit length.
        logit_scale: factor of the cosines, at most 100 in the paper.

    Returns:
        float32 scalar: the mean over both directions.

    Source: Perception Encoder, section 2.1 and table 18; Radford et al. 2021.

    Example:
        >>> import numpy as np
        >>> x = np.eye(4, dtype="float32")
        >>> float(softmax_contrastive_loss(x, x, 100.0)) < 1e-6
        True
    """
    image_embeddings = ops.cast(image_embeddings, "float32")
    text_embeddings = ops.cast(text_embeddings, "float32")
    logits = ops.matmul(image_embeddings, ops.transpose(text_embeddings))
    logits = logits * ops.cast(logit_scale, "float32")  # (batch, batch)
    matching = ops.diagonal(logits)
    to_text = ops.mean(ops.logsumexp(logits, axis=1) - matching)
    to_image = ops.mean(ops.logsumexp(logits, axis=0) - matching)
    return 0.5 * (to_text + to_image)
