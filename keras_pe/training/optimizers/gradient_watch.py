"""Optimizers that record the gradient norm and refuse gradients that are not finite.

And the callback that then ends a run.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from keras_pe.arrays import NonFiniteError
from keras_pe.models.checked_model import sync_state

if TYPE_CHECKING:
    from keras.optimizers import Optimizer as Mixin
else:
    Mixin = object


class GradientWatch(Mixin):
    """Makes an optimizer watch the gradients it is given; a mixin.

    At each `apply` two variables of the optimizer are set:

    * `gradient_norm`, float32: norm of all gradients together, before any clipping
      and after `loss_scale_factor` is taken off.
    * `first_non_finite`, integer: index in `watched_paths` of the first variable whose
      gradient holds a NaN or an infinity (or squares that overflow float32), -1 if
      there is none.

    If there is one, nothing else changes: weights, moments, averages and the iteration
    stay those of the last good step. The whole cost is one pass over the gradients,
    which `global_clipnorm` makes anyway and shares; on PyTorch the host also waits for
    the verdict. While gradients are accumulated, both variables are about the
    gradients of the last batch, and a broken batch just drops out.

    Under `tf.distribute.MirroredStrategy` gradients are summed over the replicas
    first, so that norm, clipping and verdict are the same on all of them.

    Example:
        >>> import numpy as np
        >>> class WatchedSGD(GradientWatch, keras.optimizers.SGD): ...
        >>> w = keras.Variable(np.ones(2, "float32"))
        >>> optimizer = WatchedSGD(1.0)
        >>> optimizer.apply([keras.ops.array([3.0, 4.0])], [w])
        >>> optimizer.apply([keras.ops.array([np.nan, 0.0])], [w])
        >>> keras.ops.convert_to_numpy(w).tolist(), int(optimizer.first_non_finite)
        ([-2.0, -3.0], 0)
    """

    gradient_norm: Any
    first_non_finite: Any

    def build(self, variables: Sequence[Any]) -> None:
        if self.built:
            return
        super().build(variables)
        self.gradient_norm = self.add_variable(
            (), dtype="float32", name="gradient_norm", aggregation="only_first_replica"
        )
        # "int" as in Keras' own counters: TensorFlow keeps int32 off the GPU.
        self.first_non_finite = self.add_variable(
            (),
            initializer=keras.initializers.Constant(-1),
            dtype="int",
            name="first_non_finite",
            aggregation="only_first_replica",
        )

    @property
    def watched_paths(self) -> list[str]:
        """Paths of the trainable variables, in the order of `first_non_finite`."""
        return [variable.path for variable in self._trainable_variables]

    def apply(self, grads: Sequence[Any], trainable_variables: Any = None) -> None:
        if not self.built and trainable_variables is not None:
            with keras.name_scope(self.name, caller=self):
                self.build(list(trainable_variables))
        if trainable_variables is not None:
            self._check_variables_are_known(trainable_variables)
        gradients = [dense(gradient) for gradient in grads]
        if keras.backend.backend() == "tensorflow":
            gradients = _sum_over_replicas(gradients)
        variables = list(trainable_variables or self._trainable_variables)
        finite = self._watch(gradients, variables)
        apply = super().apply

        def proceed(gradients: list[Any]) -> None:
            apply(gradients, variables)

        if keras.backend.backend() == "jax":
            self._proceed_and_select(finite, proceed, gradients)
        elif keras.backend.backend() == "tensorflow":
            _proceed_if(finite, proceed, gradients)
        elif finite:
            proceed(gradients)

    def _watch(self, gradients: list[Any], variables: list[Any]) -> Any:
        """Sets both variables; returns whether all is finite."""
        watched = [
            (self._get_variable_index(variable), gradient)
            for gradient, variable in zip(gradients, variables, strict=True)
            # Float8 layers hand over new scales in place of gradients.
            if gradient is not None
            and not self._overwrite_variable_with_gradient(variable)
        ]
        if not watched:
            return ops.convert_to_tensor(True)
        squares = _squared_norms([gradient for _, gradient in watched])  # (tensors,)
        norm = ops.sqrt(ops.sum(squares))
        if self.loss_scale_factor is not None:
            norm = norm / self.loss_scale_factor
        beyond = len(self._trainable_variables)
        indices = ops.convert_to_tensor([index for index, _ in watched], "int32")
        first = ops.min(ops.where(ops.isfinite(squares), beyond, indices))
        finite = ops.equal(first, beyond)
        self.gradient_norm.assign(norm)
        self.first_non_finite.assign(
            ops.cast(ops.where(finite, -1, first), self.first_non_finite.dtype)
        )
        return finite

    def _clip_gradients(self, grads: Sequence[Any]) -> Any:
        if not self.global_clipnorm or self.gradient_accumulation_steps:
            return super()._clip_gradients(grads)
        limit = self.global_clipnorm
        factor = limit / ops.maximum(self.gradient_norm, limit)
        return [gradient * ops.cast(factor, gradient.dtype) for gradient in grads]

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
        return grads_and_vars  # `apply` did it

    def _proceed_and_select(
        self,
        finite: Any,
        proceed: Callable[[list[Any]], None],
        gradients: list[Any],
    ) -> None:
        """Applies, then goes back to the old values unless all was finite.

        On JAX old values cost nothing, since a new one is another array, and XLA fuses
        the choice into the update. A conditional would make a GPU wait for the host.
        """
        watch = (id(self.gradient_norm), id(self.first_non_finite))
        kept = [
            *self._trainable_variables,
            *(variable for variable in self.variables if id(variable) not in watch),
        ]
        before = [variable.value for variable in kept]
        proceed(gradients)
        for variable, value in zip(kept, before, strict=True):
            variable.assign(ops.where(finite, variable.value, value))


def watched(optimizer_class: Any) -> Any:
    """Returns an optimizer class with `GradientWatch`.

    On PyTorch, Keras swaps its own optimizers for fast ones, but not subclasses of
    them: this function subclasses the fast one.

    Args:
        optimizer_class: such as `keras.optimizers.AdamW`.

    Returns:
        A class of the same arguments, `WatchedAdamW`, registered with Keras. A class
        that watches already (`keras_pe.training.Lamb`) is returned as it is.

    Example:
        >>> optimizer = watched(keras.optimizers.Lion)(1e-4)
        >>> type(optimizer).__name__
        'WatchedLion'
    """
    return _watched(optimizer_class)


_DOCSTRING = """`{name}` that watches its gradients, see `GradientWatch`.

    Arguments are those of `keras.optimizers.{name}`.

    Example:
        >>> import keras
        >>> from keras_pe.training import watched
        >>> Watched{name} = watched(keras.optimizers.{name})
        >>> optimizer = Watched{name}(1e-3)
        >>> kernel = keras.Variable([1.0, 1.0])
        >>> optimizer.apply([keras.ops.convert_to_tensor([3.0, 4.0])], [kernel])
        >>> float(optimizer.gradient_norm)
        5.0
    """


@functools.cache
def _watched(optimizer_class: Any) -> Any:
    if issubclass(optimizer_class, GradientWatch):
        return optimizer_class
    fast = type(optimizer_class.__new__(optimizer_class))
    made = type(f"Watched{optimizer_class.__name__}", (GradientWatch, fast), {})
    made.__doc__ = _DOCSTRING.format(name=optimizer_class.__name__)
    return keras.saving.register_keras_serializable("keras_pe")(made)


WatchedAdamW = watched(keras.optimizers.AdamW)


def dense(gradient: Any) -> Any:
    """Returns a gradient as an ordinary tensor.

    The gradient of an embedding is a `tf.IndexedSlices` on TensorFlow, where a row
    may occur more than once: neither a norm nor a square of it is what it seems.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if isinstance(gradient, tf.IndexedSlices):
            return tf.convert_to_tensor(gradient)
    return gradient


