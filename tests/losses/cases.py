"""Every loss that has a chunked form, with inputs and what it should give."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from keras_pe import losses
from tests.losses import float64
from tests.losses.embeddings import exact
from tests.losses.float64 import Expected

IDS = np.array([0, 1, 2, 0, 3, 2, 0, 4] * 3, dtype="int32")
SAME_CAPTION = (IDS[:, None] == IDS) & ~np.eye(24, dtype=bool)
BIAS = -5.0
X, Y, TEACHER_X, TEACHER_Y = (exact(seed) for seed in range(4))


class Case(NamedTuple):
    plain: Callable[..., Any]
    chunked: Callable[..., Any]
    inputs: list[Any]  # images, texts, scale, bias: what has a gradient
    rows: dict[str, Any]  # other arguments, of as many rows
    options: dict[str, Any]
    expected: Expected


def case(name: str, scale: float) -> Case:
    """Returns a loss at a logit scale that float32 multiplies exactly.

    Args:
        name: "softmax", "sigmoid" or "distillation"; the first two also with
            ", ignore" for equal captions that are left out.
        scale: of the logits; a teacher's is twice as large.
    """
    kind, _, ignore = name.partition(", ")
    rows, options, left_out = {}, {}, None
    if ignore:
        rows, options = {"caption_ids": IDS}, {"duplicates": ignore}
        left_out = SAME_CAPTION
    inputs = [X, Y, np.float32(scale)]
    if kind == "softmax":
        functions = (
            losses.softmax_contrastive_loss,
            losses.chunked_softmax_contrastive_loss,
        )
        expected = float64.softmax_contrastive(X, Y, scale, left_out)
    elif kind == "sigmoid":
        functions = (
            losses.sigmoid_contrastive_loss,
            losses.chunked_sigmoid_contrastive_loss,
        )
        inputs.append(np.float32(BIAS))
        expected = float64.sigmoid_contrastive(X, Y, scale, BIAS, left_out)
    else:
        functions = losses.kl_distillation_loss, losses.chunked_kl_distillation_loss
        rows = {
            "teacher_image_embeddings": TEACHER_X,
            "teacher_text_embeddings": TEACHER_Y,
        }
        options = {"teacher_logit_scale": 2 * scale}
        expected = float64.kl_distillation(X, Y, scale, TEACHER_X, TEACHER_Y, 2 * scale)
    return Case(*functions, inputs, rows, options, expected)
