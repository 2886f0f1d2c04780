"""What SAM's masks of a grid of points cost: operations and memory, from its sizes."""

import dataclasses

FLOAT = 4  # bytes


@dataclasses.dataclass(frozen=True)
class SamSize:
    """One size of SAM. Defaults are what all published ones have.

    Attributes:
        hidden_dim: channels of the image encoder.
        num_layers: its blocks.
        num_heads: its attention heads.
        global_layers: how many of its blocks attend to the whole image; the others
            do to windows.
        parameters: of all parts.
        image_size: side of its images, pixels.
        patch_size: of the image encoder, pixels.
        intermediate_dim: of its feed-forward; None for four times the channels.
        window: side of its windows, patches.
        decoder_dim: channels of the mask decoder, and of what the encoder returns.
        decoder_layers: blocks of the mask decoder.
        decoder_heads: its attention heads.
        decoder_intermediate_dim: of its feed-forward.
        quality_dim: of the layers that foresee a mask's quality.
        masks: of a point: one, and three for points that may mean several things.

    Source: Kirillov et al. 2023, "Segment Anything", appendix A; the sizes are those of
        `segment_anything/build_sam.py`.
    """

    hidden_dim: int
    num_layers: int
    num_heads: int
    global_layers: int = 4
    parameters: int = 0
    image_size: int = 1024
    patch_size: int = 16
    intermediate_dim: int | None = None
    window: int = 14
    decoder_dim: int = 256
    decoder_layers: int = 2
    decoder_heads: int = 8
    decoder_intermediate_dim: int = 2048
    quality_dim: int = 256
    masks: int = 4

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.image_size // self.patch_size


# By the names of KerasHub's presets.
SAM_SIZES: dict[str, SamSize] = {
    "sam_base_sa1b": SamSize(768, 12, 12, parameters=93_735_728),
    "sam_large_sa1b": SamSize(1024, 24, 16, parameters=312_343_088),
    "sam_huge_sa1b": SamSize(1280, 32, 16, parameters=641_090_864),
}


def encoder_flops(size: SamSize) -> int:
    """Returns the operations of the image encoder on one image.

    As `vision_flops` counts them. Windows that reach over the edge are computed whole.

    Example:
        >>> round(encoder_flops(SAM_SIZES["sam_huge_sa1b"]) / 2e12, 2)
        2.98
    """
    hidden, tokens = size.hidden_dim, size.grid**2
    intermediate = size.intermediate_dim or 4 * hidden

    def block(window: int) -> int:
        windows = (-(-size.grid // window)) ** 2
        padded = windows * window**2
        products = 4 * padded * hidden**2  # queries, keys, values, output
        products += 2 * padded * window**2 * hidden  # logits and weighted sum
        products += 2 * padded * window * hidden  # relative positions, down and across
        return products + 2 * tokens * hidden * intermediate

    products = 3 * tokens * size.patch_size**2 * hidden
    products += size.global_layers * block(size.grid)
    products += (size.num_layers - size.global_layers) * block(size.window)
    out = size.decoder_dim
    products += tokens * out * (hidden + 9 * out)  # the neck
    return 2 * products


def point_flops(size: SamSize, grid: tuple[int, int]) -> int:
    """Returns the operations of all masks of one point, one of them taken by patches.

    Args:
        size: of SAM.
        grid: (rows, columns) of the patches.
    """
    dim, pixels = size.decoder_dim, size.grid**2
    tokens = (
        1 + size.masks + 2
    )  # of the quality, the masks, the point and no second one

    def attention(queries: int, keys: int, inner: int) -> int:
        products = 2 * (queries + keys) * dim * inner
        return products + 2 * queries * keys * inner

    across = attention(tokens, pixels, dim // 2)
    layer = attention(tokens, tokens, dim) + 2 * across
    layer += 2 * tokens * dim * size.decoder_intermediate_dim
    products = size.decoder_layers * layer + across
    products += pixels * dim * dim  # to twice the side, a quarter of the channels
    products += 4 * pixels * dim // 4 * 4 * (dim // 8)
    products += size.masks * (2 * dim**2 + dim * dim // 8)
    products += dim * size.quality_dim + size.quality_dim**2
    products += size.quality_dim * size.masks
    side = 4 * size.grid
    products += size.masks * side**2 * dim // 8
    rows, columns = grid
    products += side**2 * columns + side * columns * rows
    return 2 * products


def sam_flops(size: SamSize, points: int, grid: tuple[int, int]) -> int:
    """Returns the operations of `SamTeacher` on one image.

    Args:
        size: of SAM.
        points: along each side.
        grid: (rows, columns) of the student's patches.

    Example:
        >>> round(sam_flops(SAM_SIZES["sam_huge_sa1b"], 32, (32, 32)) / 1e12, 1)
        9.7
    """
    return encoder_flops(size) + points**2 * point_flops(size, grid)


def sam_bytes(size: SamSize, chunk: int) -> int:
    """Returns an estimate of the memory of `SamTeacher`, float32, beside its masks.

    The weights, and the larger of two: a global block's logits and probabilities, or
    what the mask decoder holds of a chunk's points at a time (queries, keys and sums of
    the image, and maps of twice and four times its side).

    Args:
        size: of SAM.
        chunk: points at a time.
    """
    pixels, dim = size.grid**2, size.decoder_dim
    logits = 2 * size.num_heads * pixels**2
    of_point = 5 * pixels * dim  # tokens of the image, positions, sums
    of_point += 3 * 4 * pixels * (dim // 4)  # upscaled, normed, activated
    of_point += 3 * 16 * pixels * (dim // 8)  # upscaled again, activated, turned
    of_point += size.masks * 16 * pixels
    return FLOAT * (size.parameters + max(logits, chunk * of_point))
