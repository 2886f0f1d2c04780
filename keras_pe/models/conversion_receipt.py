"""Says how near a converted vision encoder comes to its original."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_pe.models.compiled import no_gradient
from keras_pe.models.convert import (
    KERNEL_RESIZES,
    float32_array,
    patch_kernel,
    resize_kernel,
)
from keras_pe.models.vision_forward import VisionForward


@dataclasses.dataclass(frozen=True)
class ConversionReceipt:
    """How near a converted encoder comes to the original, on given images.

    Attributes:
        layers: mean cosine of patch tokens, original to converted, by layer.
        pooled: mean cosine of the embeddings; None where the encoder does not pool.
        images: number of images.
        image_sizes: side in pixels that each encoder read, original first.
        patch_sizes: side of a patch of each.
        grids: (rows, columns) of each.
        compared_grid: the grid on which tokens were compared.
        kernel_resize: "bilinear" or "pseudo_inverse" as the weights prove it,
            "unchanged", or "other" (trained since, or another source).
    """

    layers: dict[int, float]
    pooled: float | None
    images: int
    image_sizes: tuple[int, int]
    patch_sizes: tuple[int, int]
    grids: tuple[tuple[int, int], tuple[int, int]]
    compared_grid: tuple[int, int]
    kernel_resize: str

    def __str__(self) -> str:
        (old, new), (before, after) = self.image_sizes, self.patch_sizes
        lines = [
            f"{old} px in patches of {before} -> {new} px in patches of {after} "
            f"({self.images} images, kernel: {self.kernel_resize}, compared on "
            f"{self.compared_grid[0]}x{self.compared_grid[1]} patches)",
            *(f"  layer {k:2d}: cosine {v:.4f}" for k, v in self.layers.items()),
        ]
        if self.pooled is not None:
            lines.append(f"  embedding: cosine {self.pooled:.4f}")
        return "\n".join(lines)


def conversion_receipt(
    original: VisionForward,
    converted: VisionForward,
    images: Any,
    layers: Sequence[int] = (0, -1),
    image_size: int | None = None,
) -> ConversionReceipt:
    """Compares a converted encoder with its original on the same images.

    Both read each image resized (bilinear, antialiased) to their own size. Where
    the grids differ, the finer map is resized to the coarser grid before tokens are
    compared.

    Args:
        original: the encoder that was converted.
        converted: what `convert` returned.
        images: `(batch, height, width, 3)` in [-1, 1], square, of any size; best not
            smaller than what either encoder reads.
        layers: layer numbers as in `features`.
        image_size: side that the converted encoder reads; None is its own. Take the
            size that the detector will have to see what windows and positions cost.

    Returns:
        A `ConversionReceipt`.

    Raises:
        ValueError: if the two encoders differ in more than sizes, or images are
            not square.

    Example:
        >>> import numpy as np
        >>> from keras_pe import PEVisionEncoder
        >>> encoder = PEVisionEncoder(image_size=32, patch_size=8, hidden_dim=32,
        ...     num_layers=2, num_heads=4, intermediate_dim=64, output_dim=16)
        >>> images = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3))
        >>> same = conversion_receipt(encoder, encoder.convert(), images)
        >>> "1.0" in str(same)
        True
    """
    for name in ("hidden_dim", "num_layers", "class_token", "pooling", "output_dim"):
        ours, theirs = getattr(original, name), getattr(converted, name)
        if ours != theirs:
            raise ValueError(
                f"A receipt compares an encoder with one that convert made from it, "
                f"got {name}={ours!r} and {theirs!r}."
            )
    images = original.checked_images(images)
    if len(images.shape) != 4 or images.shape[1] != images.shape[2]:
        raise ValueError(
            f"Expected square images (batch, side, side, 3), got "
            f"{tuple(images.shape)}. PEImageConverter makes them."
        )
    encoders = (original, converted)
    sizes = (original.image_size, image_size or converted.image_size)
    pooled = None
    with no_gradient():
        inputs = [_resized(images, size) for size in sizes]
        found = [
            encoder.features(x, layers=list(layers))
            for encoder, x in zip(encoders, inputs, strict=True)
        ]
        if original.pooling is not None:
            ours, theirs = (e.encode(x) for e, x in zip(encoders, inputs, strict=True))
            pooled = _cosine(ours, theirs)
        grids = (found[0][0].grid, found[1][0].grid)
        compared = min(grids)
        cosines = {
            ours.layer: _cosine(
                _resized(ours.map(), compared[0]), _resized(theirs.map(), compared[0])
            )
            for ours, theirs in zip(*found, strict=True)
        }
    return ConversionReceipt(
        layers=cosines,
        pooled=pooled,
        images=images.shape[0],
        image_sizes=sizes,
        patch_sizes=(original.patch_size, converted.patch_size),
        grids=grids,
        compared_grid=compared,
        kernel_resize=_method_used(original, converted),
    )


def _method_used(original: VisionForward, converted: VisionForward) -> str:
    """Returns how the projection was resized, told from the weights."""
    ours, theirs = patch_kernel(original), patch_kernel(converted)
    if ours.shape == theirs.shape:
        return "unchanged" if np.array_equal(ours, theirs) else "other"
    for method in KERNEL_RESIZES:
        expected = resize_kernel(ours, converted.patch_size, method)  # type: ignore[arg-type]
        error = np.abs(theirs - expected).max()
        if error <= 0.01 * np.abs(expected).max():  # what bfloat16 can hold
            return method
    return "other"


def _resized(x: Any, side: int) -> Any:  # (batch, height, width, channels)
    """Returns float32 maps or images of another side; the same where it is theirs."""
    x = ops.cast(x, "float32")
    if x.shape[1] == side:
        return x
    return ops.image.resize(
        x,
        (side, side),
        interpolation="bilinear",
        antialias=True,
        data_format="channels_last",
    )


def _cosine(a: Any, b: Any) -> float:  # (..., channels)
    """Returns the mean cosine of vectors, in float64."""
    x, y = float32_array(a).astype("float64"), float32_array(b).astype("float64")
    norms = np.linalg.norm(x, axis=-1) * np.linalg.norm(y, axis=-1)
    return float(np.mean((x * y).sum(-1) / np.maximum(norms, 1e-30)))
