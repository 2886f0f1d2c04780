"""Losses of single tokens against loops over tokens, and what has no gradient."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_pe.losses import feature_alignment_loss, masked_alignment_loss
from tests.losses import float64
from tests.losses.gradients import largest_difference, value_and_gradients

pytestmark = pytest.mark.quick

RNG = np.random.default_rng(0)
MASKED, FULL = RNG.normal(size=(2, 3, 5, 8)).astype("float32")
MASK = np.array([[1, 0, 0, 1, 0], [0, 0, 0, 0, 0], [1, 1, 0, 0, 1]], bool)


def slow_loss(masked, full, mask):
    distances = [
        1
        - masked[at] @ full[at] / np.linalg.norm(masked[at]) / np.linalg.norm(full[at])
        for at in np.ndindex(mask.shape)
        if mask[at]
    ]
    return np.mean(distances)


@pytest.mark.parametrize(
    ("positions", "dtype"),
    [("masked", "bool"), ("masked", "float32"), ("masked", "int32"), ("all", "bool")],
)
def test_equals_the_slow_one(positions, dtype):
    found = masked_alignment_loss(MASKED, FULL, MASK.astype(dtype), positions=positions)
    counted = MASK if positions == "masked" else np.ones_like(MASK)
    expected = slow_loss(MASKED.astype(float), FULL.astype(float), counted)
    assert float(ops.convert_to_numpy(found)) == pytest.approx(expected, rel=1e-6)


def test_only_masked_positions_of_masked_tokens_have_a_gradient():
    _, (masked, full) = value_and_gradients(
        lambda x, y: masked_alignment_loss(x, y, MASK), MASKED, FULL
    )
    assert not np.any(full)
    assert not np.any(masked[~MASK])
    assert np.all(np.any(masked[MASK], axis=-1))


def test_all_positions_have_a_gradient_if_asked():
    _, (masked, full) = value_and_gradients(
        lambda x, y: masked_alignment_loss(x, y, MASK, positions="all"), MASKED, FULL
    )
    assert not np.any(full)
    assert np.all(np.any(masked, axis=-1))


def test_gradient_equals_differences():
    direction = RNG.normal(size=MASKED.shape)
    _, (gradient, _) = value_and_gradients(
        lambda x, y: masked_alignment_loss(x, y, MASK), MASKED, FULL
    )
    masked, full, step = MASKED.astype(float), FULL.astype(float), 1e-5
    above, below = (
        slow_loss(masked + sign * step * direction, full, MASK) for sign in (1, -1)
    )
    expected = (above - below) / (2 * step)
    assert np.sum(gradient * direction) == pytest.approx(expected, rel=1e-5)


def test_tokens_of_length_zero_are_safe():
    masked, full = MASKED.copy(), FULL.copy()
    masked[0, 0] = 0  # masked positions both
    full[2, 0] = 0
    value, (gradient, _) = value_and_gradients(
        lambda x, y: masked_alignment_loss(x, y, MASK), masked, full
    )
    assert np.isfinite(value)
    assert np.all(np.isfinite(gradient))
    assert not np.any(gradient[0, 0])
    assert not np.any(gradient[2, 0])


def test_nothing_masked_is_no_loss():
    value, (gradient, _) = value_and_gradients(
        lambda x, y: masked_alignment_loss(x, y, np.zeros_like(MASK)), MASKED, FULL
    )
    assert value == 0
    assert not np.any(gradient)


def test_low_precision_input_is_computed_in_float32():
    loss = masked_alignment_loss(
        ops.cast(MASKED, "bfloat16"), ops.cast(FULL, "bfloat16"), MASK
    )
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"


@pytest.mark.parametrize(
    ("arguments", "options", "match"),
    [
        ((MASKED, FULL, MASK), {"positions": "some"}, "'some'"),
        ((MASKED, FULL[:, 1:], MASK), {}, r"\(batch, tokens, channels\)"),
        ((MASKED, FULL, MASK[:, 1:]), {}, "class token"),
        ((MASKED[0], FULL[0], MASK[0]), {}, r"\(batch, tokens, channels\)"),
    ],
)
def test_what_does_not_fit_is_named(arguments, options, match):
    with pytest.raises(ValueError, match=match):
        masked_alignment_loss(*arguments, **options)


# === All tokens to a teacher's ===
def test_feature_alignment_equals_float64():
    expected = float64.feature_alignment(MASKED, FULL)
    value, (gradient, of_teacher) = value_and_gradients(
        feature_alignment_loss, MASKED, FULL
    )
    assert largest_difference((value, [gradient]), expected, expected) < 1e-6
    assert not np.any(of_teacher)


def test_a_student_like_its_teacher_has_no_feature_loss():
    scaled = FULL * RNG.uniform(0.1, 10.0, (3, 5, 1)).astype("float32")
    value, (gradient, _) = value_and_gradients(feature_alignment_loss, scaled, FULL)
    assert value == pytest.approx(0.0, abs=1e-6)
    assert np.abs(gradient).max() < 1e-6


def test_tokens_of_no_length_have_a_feature_loss_of_one_and_no_gradient():
    student = MASKED.copy()
    student[0, 0] = 0.0
    value, (gradient, _) = value_and_gradients(feature_alignment_loss, student, FULL)
    assert np.isfinite(value)
    assert not np.any(gradient[0, 0])
    assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("shape", [(3, 5), (3, 4, 8), (3, 5, 6)])
def test_feature_alignment_refuses_tokens_that_do_not_fit(shape):
    with pytest.raises(ValueError, match="student and teacher"):
        feature_alignment_loss(np.ones((3, 5, 8)), np.ones(shape))
