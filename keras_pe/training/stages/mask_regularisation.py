"""Mask regularisation of a contrastive stage: which masks it has, and their loss."""

from collections.abc import Mapping
from typing import Any, Literal

from keras import ops

from keras_pe.losses.masked_alignment import masked_alignment_loss


def used_patches(
    inputs: Mapping[str, Any], mask_weight: float, training: bool | None
) -> tuple[Any, Any]:
    """Returns a batch's masks and kept patches, each None where there are none to use.

    Args:
        inputs: the batch, arrays by name.
        mask_weight: factor of the mask loss; 0 for no mask regularisation.
        training: an evaluation has no masks.

    Raises:
        ValueError: if the batch has masks that nothing reads, lacks those that are
            needed, or drops patches as well.
    """
    kept, masks = inputs.get("kept_patches"), inputs.get("masked_patches")
    if masks is not None and not mask_weight:
        raise ValueError(
            "The batch has masked_patches, but mask_weight=0: there is no mask "
            "regularisation. Give the trainer a mask_weight (the recipes take 1), "
            "or leave the masks out."
        )
    if not mask_weight or not training:
        return None, kept
    if masks is None:
        raise ValueError(
            f"mask_weight={mask_weight} needs masks in every batch, got "
            f"{sorted(inputs)}. Add masked_patches "
            f"(keras_pe.training.masked_patches draws them), or set mask_weight=0."
        )
    if kept is not None:
        raise ValueError(
            "Mask regularisation compares a masked picture token by token with "
            "the whole one, so it can't go with patch dropping: give "
            "masked_patches or kept_patches, not both."
        )
    return masks, kept


def mask_loss(
    vision: Any,
    images: Any,  # (batch, height, width, 3)
    tokens: Any,  # (batch, tokens, hidden_dim)
    masks: Any,  # (rows, patches)
    mask_embedding: Any,  # (hidden_dim,)
    *,
    positions: Literal["masked", "all"],
    normed: bool,
) -> Any:
    """Returns how far masked pictures' tokens are from the whole pictures'.

    The copies never reach the pooling, and the target is a constant: this loss and
    the contrastive one share the blocks but no path.

    Args:
        vision: the `PEVisionEncoder` that is trained.
        images: the whole pictures, in [-1, 1].
        tokens: their last-layer tokens, before the final norm.
        masks: bool, for an evenly spaced part of the batch.
        mask_embedding: takes the place of masked patches.
        positions: which tokens are compared.
        normed: whether they are compared after the final norm.

    Raises:
        ValueError: if the number of masks does not divide the batch.

    Source: Perception Encoder, section 2.1.
    """
    count = masks.shape[0]
    if not count or images.shape[0] is None or images.shape[0] % count:
        raise ValueError(
            f"The number of masked pictures must divide the batch, got {count} "
            f"masks for {images.shape[0]} pictures. A sixteenth of a batch below "
            f"16 is none: mask a larger share, or take a larger batch; on "
            f"TensorFlow batch with drop_remainder=True."
        )
    # Evenly spaced rows: where the batch is sharded, each device masks its own.
    each = images.shape[0] // count
    (masked_tokens,) = vision.layer_tokens(
        images[::each],
        [-1],
        masked_patches=masks,
        mask_embedding=ops.convert_to_tensor(mask_embedding),
        training=False,
    )
    full_tokens = ops.stop_gradient(tokens[::each])
    if normed and vision.norm is not None:
        masked_tokens = vision.norm(masked_tokens)
        full_tokens = ops.stop_gradient(vision.norm(full_tokens))
    first = int(vision.class_token)
    return masked_alignment_loss(
        masked_tokens[:, first:],
        full_tokens[:, first:],
        masks,
        positions=positions,
    )
