"""The distillation losses against float64."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_pe.losses import chunked_kl_distillation_loss, kl_distillation_loss
from tests.losses import float64
from tests.losses.embeddings import exact, unit
from tests.losses.gradients import largest_difference, value_and_gradients

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("chunk_size", [None, 24, 12, 6, 3, 7, 100])
@pytest.mark.parametrize(
    ("make", "scale", "teacher_scale"), [(unit, 14.3, 20.0), (exact, 100.0, 200.0)]
)
def test_value_and_gradients_equal_float64(make, scale, teacher_scale, chunk_size):
    x, y, teacher_x, teacher_y = (make(seed) for seed in range(4))
    loss, options = kl_distillation_loss, {}
    if chunk_size is not None:
        loss, options = chunked_kl_distillation_loss, {"chunk_size": chunk_size}
    found = value_and_gradients(
        lambda *inputs: loss(*inputs, teacher_x, teacher_y, teacher_scale, **options),
        x,
        y,
        np.float32(scale),
    )
    expected = float64.kl_distillation(
        x, y, float(np.float32(scale)), teacher_x, teacher_y, teacher_scale
    )
    assert largest_difference(found, expected) < 1e-6


@pytest.mark.parametrize("chunk_size", [None, 7], ids=["plain", "chunked"])
def test_nothing_of_the_teacher_has_a_gradient(chunk_size):
    teacher = unit(2, channels=8), unit(3, channels=8), np.float32(200)
    loss, options = kl_distillation_loss, {}
    if chunk_size is not None:
        loss, options = chunked_kl_distillation_loss, {"chunk_size": chunk_size}
    value, gradients = value_and_gradients(
        lambda *inputs: loss(*inputs, **options),
        unit(0),
        unit(1),
        np.float32(14.3),
        *teacher,
    )
    assert value > 0.1
    assert all(np.any(g) for g in gradients[:3])
    assert not any(np.any(g) for g in gradients[3:])


@pytest.mark.parametrize("chunk_size", [None, 7], ids=["plain", "chunked"])
def test_a_student_that_equals_its_teacher_has_nothing_to_learn(chunk_size):
    loss, options = kl_distillation_loss, {}
    if chunk_size is not None:
        loss, options = chunked_kl_distillation_loss, {"chunk_size": chunk_size}
    x, y = unit(0), unit(1)
    value, gradients = value_and_gradients(
        lambda *inputs: loss(*inputs, x, y, 10.0, **options), x, y, np.float32(10)
    )
    assert abs(value) < 1e-6
    assert all(np.allclose(g, 0, atol=1e-6) for g in gradients)


@pytest.mark.parametrize("sign", [1, -1], ids=["identical", "opposite"])
@pytest.mark.parametrize("chunk_size", [None, 7], ids=["plain", "chunked"])
def test_is_finite_at_the_largest_scales(chunk_size, sign):
    loss, options = kl_distillation_loss, {}
    if chunk_size is not None:
        loss, options = chunked_kl_distillation_loss, {"chunk_size": chunk_size}
    x = unit(0)
    value, gradients = value_and_gradients(
        lambda *inputs: loss(*inputs, x, x, **options), x, sign * x, np.float32(100)
    )
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(g)) for g in gradients)


def test_low_precision_input_is_computed_in_float32():
    x = ops.cast(unit(0), "bfloat16")
    for loss in (
        kl_distillation_loss(x, x, 100.0, x, x),
        chunked_kl_distillation_loss(x, x, 100.0, x, x, chunk_size=7),
    ):
        assert keras.backend.standardize_dtype(loss.dtype) == "float32"


def test_both_must_embed_the_same_batch():
    x, other = unit(0), unit(1, count=5)
    with pytest.raises(ValueError, match="batches of 24 and 5"):
        kl_distillation_loss(x, x, 100.0, other, other)
