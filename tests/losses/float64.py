"""The losses and their gradients written out in float64 NumPy."""

from typing import Any, NamedTuple

import numpy as np
from scipy.special import log_softmax


class Expected(NamedTuple):
    """What a loss should give, and by what its errors are measured."""

    value: float
    gradients: list[Any]  # of images, texts, scale and, if there is one, bias
    sizes: list[float]  # of the value and of each gradient


def _expected(x, y, scale, value, gradient, biased=False):
    """Takes a gradient of the logits, `(batch, batch)`, to the inputs.

    A gradient of embeddings is measured by its largest entry. Those of scale and bias
    are sums of positive and negative terms that nearly cancel: float32 knows them to
    1e-7 of the sum of the terms' absolute values.
    """
    gradients = [scale * gradient @ y, scale * gradient.T @ x]
    sizes = [value, *(np.abs(g).max() for g in gradients)]
    for terms in (gradient * (x @ y.T), gradient)[: 1 + biased]:
        gradients.append(np.sum(terms))
        sizes.append(np.sum(np.abs(terms)))
    return Expected(value, gradients, sizes)


def softmax_contrastive(x, y, scale, left_out=None):
    x, y = x.astype(float), y.astype(float)
    logits = scale * x @ y.T
    if left_out is not None:
        logits = np.where(left_out, -np.inf, logits)
    row, column = log_softmax(logits, axis=1), log_softmax(logits, axis=0)
    value = -0.5 * (np.mean(np.diag(row)) + np.mean(np.diag(column)))
    gradient = (np.exp(row) + np.exp(column) - 2 * np.eye(len(x))) / (2 * len(x))
    return _expected(x, y, scale, value, gradient)


def sigmoid_contrastive(x, y, scale, bias, left_out=None):
    x, y = x.astype(float), y.astype(float)
    signs = 2 * np.eye(len(x)) - 1
    logits = scale * x @ y.T + bias
    kept = 1.0 if left_out is None else ~left_out
    value = np.sum(kept * np.logaddexp(0, -signs * logits)) / len(x)
    gradient = -signs * kept / (1 + np.exp(signs * logits)) / len(x)
    return _expected(x, y, scale, value, gradient, biased=True)


def kl_distillation(x, y, scale, teacher_x, teacher_y, teacher_scale):
    x, y = x.astype(float), y.astype(float)
    logits = scale * x @ y.T
    teacher = teacher_scale * teacher_x.astype(float) @ teacher_y.astype(float).T
    value, gradient = 0.0, 0.0
    for axis in (0, 1):
        log_s, log_t = log_softmax(logits, axis), log_softmax(teacher, axis)
        value += np.sum(np.exp(log_t) * (log_t - log_s)) / (2 * len(x))
        gradient = gradient + (np.exp(log_s) - np.exp(log_t)) / (2 * len(x))
    return _expected(x, y, scale, value, gradient)


# === Alignment to a teacher's tokens ===
def feature_alignment(student, teacher):
    """Value and gradient of the mean of 1 - cosine, token by token."""
    student, teacher = student.astype(float), teacher.astype(float)
    value, gradient = 0.0, np.zeros_like(student)
    places = list(np.ndindex(student.shape[:2]))
    for at in places:
        s, t = student[at], teacher[at] / np.linalg.norm(teacher[at])
        length = np.linalg.norm(s)
        value += (1 - s @ t / length) / len(places)
        gradient[at] = -(t - s * (s @ t) / length**2) / length / len(places)
    return Expected(value, [gradient], [value, np.abs(gradient).max()])


def correspondence(student, teacher, sharpness, background=None, background_weight=1.0):
    """Value and gradient of the mean square error of all pairs, pair by pair."""
    student, teacher = student.astype(float), teacher.astype(float)
    images, tokens, _ = student.shape
    value, gradient = 0.0, np.zeros_like(student)
    for image in range(images):
        lengths = np.linalg.norm(student[image], axis=1)
        unit = student[image] / lengths[:, None]
        taught = teacher[image] / np.linalg.norm(teacher[image], axis=1)[:, None]
        weights = np.ones((tokens, tokens))
        if background is not None:
            both = np.outer(background[image], background[image])
            weights = 1 - (1 - background_weight) * both
        share = weights / weights.sum() / images
        for i, j in np.ndindex(tokens, tokens):
            target = taught[i] @ taught[j]
            if sharpness is not None:
                target = np.exp(sharpness * (target - 1))
            cosine = unit[i] @ unit[j]
            error = cosine - target
            value += share[i, j] * error**2
            slope = 2 * share[i, j] * error
            gradient[image, i] += slope * (unit[j] - cosine * unit[i]) / lengths[i]
            gradient[image, j] += slope * (unit[i] - cosine * unit[j]) / lengths[j]
    return Expected(value, [gradient], [value, np.abs(gradient).max()])
