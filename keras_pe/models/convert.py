"""Copies of a vision encoder: cut, to be aligned, or for another patch or image size.

Detectors want patches of 16 pixels, so that strides are powers of two; the large
published models have 14. A converted encoder reads an image of 512 pixels in patches
of 16 almost as the original reads the same image at 448 in patches of 14: on the same
grid, with the same positions. Only the patch projection has to change.

It can be resized in two ways, each exact for one kind of image, but for what a resize
of the whole image lets cross the edges of patches:

* "bilinear" reads a new patch as the original would read it resized back (bilinear,
  antialiased). For images whose detail is finer than the original could see: what a
  detector reads. The default.
* "pseudo_inverse" reads an original patch enlarged (bilinear) as the original would
  read it as it was: FlexiViT's PI-resize. For images that are enlarged to fit. It
  undoes the blur of enlarging, and so exaggerates detail that is really there: by up to
  4 from patches of 14 to 16.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict, TypeVar

import numpy as np
from keras import ops

from keras_pe.arrays import check_switches
from keras_pe.layers.fine_tuning import STATE_KEYS, restore_state
from keras_pe.layers.patch_embedding import resample_positions
from keras_pe.models.compiled import no_gradient
from keras_pe.models.tower import resolve_layers
from keras_pe.models.vision_forward import VisionForward

Encoder = TypeVar("Encoder", bound=VisionForward)
KernelResize = Literal["bilinear", "pseudo_inverse"]
KERNEL_RESIZES = ("bilinear", "pseudo_inverse")


class Changes(TypedDict, total=False):
    """Constructor arguments that a conversion may set along."""

    window_size: int | None
    global_blocks: Sequence[int]
    tiled_positions: bool
    rope_reference_grid: int | None
    drop_path: float
    remat: bool


# === Fewer blocks ===
def truncated(
    cls: type[Encoder], encoder: VisionForward, layer: int, norm: bool = False
) -> Encoder:
    """Returns a copy of an encoder that ends after a block; see its `truncate`."""
    (number,) = resolve_layers(layer, encoder.num_layers)
    if number == 0:
        raise ValueError("truncate needs at least one block, got layer 0.")
    if norm and encoder.norm is None:
        raise ValueError("norm=True was asked of an encoder without a final norm.")
    config = cls.get_config(encoder)
    state = {key: config.pop(key) for key in STATE_KEYS if key in config}
    rates = encoder.drop_path_rates()
    config.update(
        num_layers=number,
        pooling=None,
        output_dim=None,
        output_bias=False,
        final_norm=norm,
        drop_path=rates[number - 1],
    )
    if encoder.window_size is not None:
        config["global_blocks"] = [b for b in encoder.global_blocks if b <= number]
    small: Encoder = cls.from_config(config)
    parts = {"", *(layer.name for layer in small._layers)}
    restore_state(  # what is frozen, quantised or adapted by LoRA stays so
        small,
        {
            key: {p: v for p, v in entries.items() if p.split("/")[0] in parts}
            for key, entries in state.items()
        },
    )
    pairs = [
        (encoder.patch_embedding, small.patch_embedding),
        (encoder.pre_norm, small.pre_norm),
        *zip(encoder.blocks, small.blocks, strict=False),
    ]
    if norm:
        pairs.append((encoder.norm, small.norm))
    for ours, theirs in pairs:
        # Where they are: no host has all of a weight that is cut over several. Copied,
        # or a step of one model would give away the memory of both.
        for our_weight, their_weight in zip(ours.weights, theirs.weights, strict=True):
            their_weight.assign(ops.copy(our_weight))
    return small


# === To be aligned ===
def checked_core(encoder: Any) -> VisionForward:
    """Returns a vision encoder, or says that it is none.

    Raises:
        TypeError: naming what it is.
    """
    if not isinstance(encoder, VisionForward):
        raise TypeError(
            f"from_core needs a vision encoder, got {type(encoder).__name__}. Of a "
            f"dual encoder give model.vision_encoder."
        )
    return encoder


def to_align(
    cls: type[Encoder],
    encoder: VisionForward,
    layers: int,
    layer_scale: float | None,
    drop_path: float,
    rescale: bool,
) -> Encoder:
    """Returns the copy that an alignment starts from; see `PESpatial.from_core`."""
    _check_plain(encoder)
    check_switches(rescale=rescale)
    if layer_scale is not None and not 0.0 < layer_scale < math.inf:
        raise ValueError(
            f"layer_scale must be more than 0, or None, got {layer_scale}."
        )
    plain = truncated(type(encoder), encoder, layers)
    added = layer_scale is not None and encoder.layer_scale is None
    config = {k: v for k, v in plain.get_config().items() if k not in STATE_KEYS}
    config.update(drop_path=drop_path, name=None)
    if added:
        config["layer_scale"] = layer_scale
    new: Encoder = cls.from_config(config)
    scales = {
        id(weight)
        for block in new.blocks
        if added
        for scale in (block.attention_scale, block.feed_forward_scale)
        if scale is not None
        for weight in scale.weights
    }
    kept = [weight for weight in new.weights if id(weight) not in scales]
    for ours, theirs in zip(plain.weights, kept, strict=True):
        theirs.assign(ours)
    if added and rescale:
        for block in new.blocks:
            for layer in (
                block.attention.output_projection,
                block.feed_forward.contract,
            ):
                for weight in layer.weights:
                    weight.assign(weight / layer_scale)
    return new


# === The patch projection ===
def resize_matrix(size: int, native: int) -> np.ndarray:
    """Returns the bilinear resize of a line of pixels as a matrix.

    Half-pixel centres; antialiased where the line shrinks, as images are resized.

    Args:
        size: pixels wanted.
        native: pixels given.

    Returns:
        float64 `(size, native)`; rows sum to 1.

    Example:
        >>> resize_matrix(4, 2).round(2).tolist()
        [[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [0.0, 1.0]]
    """
    scale = native / size
    centre = (np.arange(size) + 0.5) * scale - 0.5
    distance = np.abs(centre[:, None] - np.arange(native)) / max(scale, 1.0)
    weights = np.maximum(1.0 - distance, 0.0)
    return weights / weights.sum(axis=1, keepdims=True)


def resize_kernel(
    kernel: np.ndarray, size: int, method: KernelResize = "bilinear"
) -> np.ndarray:
    """Resizes a patch projection, in float64.

    Args:
        kernel: `(native, native, channels, hidden_dim)`.
        size: side of the new patch, pixels.
        method: "bilinear" or "pseudo_inverse"; see the module.

    Returns:
        float64 `(size, size, channels, hidden_dim)`.

    Raises:
        ValueError: if there is no such method.

    Source: Beyer et al. 2023, "FlexiViT", section 3.4 (PI-resize). Upstream's
    `apps/detection/tools/convert_d2.py` resizes bicubically and does not rescale.

    Example:
        >>> resize_kernel(np.ones((2, 2, 3, 8)), 4).sum().round(6) == 2 * 2 * 3 * 8
        np.True_
    """
    _check_method(method)
    native = kernel.shape[0]
    if method == "pseudo_inverse":
        along = np.linalg.pinv(resize_matrix(size, native).T)
    else:
        along = resize_matrix(native, size).T
    return np.einsum("ia,jb,abch->ijch", along, along, kernel.astype("float64"))


def _check_method(method: str) -> None:
    if method not in KERNEL_RESIZES:
        raise ValueError(
            f"kernel_resize must be one of {', '.join(KERNEL_RESIZES)}, got {method!r}."
        )


def patch_kernel(encoder: VisionForward) -> np.ndarray:
    """Returns the projection as float32 `(patch, patch, 3, hidden_dim)`."""
    side = encoder.patch_size
    kernel = float32_array(encoder.patch_embedding.projection.kernel)
    return kernel.reshape(side, side, 3, encoder.hidden_dim)


def float32_array(x: Any) -> np.ndarray:
    """Returns a tensor of any floating point dtype as a float32 array."""
    return np.asarray(ops.convert_to_numpy(ops.cast(x, "float32")))


# === The encoder ===
def converted(
    encoder: Encoder,
    patch_size: int | None = None,
    image_size: int | None = None,
    kernel_resize: KernelResize = "bilinear",
    **changes: Any,
) -> Encoder:
    """Returns a copy for another patch or image size; see its `convert`."""
    unknown = sorted(set(changes) - set(Changes.__annotations__))
    if unknown:
        raise TypeError(
            f"convert can't change {', '.join(unknown)}, expected "
            f"{', '.join(Changes.__annotations__)}."
        )
    _check_method(kernel_resize)
    _check_plain(encoder)
    old_grid = encoder.patch_embedding.native_grid
    patch, size = _sizes(encoder, patch_size, image_size)
    config = {**encoder.get_config(), "patch_size": patch, "image_size": size}
    config.update(changes)
    if config.get("window_size") is None:  # leaving windows leaves what goes with them
        config.update({k: v for k, v in _NO_WINDOWS.items() if k not in changes})
    new = type(encoder).from_config(config)
    grid = new.patch_embedding.native_grid

    replaced: dict[int, np.ndarray] = {}  # by place in the list of weights
    places = {id(variable): place for place, variable in enumerate(encoder.weights)}
    if patch != encoder.patch_size:
        kernel = resize_kernel(patch_kernel(encoder), patch, kernel_resize)
        place = places[id(encoder.patch_embedding.projection.kernel)]
        replaced[place] = kernel.reshape(3 * patch**2, encoder.hidden_dim)
    if grid != old_grid:
        table = float32_array(encoder.patch_embedding.position_embedding)
        first = int(encoder.class_token)
        with no_gradient():
            patches = resample_positions(
                ops.convert_to_tensor(table[first:]), old_grid, grid
            )
        place = places[id(encoder.patch_embedding.position_embedding)]
        replaced[place] = np.concatenate([table[:first], float32_array(patches)])
    for place, (ours, theirs) in enumerate(
        zip(encoder.weights, new.weights, strict=True)
    ):
        value = replaced.get(place)
        theirs.assign(ours if value is None else value.astype("float32"))
    return new


_NO_WINDOWS: Mapping[str, Any] = {"global_blocks": (), "tiled_positions": False}


def _sizes(
    encoder: VisionForward, patch_size: int | None, image_size: int | None
) -> tuple[int, int]:
    patch = encoder.patch_size if patch_size is None else patch_size
    if patch < 1:
        raise ValueError(f"patch_size must be at least 1 pixel, got {patch_size}.")
    if image_size is None:
        return patch, patch * encoder.patch_embedding.native_grid[0]
    if image_size < 1 or image_size % patch:
        below = max(image_size // patch, 1) * patch
        raise ValueError(
            f"image_size must be a positive multiple of patch_size={patch}, got "
            f"{image_size}. Nearest: {below} or {below + patch}."
        )
    return patch, image_size


def _check_plain(encoder: VisionForward) -> None:
    """Refuses adapted encoders: their weights are not those of a new one."""
    for layer in encoder._flatten_layers():
        if getattr(layer, "lora_enabled", False):
            raise ValueError(
                f"convert was called on an encoder with LoRA ({layer.path}). Convert "
                f"encoder.merge_lora(), a copy that holds the updates in its weights; "
                f"or convert first, then call enable_lora."
            )
        if getattr(layer, "quantization_mode", None):
            raise ValueError(
                f"convert was called on an encoder quantised to "
                f"{layer.quantization_mode} ({layer.path}). Convert first, then "
                f"quantize."
            )
