"""Which patches of a picture are masked or kept: drawn on the host, by batch number."""

import numpy as np


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
        rows: number of pictures.
        grid: (rows, columns) of patches of a picture.
        ratio: share that is masked, 0.4 in the paper.
        rng: source of the randomness.
        block: side of a masked block in patches. The paper does not say; 1 is single
            patches.

    Returns:
        bool `(rows, patches)`, true where masked.

    Raises:
        ValueError: if the ratio leaves nothing masked or nothing visible, or there is
            no picture to mask.

    Source: Perception Encoder, section 2.1 and table 18.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> masked_patches(2, (5, 5), 0.4, rng).sum(axis=1).tolist()
        [10, 10]
    """
    if rows < 1 or block < 1:
        raise ValueError(
            f"Masks are for one picture or more, in blocks of a patch or more, got "
            f"rows={rows} and block={block}. A sixteenth of a batch below 16 is none: "
            f"mask a larger share of the pictures, or take a larger batch."
        )
    height, width = grid
    patches = height * width
    wanted = round(ratio * patches)
    if not 0 < wanted < patches:
        raise ValueError(
            f"A mask must hide some patches and leave some, got ratio={ratio} of "
            f"{patches} patches. Choose a ratio inside (0, 1), or larger pictures."
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
    """Draws the patches that each picture keeps when patches are dropped.

    Args:
        rows: number of pictures.
        patches: patches of a picture.
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
