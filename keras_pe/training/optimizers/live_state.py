"""Reads an optimizer's numbers while it trains, on any backend."""

import keras


def optimizer_number(trainer: keras.Model, name: str) -> float | None:
    """Returns a scalar variable that the optimizer keeps, such as `gradient_norm`.

    Returns:
        None for an optimizer without it.
    """
    # Where the loss is scaled, another optimizer is inside.
    inner = getattr(trainer.optimizer, "inner_optimizer", trainer.optimizer)
    variable = getattr(inner, name, None)
    if variable is None:
        return None
    state = getattr(trainer, "_jax_state", None)
    if state and not getattr(trainer, "_jax_state_synced", True):
        # One number, without fetching every weight of the model.
        for index, other in enumerate(trainer.optimizer.variables):
            if other is variable:
                return float(state["optimizer_variables"][index])
    return float(keras.ops.convert_to_numpy(variable))