def _squared_norms(gradients: Sequence[Any]) -> Any:
    """Returns the squared norm of each tensor, float32 `(tensors,)`."""
    if keras.backend.backend() == "torch":
        import torch

        if all(gradient.dtype == torch.float32 for gradient in gradients):
            # One call: a fifth of the overhead of three for each tensor.
            return torch.square(torch.stack(torch._foreach_norm(list(gradients))))
    return ops.stack(
        [ops.sum(ops.square(ops.cast(gradient, "float32"))) for gradient in gradients]
    )


# === TensorFlow ===
def _sum_over_replicas(gradients: list[Any]) -> list[Any]:
    """Returns the gradients summed over the replicas of a `tf.distribute` strategy."""
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return gradients
    present = [gradient for gradient in gradients if gradient is not None]
    summed = iter(context.all_reduce(tf.distribute.ReduceOp.SUM, present))
    return [None if gradient is None else next(summed) for gradient in gradients]


def _proceed_if(
    finite: Any, proceed: Callable[[list[Any]], None], gradients: list[Any]
) -> None:
    """Calls `proceed(gradients)` if `finite`, also in a graph and on replicas."""
    import tensorflow as tf

    internal = tf.__internal__.distribute
    if internal.strategy_supports_no_merge_call():
        ops.cond(finite, lambda: proceed(gradients), lambda: None)
        return

    # An update merges the replicas, which must not happen inside a conditional of one
    # of them: the conditional goes around all replicas. Their verdicts are the same.
    def across(strategy: Any, finite: Any, gradients: list[Any]) -> None:
        verdict = strategy.experimental_local_results(finite)[0]
        ops.cond(
            verdict,
            lambda: strategy.extended.call_for_each_replica(proceed, args=(gradients,)),
            lambda: None,
        )

    tf.distribute.get_replica_context().merge_call(across, args=(finite, gradients))


