"""The loss of answers against its definition in float64, and in parts."""

import numpy as np
import pytest

from keras_pe.losses import answer_loss
from tests.losses.float64 import Expected
from tests.losses.gradients import largest_difference, value_and_gradients

pytestmark = pytest.mark.quick

RNG = np.random.default_rng(0)
LOGITS = (3.0 * RNG.normal(size=(3, 4, 7))).astype("float32")
TARGETS = RNG.integers(0, 7, (3, 4)).astype("int32")
WEIGHTS = np.array([[1, 1, 1, 1], [1, 0, 0, 0], [0, 1, 0, 1]], "float32")


def slow(logits, targets, weights):
    """Returns loss and gradient, in float64."""
    logits, gradient, loss = logits.astype("float64"), np.zeros(logits.shape), 0.0
    for at in np.ndindex(targets.shape):
        shares = np.exp(logits[at]) / np.exp(logits[at]).sum()
        loss -= weights[at] * np.log(shares[targets[at]])
        gradient[at] = weights[at] * shares
        gradient[(*at, targets[at])] -= weights[at]
    loss, gradient = loss / weights.sum(), gradient / weights.sum()
    return Expected(loss, [gradient], [loss, np.abs(gradient).max()])


def test_equals_float64():
    expected = slow(LOGITS, TARGETS, WEIGHTS)
    found = value_and_gradients(lambda x: answer_loss(x, TARGETS, WEIGHTS), LOGITS)
    assert largest_difference(found, expected, expected) < 1e-6


def test_parts_by_the_total_of_all_add_up():
    whole, (gradient,) = value_and_gradients(
        lambda x: answer_loss(x, TARGETS, WEIGHTS), LOGITS
    )
    total = WEIGHTS.sum()
    parts = [
        value_and_gradients(
            lambda x, rows=rows: answer_loss(x, TARGETS[rows], WEIGHTS[rows], total),
            LOGITS[rows],
        )
        for rows in (slice(0, 1), slice(1, 3))
    ]
    assert sum(value for value, _ in parts) == pytest.approx(whole, rel=1e-6)
    joined = np.concatenate([found for _, (found,) in parts])
    np.testing.assert_allclose(joined, gradient, atol=1e-7)


def test_empty_slots_have_no_cost_and_no_gradient():
    logits = LOGITS.copy()
    logits[1, 1:], logits[2, 0] = 80.0, -80.0
    expected, _ = value_and_gradients(
        lambda x: answer_loss(x, TARGETS, WEIGHTS), LOGITS
    )
    value, (gradient,) = value_and_gradients(
        lambda x: answer_loss(x, TARGETS, WEIGHTS), logits
    )
    assert value == pytest.approx(expected, rel=1e-6)
    assert not np.any(gradient[WEIGHTS == 0])
    nothing, (gradient,) = value_and_gradients(
        lambda x: answer_loss(x, TARGETS, 0 * WEIGHTS), LOGITS
    )
    assert nothing == 0.0
    assert not np.any(gradient)


@pytest.mark.once
def test_what_does_not_fit_is_refused():
    for targets, weights in ((TARGETS[:2], WEIGHTS), (TARGETS, WEIGHTS[:, :3])):
        with pytest.raises(ValueError, match="slots"):
            answer_loss(LOGITS, targets, weights)
