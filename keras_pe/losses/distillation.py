"""Distillation of a dual encoder: the student ranks a batch as the teacher does."""

from typing import Any

from keras import ops

from keras_pe.losses.contrastive import Gather, float32_pairs, gathered, pair_logits
from keras_pe.losses.row_chunks import (
    checked_chunk_size,
    fold_row_chunks,
    product_gradients,
    with_gradient,
)


def kl_distillation_loss(
    student_image_embeddings: Any,  # (batch, student_channels), unit length
    student_text_embeddings: Any,  # (batch, student_channels), unit length
    student_logit_scale: Any,
    teacher_image_embeddings: Any,  # (batch, teacher_channels), unit length
    teacher_text_embeddings: Any,  # (batch, teacher_channels), unit length
    teacher_logit_scale: Any = 200.0,
    *,
    gather: Gather | None = None,
) -> Any:
    """Returns how far the student's softmax over a batch is from the teacher's.

    Both embed the same images and texts and turn their cosines into probabilities,
    of the texts given an image and of the images given a text:
    `1/2 [KL(P_t || P_s) image->text + KL(P_t || P_s) text->image]`, mean over rows.
    Computed in float32; nothing of the teacher has a gradient.

    Args:
        student_image_embeddings: `(batch, student_channels)`, unit length.
        student_text_embeddings: `(batch, student_channels)`, unit length.
        student_logit_scale: factor of the student's cosines, learned.
        teacher_image_embeddings: `(batch, teacher_channels)`, unit length.
        teacher_text_embeddings: `(batch, teacher_channels)`, unit length.
        teacher_logit_scale: factor of the teacher's cosines. The paper's 200 is twice
            the limit of the student's.
        gather: as in `keras_pe.losses.softmax_contrastive_loss`.

    Returns:
        float32 scalar, zero where both distributions are equal; with `gather`, this
        device's share, whose mean over the devices is the loss of the global batch.

    Raises:
        ValueError: if shapes do not fit.

    Source: Perception Encoder, section 2.4 and appendix C.3. The order of the two in
    the divergence and the factor 1/2 are not stated there.

    Example:
        >>> import numpy as np
        >>> x = np.eye(4, dtype="float32")
        >>> float(kl_distillation_loss(x, x, 100.0, x, x, 100.0)) < 1e-6
        True
    """
    student, teacher = _prepared(
        (student_image_embeddings, student_text_embeddings, student_logit_scale),
        (teacher_image_embeddings, teacher_text_embeddings, teacher_logit_scale),
    )

    def logits(images: Any, texts: Any, scale: Any) -> tuple[Any, Any]:
        # Both (local_batch, global_batch).
        to_text = pair_logits(images, gathered(texts, gather), scale)
        if gather is None:
            return to_text, ops.transpose(to_text)
        return to_text, pair_logits(texts, gather(images), scale)

    directions = []
    for of_student, of_teacher in zip(logits(*student), logits(*teacher), strict=True):
        log_student = ops.log_softmax(of_student, axis=1)
        log_teacher = ops.log_softmax(of_teacher, axis=1)
        divergence = ops.exp(log_teacher) * (log_teacher - log_student)
        directions.append(ops.mean(ops.sum(divergence, axis=1)))
    return 0.5 * (directions[0] + directions[1])


def chunked_kl_distillation_loss(
    student_image_embeddings: Any,  # (batch, student_channels), unit length
    student_text_embeddings: Any,  # (batch, student_channels), unit length
    student_logit_scale: Any,
    teacher_image_embeddings: Any,  # (batch, teacher_channels), unit length
    teacher_text_embeddings: Any,  # (batch, teacher_channels), unit length
    teacher_logit_scale: Any = 200.0,
    *,
    chunk_size: int,
    gather: Gather | None = None,
) -> Any:
    """Returns `kl_distillation_loss` without holding a (batch, batch) matrix.

    Args:
        student_image_embeddings: `(batch, student_channels)`, unit length.
        student_text_embeddings: `(batch, student_channels)`, unit length.
        student_logit_scale: factor of the student's cosines, learned.
        teacher_image_embeddings: `(batch, teacher_channels)`, unit length.
        teacher_text_embeddings: `(batch, teacher_channels)`, unit length.
        teacher_logit_scale: factor of the teacher's cosines.
        chunk_size: images at a time, as in `chunked_softmax_contrastive_loss`.
        gather: as in `keras_pe.losses.softmax_contrastive_loss`; also called with
            float32 matrices whose rows are the global batch.

    Returns:
        float32 scalar; with `gather`, this device's share.

    Raises:
        ValueError: if shapes or options do not fit.

    Source: Perception Encoder, section 2.4 and appendix C.3.

    Example:
        >>> import numpy as np
        >>> x = np.eye(4, dtype="float32")
        >>> loss = chunked_kl_distillation_loss(x, x, 9.0, x, x, 9.0, chunk_size=3)
        >>> float(loss) < 1e-6
        True
    """
    checked_chunk_size(chunk_size)
    student, teacher = (
        (images, gathered(texts, gather), scale)
        for images, texts, scale in _prepared(
            (student_image_embeddings, student_text_embeddings, student_logit_scale),
            (teacher_image_embeddings, teacher_text_embeddings, teacher_logit_scale),
        )
    )
    to_text, to_image = _streaming_divergence(student, teacher, chunk_size)
    if gather is not None:
        # So far over this device's images only.
        shape = (-1, ops.shape(to_image)[0], 5)
        to_image = _combined(ops.reshape(gather(to_image), shape))
    return 0.5 * (ops.mean(_divergence(to_text)) + ops.mean(_divergence(to_image)))


