"""Patches that are masked or dropped: how many, which, and the loss of masked ones.

They are drawn on the host, by batch number.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_pe.losses.masked_alignment import masked_alignment_loss
from keras_pe.training.devices.distribution import batch_parts
from keras_pe.training.trainers.chunks import num_chunks


# === The draw ===
def masked_rows(rows: int, mask_every: int, image_chunk_size: int | None) -> int:
    """Returns how many images of a batch are masked: at least one.

    One in `mask_every` where that divides the batch. Masks lie at even distances and
    each device and each chunk has as many, so elsewhere it is the nearest number
    below for which that works, or the smallest one above.

    Args:
        rows: images in a batch, of all devices.
        mask_every: one image in so many is masked.
        image_chunk_size: of the trainer, over all devices; None for no chunks.

    Raises:
        ValueError: if no number will do; says which settings are in the way.

    Example:
        >>> [masked_rows(rows, 16, None) for rows in (64, 50, 12, 1)]
        [4, 2, 1, 1]
    """
    replicas = batch_parts()
    # JAX alone cuts the rows of all devices into chunks, the others each replica's own.
    whole = keras.backend.backend() == "jax"
    chunks = 1
    if image_chunk_size is not None:
        chunks = num_chunks(rows if whole else rows // replicas, image_chunk_size)
    parts = math.lcm(replicas, chunks) if whole else replicas * chunks
    good = [n for n in range(parts, rows + 1, parts) if rows % n == 0]
    if not good:
        raise ValueError(
            f"A batch of {rows} images on {replicas} devices in {chunks} chunks "
            "can't have equally many masks in each. Take another --batch-size or "
            "--image-chunk-size, or --set mask_weight=0."
        )
    below = [n for n in good if n <= rows // mask_every]
    return below[-1] if below else good[0]


def masked_patches(
    rows: int,
    grid: tuple[int, int],
    ratio: float,
    rng: np.random.Generator,
    block: int = 1,
) -> np.ndarray:
    """Draws the masks of mask regularisation.

    Every row masks the same number of patches, the nearest to `ratio`. With a block
    side above 1, whole blocks are masked until that number is reached, and the last
    block is cut.

    Args:
        rows: number of images.
        grid: (rows, columns) of patches of an image.
        ratio: share that is masked, 0.4 in the paper.
        rng: source of the randomness.
        block: side of a masked block in patches. The paper does not say; 1 is single
            patches.

    Returns:
        bool `(rows, patches)`, true where masked.

    Raises:
        ValueError: if the ratio leaves nothing masked or nothing visible, or there is
            no image to mask.

    Source: Perception Encoder, section 2.1 and table 18.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> masked_patches(2, (5, 5), 0.4, rng).sum(axis=1).tolist()
        [10, 10]
    """
    if rows < 1 or block < 1:
        raise ValueError(
            f"Masks are for one image or more, in blocks of a patch or more, got "
            f"rows={rows} and block={block}. A sixteenth of a batch below 16 is none: "
            f"mask a larger share of the images, or take a larger batch."
        )
    height, width = grid
    patches = height * width
    wanted = round(ratio * patches)
    if not 0 < wanted < patches:
        raise ValueError(
            f"A mask must hide some patches and leave some, got ratio={ratio} of "
            f"{patches} patches. Choose a ratio inside (0, 1), or larger images."
        )
    down, across = -(-height // block), -(-width // block)
    scores = rng.random((rows, down, across))
    scores = scores.repeat(block, axis=1)[:, :height].repeat(block, axis=2)
    scores = scores[:, :, :width].reshape(rows, patches)
    # A stable sort keeps the patches of a block together, as their scores are equal.
    order = np.argsort(scores, axis=1, kind="stable")
    masks = np.zeros((rows, patches), bool)
    np.put_along_axis(masks, order[:, :wanted], True, axis=1)
    return masks


def kept_patches(
    rows: int, patches: int, share: float, rng: np.random.Generator
) -> np.ndarray:
    """Draws the patches that each image keeps when patches are dropped.

    Args:
        rows: number of images.
        patches: patches of an image.
        share: share that stays.
        rng: source of the randomness.

    Returns:
        int32 `(rows, kept)`, in increasing order.

    Raises:
        ValueError: if the share keeps nothing.

    Source: Li et al. 2023, "Scaling Language-Image Pre-training via Masking". An
        option: Perception Encoder, appendix C.1, found it no help.

    Example:
        >>> kept_patches(2, 16, 0.5, np.random.default_rng(0)).shape
        (2, 8)
    """
    kept = round(share * patches)
    if not 0 < kept <= patches:
        raise ValueError(
            f"Patch dropping must keep at least one patch and at most all, got "
            f"share={share} of {patches} patches. Choose a share inside (0, 1]."
        )
    order = np.argsort(rng.random((rows, patches)), axis=1)[:, :kept]
    return np.sort(order, axis=1).astype("int32")


# === In a step ===
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
            "Mask regularisation compares a masked image token by token with "
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
    """Returns how far masked images' tokens are from the whole images'.

    The copies never reach the pooling, and the target is a constant: this loss and
    the contrastive one share the blocks but no path.

    Args:
        vision: the `PEVisionEncoder` that is trained.
        images: the whole images, in [-1, 1].
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
            f"The number of masked images must divide the batch, got {count} "
            f"masks for {images.shape[0]} images. A sixteenth of a batch below "
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
