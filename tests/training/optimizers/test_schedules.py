"""Learning-rate curves against their formulas in float64."""

import math

import keras
import numpy as np
import pytest

from keras_pe.training.optimizers.schedules import WarmupCosine, WarmupLinear

pytestmark = pytest.mark.quick
BOTH = pytest.mark.parametrize("curve", [WarmupCosine, WarmupLinear])
# Perception Encoder, table 18: B and L, then G.
PAPER = ((2e-3, 2_000, 443_000), (2e-3, 2_000, 656_000))


def value(schedule, step):
    return float(keras.ops.convert_to_numpy(schedule(step)))


def expected(curve, peak, warmup, total, final, step):
    if step < warmup:
        return peak * (step + 1) / warmup
    left = min(max((total - step) / (total - warmup), 0.0), 1.0)
    share = left if curve is WarmupLinear else 0.5 * (1 - math.cos(math.pi * left))
    return final + (peak - final) * share


@BOTH
@pytest.mark.parametrize("final", [0.0, 2e-6])
@pytest.mark.parametrize(("peak", "warmup", "total"), PAPER)
def test_paper_length_in_float32(curve, peak, warmup, total, final):
    schedule = curve(peak, warmup, total, final)
    steps = [0, 1, warmup - 2, warmup - 1, warmup, warmup + 1, total // 3, total // 2]
    steps += [total - 1000, total - 10, total - 2, total - 1]
    for step in steps:
        exact = expected(curve, peak, warmup, total, final, step)
        tensor = keras.ops.convert_to_tensor(step, "int32")
        assert value(schedule, tensor) == pytest.approx(exact, rel=2e-6), step
    assert value(schedule, total) == pytest.approx(final, rel=1e-6, abs=0)
    assert value(schedule, total + 5_000) == pytest.approx(final, rel=1e-6, abs=0)


@BOTH
def test_every_step_is_its_own_in_the_longest_run(curve):
    """No two steps of the warm-up share a rate, and the decay never goes up."""
    schedule = curve(2e-3, 2_000, 656_000)
    steps = np.arange(656_001, dtype="int32")
    rates = keras.ops.convert_to_numpy(schedule(keras.ops.convert_to_tensor(steps)))
    assert np.all(np.diff(rates[:2_000]) > 0)
    assert rates.max() == np.float32(2e-3)
    assert np.all(np.diff(rates[2_000:]) <= 2e-10)
    assert rates[0] == pytest.approx(1e-6, rel=1e-6)


@BOTH
def test_no_warmup_starts_at_the_peak(curve):
    assert value(curve(0.5, 0, 10), 0) == pytest.approx(0.5, rel=1e-6)


@BOTH
def test_constant_after_the_warmup_if_final_is_the_peak(curve):
    schedule = curve(0.5, 2, 10, final=0.5)
    assert [value(schedule, step) for step in range(11)] == [0.25] + [0.5] * 10


@BOTH
def test_configuration_round_trip_in_an_optimizer(curve):
    schedule = curve(1e-3, 3, 30, final=1e-5)
    again = keras.optimizers.schedules.deserialize(
        keras.optimizers.schedules.serialize(schedule)
    )
    assert type(again) is curve
    assert again.get_config() == schedule.get_config()
    optimizer = keras.optimizers.SGD(schedule)
    restored = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert value(restored._learning_rate, 1) == value(schedule, 1)


@BOTH
def test_optimizer_follows_the_curve(curve):
    schedule = curve(1.0, 2, 6)
    variable = keras.Variable(np.zeros(1, "float32"))
    optimizer = keras.optimizers.SGD(schedule)
    positions = []
    for _ in range(6):
        optimizer.apply([keras.ops.ones((1,))], [variable])
        positions.append(float(keras.ops.convert_to_numpy(variable)[0]))
    rates = -np.diff([0.0, *positions])
    exact = [expected(curve, 1.0, 2, 6, 0.0, step) for step in range(6)]
    np.testing.assert_allclose(rates, exact, rtol=1e-5)


@BOTH
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1e-3, 10, 10), "warmup_steps=10"),
        ((1e-3, -1, 10), "warmup_steps=-1"),
        ((1e-3, 0, 0), "total_steps=0"),
        ((1e-3, 1.5, 10), "whole number"),
        ((0.0, 1, 10), "peak=0.0"),
        ((-1.0, 1, 10), "peak=-1.0"),
        ((math.nan, 1, 10), "peak=nan"),
        ((math.inf, 1, 10), "peak=inf"),
        ((1e-3, 1, 10, 2e-3), "final=0.002"),
        ((1e-3, 1, 10, -1e-3), "final=-0.001"),
    ],
)
def test_nonsense_is_refused(curve, arguments, message):
    with pytest.raises(ValueError, match=message):
        curve(*arguments)
