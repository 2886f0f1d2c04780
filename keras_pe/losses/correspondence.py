"""Pairs of patches that are alike to a teacher are to be alike to a student.

With masks of what belongs together as the teacher it is the locality loss of PE
spatial; with an encoder's features, and no sharpening, Gram anchoring of DINOv3.
"""

import math
from typing import Any

from keras import ops

from keras_pe.losses.row_chunks import (
    checked_chunk_size,
    fold_row_chunks,
    with_gradient,
)
from keras_pe.losses.token_alignment import inverse_length, same_shape, unit_length

SHARPNESS = 20.0  # the paper's t


def correspondence_loss(
    student: Any,  # (batch, tokens, channels)
    teacher: Any,  # (batch, tokens, points)
    *,
    sharpness: float | None = SHARPNESS,
    background: Any = None,  # (batch, tokens)
    background_weight: float = 1.0,
    chunk_size: int | None = None,
) -> Any:
    """Returns the mean square of what a student's pairs are off a teacher's.

    A pair of patches of one image has the cosine of its tokens: `A_S` of the student,
    `A_T` of the teacher. The loss is the mean of `(A_S - exp(sharpness (A_T - 1)))^2`
    over all pairs, each patch with itself included. The teacher's are constants.
    Computed in float32; a row of length zero has cosine 0 with any other.

    With `sharpness=None` it is DINOv3's Gram loss as its published configurations have
    it: rows of unit length, nothing centred, pairs of one image alone, cosines below 0
    kept, the mean over all pairs. Of its code's switches, these are not here: features
    of any length, pairs across images, and cosines below 0 taken as 0 (of both, or of
    the teacher, and of the student where both are below).

    Args:
        student: `(batch, tokens, channels)`: tokens of its last layer, no class token.
        teacher: `(batch, tokens, points)`: what a mask teacher says of each patch (its
            mask logits), or any encoder's tokens.
        sharpness: of the teacher's cosines: 1 stays 1, and 0.9 becomes 0.135 with the
            paper's 20. None takes them as they are (Gram anchoring).
        background: `(batch, tokens)` in [0, 1]: how much of each patch belongs to
            nothing. None for none.
        background_weight: of pairs that are background on both sides, against 1 of
            others. The paper's 1 makes the background one large thing.
        chunk_size: rows of the (tokens, tokens) matrices that are held at once, of all
            images of the batch together; None holds all of them. Where a batch is
            sharded over devices as one array (JAX), at least a whole image a device.

    Returns:
        float32 scalar, 0 or more.

    Raises:
        ValueError: if shapes or options do not fit.

    Source: Perception Encoder, section 5.2 and appendix B.3.1: `L_loc`. Simeoni et al.
        2025, "DINOv3", section 4: Gram anchoring; `dinov3/loss/gram_loss.py` and
        `dinov3_vit7b16_gram_anchor.yaml` there (commit 6876159).

    Example:
        >>> import numpy as np
        >>> masks = np.eye(2)[[[0, 0, 1]]]  # three patches, of two things
        >>> abs(float(correspondence_loss(masks, masks))) < 1e-6
        True
    """
    _check(student, teacher, background, sharpness, background_weight)
    weighted = background is not None and background_weight != 1.0
    student = ops.cast(student, "float32")
    teacher = ops.stop_gradient(ops.cast(teacher, "float32"))
    extra = [ops.stop_gradient(ops.cast(background, "float32"))] if weighted else []
    if chunk_size is not None:
        options = checked_chunk_size(chunk_size), sharpness, background_weight
        return _chunked(student, teacher, extra, *options)
    unit = unit_length(student)
    square = ops.square(
        ops.matmul(unit, ops.swapaxes(unit, 1, 2))
        - correspondence_target(teacher, sharpness)
    )
    if not weighted:
        return ops.mean(square)
    weight = _pair_weight(extra[0], extra[0], background_weight)
    whole = _or_one(ops.sum(weight, (1, 2)))
    return ops.mean(ops.sum(weight * square, (1, 2)) / whole)


def correspondence_target(
    teacher: Any,  # (batch, tokens, points)
    sharpness: float | None = SHARPNESS,
) -> Any:
    """Returns what a student's pairs are to be, `(batch, tokens, tokens)`, float32.

    Args:
        teacher: as of `correspondence_loss`.
        sharpness: as of `correspondence_loss`.

    Example:
        >>> import numpy as np
        >>> rows = np.array([[[1.0, 0.0], [0.9, 0.19**0.5]]])  # of cosine 0.9
        >>> float(correspondence_target(rows)[0, 0, 1]).__round__(3)
        0.135
    """
    unit = unit_length(ops.cast(teacher, "float32"))
    return _sharpened(ops.matmul(unit, ops.swapaxes(unit, 1, 2)), sharpness)


def _sharpened(cosines: Any, sharpness: float | None) -> Any:
    return cosines if sharpness is None else ops.exp(sharpness * (cosines - 1.0))


