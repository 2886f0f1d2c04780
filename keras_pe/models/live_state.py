"""The variables of a model in `fit` or `predict`, which JAX keeps elsewhere."""

import contextlib
from collections.abc import Iterator

import keras


def sync_state(trainer: keras.Model) -> None:
    """Makes the variables of a model in `fit` current.

    On JAX the weights live in the training loop, and variables read in a callback are
    empty until they are fetched from there. Elsewhere nothing is to be done.
    """
    sync = getattr(trainer, "jax_state_sync", None)
    if sync is not None and getattr(trainer, "_jax_state", None) is not None:
        sync()


@contextlib.contextmanager
def values_kept(model: keras.Model) -> Iterator[None]:
    """Gives a model its values back if what is done inside fails.

    On JAX, Keras takes them out of the variables before it asks for the first batch,
    and only `fit` puts those of the last step back: an error of the data would leave a
    model without weights.
    """
    if keras.backend.backend() != "jax":
        yield
        return
    variables = [*model.variables, *model.metrics_variables]
    if getattr(model, "optimizer", None) is not None:
        variables += model.optimizer.variables
    before = [(variable, variable._value) for variable in variables]
    try:
        yield
    except BaseException:
        sync_state(model)  # from the last step that was made
        for variable, value in before:
            if variable._value is None and not (value is None or value.is_deleted()):
                variable._value = value
        raise
