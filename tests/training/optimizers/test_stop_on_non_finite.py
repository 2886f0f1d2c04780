"""Guards: a run ends at the step that went wrong and says where."""

import keras
import numpy as np
import pytest

import keras_pe.arrays
import keras_pe.training
from keras_pe.arrays import NonFiniteError
from keras_pe.training.optimizers.gradient_watch import (
    StopOnNonFinite,
    watched,
)

pytestmark = [pytest.mark.quick, pytest.mark.compiled]


def model(optimizer):
    keras.utils.set_random_seed(0)
    found = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(1)]
    )
    found.compile(optimizer, "mse")
    return found


def fit(trained, bad_batch, value=np.nan, first_step=0):
    """Trains on five batches of four rows, with one value of a batch replaced."""
    x = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
    if bad_batch is not None:
        x[4 * bad_batch + 1, 2] = value
    y = np.ones((20, 1), "float32")
    guard = StopOnNonFinite(first_step)
    trained.fit(x, y, batch_size=4, shuffle=False, verbose=0, callbacks=[guard])


@pytest.mark.slow
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_watching_optimizer_names_the_tensor_and_keeps_the_weights(value):
    trained = model(watched(keras.optimizers.SGD)(0.1))
    with pytest.raises(NonFiniteError) as stop:
        fit(trained, 2, value)
    assert "Step 3: the gradient of " in str(stop.value)
    assert trained.variables[0].path in str(stop.value)
    assert "The last checkpoint is untouched" in str(stop.value)
    for variable in trained.trainable_variables:
        assert np.isfinite(keras.ops.convert_to_numpy(variable)).all()


def test_any_other_optimizer_stops_too_and_names_the_broken_weights():
    trained = model(keras.optimizers.SGD(0.1))
    with pytest.raises(NonFiniteError) as stop:
        fit(trained, 1)
    assert "Step 2: loss is not finite" in str(stop.value)
    paths = [variable.path for variable in trained.trainable_variables]
    assert f"Weights that are not finite: {', '.join(paths)}." in str(stop.value)


def test_steps_are_counted_from_where_the_run_goes_on():
    with pytest.raises(NonFiniteError, match="Step 101: "):
        fit(model(keras.optimizers.SGD(0.1)), 0, first_step=100)


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="Keras makes one step at a time there"
)
@pytest.mark.parametrize("at_once", [2, 4])
@pytest.mark.parametrize("optimizer", [keras.optimizers.SGD, None])
def test_steps_made_in_one_call_are_counted(at_once, optimizer):
    trained = model((optimizer or watched(keras.optimizers.SGD))(0.1))
    trained.steps_per_execution = at_once
    first = 3 if at_once == 2 else 1
    with pytest.raises(NonFiniteError) as stop:
        fit(trained, 2)
    assert f"One of the steps {first} to 4: " in str(stop.value)


def test_healthy_runs_are_left_alone():
    fit(model(keras.optimizers.SGD(0.1)), None)


def test_there_is_one_error_and_it_is_caught_as_it_always_was():
    assert keras_pe.training.NonFiniteError is keras_pe.arrays.NonFiniteError
    for kind in (ValueError, RuntimeError):
        with pytest.raises(kind, match="Step 1: "):
            fit(model(keras.optimizers.SGD(0.1)), 0)