def _prepared(student: Any, teacher: Any) -> tuple[Any, Any]:
    """Returns `(images, texts, scale)` of both in float32, the teacher's constant."""
    prepared = []
    for images, texts, scale in (student, teacher):
        sides = float32_pairs(images, texts)
        prepared.append((*sides, ops.cast(scale, "float32")))
    batches = [images.shape[0] for images, _, _ in prepared]
    if None not in batches and batches[0] != batches[1]:
        raise ValueError(
            f"Student and teacher must embed the same images and texts, got batches "
            f"of {batches[0]} and {batches[1]}."
        )
    return prepared[0], tuple(ops.stop_gradient(x) for x in prepared[1])


# === Parts of a divergence ===
# Chunks and devices each see some of a row's logits. What they keep of it, so that it
# can be combined, are five numbers:
#   0  the teacher's mean of (teacher logit - its maximum) - (student logit - its own)
#   1  log of the teacher's sum of exp(logit - maximum), and 2 the student's
#   3  the teacher's maximum, and 4 the student's: constants
# Nothing here is as large as a logit, and differences of logits lose no digits.
def _divergence(parts: Any) -> Any:  # (rows, 5)
    """Returns the divergences, `(rows,)`."""
    return parts[:, 0] - parts[:, 1] + parts[:, 2]


def _combined(parts: Any) -> Any:  # (devices, rows, 5)
    """Returns the parts over all devices, `(rows, 5)`."""
    maxima = ops.stop_gradient(parts[:, :, 3:])  # (devices, rows, 2)
    highest = ops.max(maxima, axis=0)  # (rows, 2)
    below = maxima - highest
    log_sums = parts[:, :, 1:3] + below
    totals = ops.logsumexp(log_sums, axis=0)  # (rows, 2)
    share = ops.exp(log_sums[:, :, 0] - totals[:, 0])  # of the teacher's probability
    means = parts[:, :, 0] + below[:, :, 0] - below[:, :, 1]
    mean = ops.sum(share * means, axis=0)
    return ops.concatenate([mean[:, None], totals, highest], axis=1)


def _streaming_divergence(
    student: Any,  # (rows, channels), (keys, channels), scale
    teacher: Any,
    chunk_size: int,
) -> tuple[Any, Any]:
    """Returns the parts of the divergences along both axes, (rows, 5) and (keys, 5)."""

    def forward(*inputs: Any) -> Any:
        row, column = _maxima_and_sums(inputs[:3], inputs[3:], chunk_size)
        return ops.concatenate([_parts(row), _parts(column)]), (row, column)

    def backward(upstream: Any, saved: Any, *inputs: Any) -> Any:
        row, column = saved
        return _gradients(upstream, row, column, inputs[:3], inputs[3:], chunk_size)

    joined = with_gradient(forward, backward)(*student, *teacher)
    num_rows = ops.shape(student[0])[0]
    return joined[:num_rows], joined[num_rows:]


def _parts(totals: Any) -> Any:  # five of (rows,)
    """Returns the parts `(rows, 5)` of running maxima and sums."""
    weighted, teacher_sum, student_sum, teacher_max, student_max = totals
    parts = [
        weighted / teacher_sum,
        ops.log(teacher_sum),
        ops.log(student_sum),
        teacher_max,
        student_max,
    ]
    return ops.stack(parts, axis=1)