def _pair_weight(one: Any, other: Any, weight: float) -> Any:
    """Returns the weights `(batch, rows, tokens)` of pairs, by their background."""
    return 1.0 - (1.0 - weight) * one[:, :, None] * other[:, None, :]


def _or_one(whole: Any) -> Any:
    """Returns sums of weights, 1 where no pair of an image counts: its loss is 0."""
    return ops.where(whole > 0.0, whole, 1.0)


# === In chunks of rows ===
def _chunked(
    student: Any,
    teacher: Any,
    extra: list[Any],
    chunk_size: int,
    sharpness: float | None,
    background_weight: float,
) -> Any:
    """Returns the loss, whose gradient is made in the same walk over the rows.

    Three matrix products, where the plain loss has four: the matrix of a pair's errors
    is symmetric, so that a chunk of its rows gives all of their gradient.
    """

    def forward(*inputs: Any) -> Any:
        def step(totals: Any, chunk: Any) -> Any:
            losses, gradient = _of_images(
                chunk, chunk_size, sharpness, background_weight
            )
            return (totals[0] + ops.sum(losses),), [gradient]

        tokens = inputs[0].shape[1]
        images = max(chunk_size // tokens, 1)
        (total,), (gradient,) = fold_row_chunks(
            step, (ops.zeros(()),), inputs, images, [tuple(inputs[0].shape[1:])]
        )
        count = ops.cast(ops.shape(inputs[0])[0], "float32")
        return total / count, (gradient, count)

    def backward(upstream: Any, saved: Any, *inputs: Any) -> Any:
        gradient, count = saved
        return (gradient * (upstream / count),)

    return with_gradient(forward, backward)(student, teacher, *extra)


def _of_images(
    chunk: list[Any], chunk_size: int, sharpness: float | None, background_weight: float
) -> tuple[Any, Any]:
    """Returns each image's loss `(images,)` and the gradient of their sum."""
    student, teacher, *rest = chunk  # (images, tokens, ...)
    background = rest[0] if rest else None
    scale_s, scale_t = inverse_length(student), inverse_length(teacher)
    tokens = student.shape[1]
    if background is None:
        whole = ops.full_like(scale_s[:, 0, 0], tokens**2)
    else:  # the sum of all weights, n^2 - (1 - w) s^2, with nothing to cancel
        share, rest_of = ops.sum(background, axis=1), ops.sum(1.0 - background, axis=1)
        whole = rest_of * (tokens + share) + background_weight * ops.square(share)
        whole = _or_one(whole)
    unit = student * scale_s
    total, gradients = ops.zeros_like(whole), []
    for start in range(0, tokens, chunk_size):
        rows = slice(start, start + chunk_size)
        errors = ops.matmul(unit[:, rows], ops.swapaxes(unit, 1, 2))
        taught = ops.matmul(teacher[:, rows], ops.swapaxes(teacher, 1, 2))
        taught = taught * scale_t[:, rows] * ops.swapaxes(scale_t, 1, 2)
        errors -= _sharpened(taught, sharpness)
        weighted = errors
        if background is not None:
            weighted = errors * _pair_weight(
                background[:, rows], background, background_weight
            )
        total = total + ops.sum(weighted * errors, axis=(1, 2))
        gradients.append(ops.matmul(weighted, unit))  # (images, rows, channels)
    gradient = gradients[0] if len(gradients) == 1 else ops.concatenate(gradients, 1)
    gradient *= (4.0 / whole)[:, None, None]
    # Through the length: what points along a token changes no cosine.
    along = ops.sum(gradient * unit, axis=-1, keepdims=True)
    return total / whole, (gradient - along * unit) * scale_s


# === What can be wrong ===
def _check(
    student: Any,
    teacher: Any,
    background: Any,
    sharpness: float | None,
    background_weight: float,
) -> None:
    shapes = [tuple(x.shape) for x in (student, teacher)]
    first = shapes[0][:2]
    fit = len(shapes[0]) == len(shapes[1]) == 3 and same_shape(first, shapes[1][:2])
    if not fit or (background is not None and not same_shape(first, background.shape)):
        described = f"{shapes[0]} and {shapes[1]}"
        if background is not None:
            described += f", background {tuple(background.shape)}"
        raise ValueError(
            f"Student and teacher must be (batch, tokens, channels) of the same "
            f"patches, background (batch, tokens), got {described}. Resize a teacher "
            f"of another grid to the student's, and leave class tokens out."
        )
    check_sharpness(sharpness)
    if not 0.0 <= background_weight < math.inf:
        raise ValueError(
            f"background_weight must be 0 or more, got {background_weight}."
        )


def check_sharpness(sharpness: float | None) -> None:
    """Raises ValueError unless this is a sharpness of `correspondence_loss`."""
    if sharpness is not None and not 0.0 < sharpness < math.inf:
        raise ValueError(
            f"sharpness must be more than 0, or None, got {sharpness}. The paper has "
            f"20."
        )
