"""The distillation losses: what has a gradient, and their extremes."""

import numpy as np
import pytest
from keras import ops

from keras_pe.losses import chunked_kl_distillation_loss, kl_distillation_loss
from tests.losses.embeddings import unit
from tests.losses.gradients import value_and_gradients, value_of


def plain(*inputs):
    return kl_distillation_loss(*inputs)


def in_sevens(*inputs):
    return chunked_kl_distillation_loss(*inputs, chunk_size=7)


@pytest.mark.parametrize("loss", [plain, in_sevens])
def test_nothing_of_the_teacher_has_a_gradient(loss):
    teacher = unit(2, channels=8), unit(3, channels=8), np.float32(200)
    value, gradients = value_and_gradients(
        loss, unit(0), unit(1), np.float32(14.3), *teacher
    )
    assert value > 0.1
    assert all(np.any(g) for g in gradients[:3])
    assert not any(np.any(g) for g in gradients[3:])


@pytest.mark.parametrize("loss", [plain, in_sevens])
def test_the_extremes(loss):
    def value_and_student_gradients(*inputs):
        value, gradients = value_and_gradients(loss, *inputs)
        return value, gradients[:3]

    # A student that equals its teacher has nothing to learn.
    x, y = unit(0), unit(1)
    scale, largest, teachers = np.float32([10, 100, 200])
    value, gradients = value_and_student_gradients(x, y, scale, x, y, scale)
    assert abs(value) < 1e-6
    assert all(np.allclose(g, 0, atol=1e-6) for g in gradients)

    # Everything is finite at the largest scales, be it all right or all wrong.
    for sign in (1, -1):
        value, gradients = value_and_student_gradients(
            x, sign * x, largest, x, x, teachers
        )
        assert np.isfinite(value)
        assert all(np.all(np.isfinite(g)) for g in gradients)


@pytest.mark.quick
def test_low_precision_input_is_computed_in_float32():
    x = ops.cast(unit(0), "bfloat16")
    for loss in (plain, in_sevens):
        assert value_of(loss, x, x, 100.0, x, x, 200.0) < 100


@pytest.mark.quick
def test_both_must_embed_the_same_batch():
    x, other = unit(0), unit(1, count=5)
    with pytest.raises(ValueError, match="batches of 24 and 5"):
        kl_distillation_loss(x, x, 100.0, other, other)