def _maxima_and_sums(
    student: Any, teacher: Any, chunk_size: int
) -> tuple[list[Any], list[Any]]:
    """Returns running maxima and sums along both axes, five of (rows,) and (keys,)."""
    student_images, student_texts, student_scale = student
    teacher_images, teacher_texts, teacher_scale = teacher

    def step(totals: Any, chunk: Any) -> Any:
        of_student = pair_logits(chunk[0], student_texts, student_scale)
        of_teacher = pair_logits(chunk[1], teacher_texts, teacher_scale)
        row = _add_logits(_nothing(of_teacher[:, 0]), of_teacher, of_student, axis=1)
        return _add_logits(totals, of_teacher, of_student, axis=0), list(row)

    rows = [student_images, teacher_images]
    start = _nothing(student_texts[:, 0])
    column, row = fold_row_chunks(step, start, rows, chunk_size, [()] * 5)
    return row, list(column)


def _nothing(like: Any) -> tuple[Any, ...]:  # (rows,)
    lowest, zero = ops.full_like(like, -1e38), ops.zeros_like(like)
    return zero, zero, zero, lowest, lowest


def _add_logits(totals: Any, teacher: Any, student: Any, axis: int) -> tuple[Any, ...]:
    """Adds logits `(rows, keys)` to running maxima and sums along an axis."""
    weighted, teacher_sum, student_sum, teacher_max, student_max = totals
    teacher_highest = ops.maximum(teacher_max, ops.max(teacher, axis=axis))
    student_highest = ops.maximum(student_max, ops.max(student, axis=axis))
    teacher_fall = teacher_max - teacher_highest
    student_fall = student_max - student_highest
    # The sums so far were taken over differences to the earlier maxima.
    weighted = weighted + teacher_sum * (teacher_fall - student_fall)
    factor = ops.exp(teacher_fall)
    teacher = teacher - ops.expand_dims(teacher_highest, axis)
    student = student - ops.expand_dims(student_highest, axis)
    weights = ops.exp(teacher)
    teacher_sum = teacher_sum * factor + ops.sum(weights, axis=axis)
    teacher -= student
    weights *= teacher
    weighted = weighted * factor + ops.sum(weights, axis=axis)
    student_sum = student_sum * ops.exp(student_fall)
    student_sum = student_sum + ops.sum(ops.exp(student), axis=axis)
    return weighted, teacher_sum, student_sum, teacher_highest, student_highest


def _gradients(
    upstream: Any,  # (rows + keys, 5)
    row: Any,  # maxima and sums, five of (rows,)
    column: Any,  # five of (keys,)
    student: Any,
    teacher: Any,
    chunk_size: int,
) -> tuple[Any, Any, Any]:
    images, texts, scale = student
    teacher_images, teacher_texts, teacher_scale = teacher
    num_rows = ops.shape(images)[0]

    def weights(upstream: Any, totals: Any) -> list[Any]:
        """Returns maxima and factors of the student's and the teacher's exponentials.

        The mean has minus the teacher's probabilities as its gradient, the student's
        log-sum the student's.
        """
        _, teacher_sum, student_sum, teacher_max, student_max = totals
        of_student, of_teacher = upstream[:, 2] / student_sum, upstream[:, 0]
        return [student_max, of_student, teacher_max, -of_teacher / teacher_sum]

    column_weights = weights(upstream[num_rows:], column)
    row_weights = weights(upstream[:num_rows], row)

    def step(totals: Any, chunk: Any) -> Any:
        images, teacher_images, *by_row = chunk
        by_row = [x[:, None] for x in by_row]
        logits = pair_logits(images, texts, scale)
        gradient = _weighted_exp(logits, by_row[:2], column_weights[:2])
        logits = pair_logits(teacher_images, teacher_texts, teacher_scale)
        gradient += _weighted_exp(logits, by_row[2:], column_weights[2:])
        image_gradient, *totals = product_gradients(
            gradient, images, texts, scale, *totals
        )
        return tuple(totals), [image_gradient]

    rows = [images, teacher_images, *row_weights]
    start = (ops.zeros_like(texts), ops.zeros_like(scale))
    (text_gradient, scale_gradient), (image_gradient,) = fold_row_chunks(
        step, start, rows, chunk_size, [tuple(images.shape[1:])]
    )
    return image_gradient, text_gradient, scale_gradient


def _weighted_exp(logits: Any, row: Any, column: Any) -> Any:  # (rows, keys)
    """Returns exp(logits - maximum) * weight of the rows plus that of the columns."""
    row_max, row_weight = row  # (rows, 1)
    column_max, column_weight = column  # (keys,)
    found = ops.exp(logits - row_max)
    found *= row_weight
    logits -= column_max
    logits = ops.exp(logits)
    logits *= column_weight
    found += logits
    return found