# === What ends a run ===
ADVICE = (
    "The last checkpoint is untouched: resume from it to see whether the same batch "
    "does it, or begin anew with a lower learning rate, gradient clipping, or float32."
)


class StopOnNonFinite(keras.callbacks.Callback):
    """Ends training at the step at which a NaN or an infinity appears.

    With an optimizer that watches gradients (`keras_pe.training.Lamb` or any class
    with `GradientWatch`) the update of that step was not applied: the weights are
    those of the step before. A scaled loss (mixed_float16) whose gradients overflow
    ends nothing: the step is left out, and the scale is halved.

    Args:
        first_step: steps made before.
        advice: what the error says is to be done.

    Raises:
        NonFiniteError: from `fit`, with the step and the tensor.

    Example:
        >>> import numpy as np
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile(WatchedAdamW(1e-3), "mse")
        >>> x = np.full((4, 2), np.inf, "float32")
        >>> try:
        ...     model.fit(x, np.ones((4, 1)), verbose=0, callbacks=[StopOnNonFinite()])
        ... except NonFiniteError:
        ...     print("stopped")
        stopped
    """

    def __init__(self, first_step: int = 0, advice: str = ADVICE) -> None:
        super().__init__()
        self.step, self.advice = first_step, advice
        self.begun: int | None = None  # in this epoch

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.begun = batch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        # More than one with `compile(steps_per_execution=...)`.
        count = 1 if self.begun is None else batch - self.begun + 1
        self.step += count
        where = f"Step {self.step}"
        if count > 1:
            where = f"One of the steps {self.step - count + 1} to {self.step}"
        index = optimizer_number(self.model, "first_non_finite")
        if index is not None and index >= 0:
            optimizer = self.model.optimizer
            optimizer = getattr(optimizer, "inner_optimizer", optimizer)
            path = optimizer.watched_paths[int(index)]
            raise NonFiniteError(
                f"{where}: the gradient of {path} is not finite"
                f"{self._losses(logs)}. The update was not applied. {self._weights()}"
            )
        bad = [k for k, v in (logs or {}).items() if not math.isfinite(float(v))]
        if bad:
            raise NonFiniteError(
                f"{where}: {', '.join(bad)} is not finite. {self._weights()}"
            )

    def _losses(self, logs: Any) -> str:
        losses = [f"{k} {float(v):g}" for k, v in (logs or {}).items() if "loss" in k]
        return f" ({', '.join(losses)})" if losses else ""

    def _weights(self) -> str:
        sync_state(self.model)
        bad = [
            variable.path
            for variable in self.model.variables
            if not bool(keras.ops.all(keras.ops.isfinite(variable)))
        ]
        broken = f"Weights that are not finite: {', '.join(bad)}. " if bad else ""
        return broken + self.advice


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
