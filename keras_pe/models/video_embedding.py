"""Videos as the average of their frames: long ones in parts, of different lengths."""

import functools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_pe.arrays import check_sizes, host_array
from keras_pe.models.compiled import run_compiled
from keras_pe.models.vision_arguments import check_frames


def mean_of_frames(embeddings: Any, frames: int) -> Any:
    """Returns clips' embeddings: the means of those of their frames, of any length.

    Args:
        embeddings: of frames, `(clips * frames, channels)`.
        frames: of each clip.

    Returns:
        `(clips, channels)`.

    Source: Perception Encoder, section 2.4; upstream `CLIP.encode_video`.
    """
    apart = ops.reshape(embeddings, (-1, frames, embeddings.shape[-1]))
    return ops.mean(apart, axis=1)


def average_in_parts(
    model: Any,
    frames: Any,
    normalize: bool,
    frame_average: str,
    frame_mask: Any,
    chunk_size: int | None,
    gradient: bool,
) -> Any:
    """Embeds videos with a running sum over parts of their frames.

    Arguments, result and errors are those of `PECore.encode_video`.
    """
    if not hasattr(frames, "dtype"):
        frames = model.vision_encoder.checked_images(frames)
    check_frames(frames.shape)
    mask = checked_mask(frame_mask, frames)
    if chunk_size is not None:
        check_sizes(chunk_size=chunk_size)
    size = min(chunk_size or frames.shape[1], frames.shape[1])
    add = functools.partial(model._sum_of_frames, frame_average=frame_average)
    total: Any = 0.0
    for some, part in _parts(frames, mask, size):
        images = model.vision_encoder.checked_images(_without_masked(some, part))
        images, part = _filled(images, size), _filled(part, size)
        key = ("sum of frames", frame_average)
        total = total + run_compiled(model, key, add, images, part, gradient=gradient)
    count = ops.sum(ops.cast(mask, "float32"), axis=1, keepdims=True)
    # Of a mask that is traced nobody knows; such a video then is all zeros.
    count = ops.maximum(count, 1.0)
    end = functools.partial(model._average_of_sum, normalize=normalize)
    name = ("average of sum", normalize)
    return run_compiled(model, name, end, total, count, gradient=gradient)


def checked_mask(frame_mask: Any, frames: Any) -> Any:
    """Returns which frames count, `(batch, frames)` bool; all of them if None is given.

    Raises:
        ValueError: if it is no such mask, or a video has no frame, naming which.
    """
    shape = tuple(frames.shape[:2])
    if frame_mask is None:
        if isinstance(frames, keras.KerasTensor):
            return ops.ones_like(frames[:, :, 0, 0, 0], dtype="bool")
        return ops.ones(shape, "bool")
    if not hasattr(frame_mask, "dtype"):
        frame_mask = np.asarray(frame_mask)
    dtype = str(frame_mask.dtype)
    if getattr(frame_mask.dtype, "kind", "b") not in "OUSTV":  # Keras knows numbers
        dtype = keras.backend.standardize_dtype(frame_mask.dtype)
    if tuple(frame_mask.shape) != shape or dtype != "bool":
        raise ValueError(
            f"frame_mask has shape {tuple(frame_mask.shape)} and dtype {dtype}; "
            f"expected (batch, frames) = {shape} of bool, True where a frame counts."
        )
    values = host_array(frame_mask)
    if values is not None:
        empty = np.flatnonzero(~values.any(axis=1))
        if empty.size:
            raise ValueError(
                f"frame_mask leaves video {empty[0]} without a frame "
                f"({empty.size} of {len(values)} videos): no frames have no average. "
                f"Leave such videos out."
            )
    return ops.convert_to_tensor(frame_mask)


def _parts(frames: Any, mask: Any, size: int) -> Iterator[tuple[Any, Any]]:
    for start in range(0, frames.shape[1], size):
        yield frames[:, start : start + size], mask[:, start : start + size]


def _without_masked(frames: Any, mask: Any) -> Any:
    """Puts black in place of what does not count, which may be anything, NaN too."""
    if isinstance(frames, np.ndarray):
        values = host_array(mask)
        if values is not None:
            if values.all():
                return frames
            return np.where(values[..., None, None, None], frames, frames.dtype.type(0))
    return ops.where(mask[..., None, None, None], frames, ops.zeros_like(frames))


def _filled(array: Any, size: int) -> Any:
    """Fills a last, short part with zeros: one shape, one compilation."""
    missing = size - array.shape[1]
    if not missing:
        return array
    return ops.pad(array, [(0, 0), (0, missing)] + [(0, 0)] * (len(array.shape) - 2))
