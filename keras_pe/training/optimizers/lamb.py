"""LAMB as published: weight decay inside the trust ratio, float32 norms."""

import math
import re
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_pe.training.optimizers.gradient_watch import GradientWatch

LORA = re.compile(r"(^|/)lora_")  # what Keras' layers call the matrices of LoRA


@keras.saving.register_keras_serializable("keras_pe")
class Lamb(GradientWatch, keras.optimizers.Optimizer):
    """Layer-wise adaptive moments, the optimizer of all stages of the paper.

    For each tensor `w` with gradient `g`, at step `t` (from 1)::

        m = beta_1 m + (1 - beta_1) g
        v = beta_2 v + (1 - beta_2) g²
        u = (m / (1 - beta_1^t)) / (sqrt(v / (1 - beta_2^t)) + epsilon)
            + weight_decay w
        w = w - learning_rate (‖w‖ / ‖u‖) u

    The ratio is 1 where a norm is 0. `keras.optimizers.Lamb` takes the weight decay
    off beforehand, outside the ratio, and so differs from the publication as soon as
    there is any; it also scales the steps of biases and norms by their own size.

    Here tensors of one or no dimension (biases, norms, class embedding, probe, layer
    scale, logit scale), those of `exclude` and LoRA's matrices have ratio 1 and no
    weight decay: plain Adam. One of a pair of LoRA's matrices starts at zero, and a
    step that is relative to its norm would leave it there. Arithmetic is float32 at
    least; the moments have the variable's dtype.

    Gradients are watched (`GradientWatch`): a step whose gradients are not all finite
    changes neither weights nor moments.

    The Perception Encoder paper gives learning rate, betas and weight decay. What it
    leaves open is set as follows: epsilon is LAMB's own 1e-6, the bias of the moments
    is corrected, phi is the identity (`trust_ratio_limit` clamps the ratio instead,
    as several implementations do), and exclusions are those above.

    Args:
        learning_rate: number, schedule or callable; 2e-3 is the peak of the paper.
            Schedules count batches, also those that only accumulate gradients.
        beta_1: decay of the first moment, in [0, 1).
        beta_2: decay of the second moment, in [0, 1).
        weight_decay: factor of the weights inside the update; None or 0 for none.
        epsilon: added to the root of the second moment; above 0.
        trust_ratio_limit: largest ratio, also in place of 1; None for no limit.
        exclude: regular expressions, searched in the path of a variable. A tensor
            that is found has ratio 1 and no weight decay, whatever its shape.
            `exclude_from_weight_decay` of Keras, which searches names, takes off
            weight decay alone.
        adapt_lora: whether LoRA's matrices have a ratio and weight decay after all.
        unadapted_rate: factor of the learning rate of tensors with ratio 1. A peak
            that suits the matrices, where it is relative to their norm, can be high
            for vectors and excluded tensors, where it is absolute.
        clipnorm: limit of the norm of each gradient.
        clipvalue: limit of each element of the gradients.
        global_clipnorm: limit of the norm of all gradients together.
        use_ema: whether to keep a moving average of the weights.
        ema_momentum: momentum of this average.
        ema_overwrite_frequency: steps between two replacements of the weights by it.
        loss_scale_factor: factor of the loss, taken off the gradients again.
        gradient_accumulation_steps: batches whose mean gradient makes an update.
        name: name of the optimizer.

    Raises:
        ValueError: if a number is out of range or an expression is not regular.

    Source: You et al. 2020, "Large Batch Optimization for Deep Learning", algorithm 2;
        Perception Encoder, tables 18 and 19.

    Example:
        >>> import numpy as np
        >>> w = keras.Variable(np.ones((2, 2), "float32"))
        >>> optimizer = Lamb(learning_rate=0.1, weight_decay=0.0)
        >>> optimizer.apply([keras.ops.ones((2, 2))], [w])
        >>> print(np.round(keras.ops.convert_to_numpy(w), 4))
        [[0.9 0.9]
         [0.9 0.9]]
    """

    def __init__(
        self,
        learning_rate: Any = 2e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.95,
        weight_decay: float | None = 0.05,
        epsilon: float = 1e-6,
        trust_ratio_limit: float | None = None,
        exclude: Sequence[str] = (),
        unadapted_rate: float = 1.0,
        adapt_lora: bool = False,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str = "lamb",
    ) -> None:
        super().__init__(
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            clipnorm=clipnorm,
            clipvalue=clipvalue,
            global_clipnorm=global_clipnorm,
            use_ema=use_ema,
            ema_momentum=ema_momentum,
            ema_overwrite_frequency=ema_overwrite_frequency,
            loss_scale_factor=loss_scale_factor,
            gradient_accumulation_steps=gradient_accumulation_steps,
            name=name,
        )
        _check_numbers(beta_1, beta_2, weight_decay, epsilon, trust_ratio_limit)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.trust_ratio_limit = trust_ratio_limit
        self.exclude = _check_expressions(exclude)
        if not 0 < unadapted_rate < math.inf:
            raise ValueError(f"unadapted_rate={unadapted_rate}: expected above 0.")
        self.unadapted_rate = unadapted_rate
        self.adapt_lora = adapt_lora

    def build(self, variables: Sequence[Any]) -> None:
        if self.built:
            return
        super().build(variables)
        self._momentums, self._velocities = self.add_optimizer_variables(
            variables, ["momentum", "velocity"]
        )
        # By index: the TensorFlow backend hands update_step a bare tf.Variable.
        self._adapted = [self._adapts(variable) for variable in variables]
        self._decayed = [
            adapted and bool(self.weight_decay) and self._use_weight_decay(variable)
            for adapted, variable in zip(self._adapted, variables, strict=True)
        ]

    def _adapts(self, variable: Any) -> bool:
        if LORA.search(variable.path) and not self.adapt_lora:
            return False
        return len(variable.shape) > 1 and not any(
            re.search(expression, variable.path) for expression in self.exclude
        )

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        """Does nothing: weight decay is part of the update."""

    def _backend_update_step(
        self, grads: Sequence[Any], trainable_variables: Sequence[Any], rate: Any
    ) -> None:
        if keras.backend.backend() == "torch":
            import torch

            with torch.no_grad():
                if _update_together(self, list(grads), trainable_variables, rate):
                    return
        super()._backend_update_step(grads, trainable_variables, rate)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        index = self._get_variable_index(variable)
        momentum, velocity = self._momentums[index], self._velocities[index]
        double = keras.backend.standardize_dtype(variable.dtype) == "float64"
        dtype = "float64" if double else "float32"
        gradient = ops.cast(gradient, dtype)
        weight = ops.cast(variable, dtype)

        m = ops.cast(momentum, dtype)
        m = m + (gradient - m) * (1 - self.beta_1)
        v = ops.cast(velocity, dtype)
        v = v + (ops.square(gradient) - v) * (1 - self.beta_2)
        self.assign(momentum, m)
        self.assign(velocity, v)

        first, second = self.bias_corrections(dtype)
        update = (m / first) / (ops.sqrt(v / second) + self.epsilon)
        if self._decayed[index]:
            update = update + self.weight_decay * weight
        rate = ops.cast(learning_rate, dtype)
        if self._adapted[index]:
            rate = rate * self.trust_ratio(norm(weight), norm(update))
        else:
            rate = rate * self.unadapted_rate
        self.assign(variable, weight - rate * update)

    def bias_corrections(self, dtype: str) -> tuple[Any, Any]:
        """Returns 1 - beta^step of both moments, for the step that is being made."""
        step = ops.cast(self.iterations + 1, dtype)
        # 1 - beta^step as written loses digits to cancellation at the first steps.
        first, second = (
            -ops.expm1(step * math.log(beta)) if beta else ops.ones_like(step)
            for beta in (self.beta_1, self.beta_2)
        )
        return first, second

    def trust_ratio(self, weight_norm: Any, update_norm: Any) -> Any:
        """Returns the factor of the learning rate of a tensor, from its norms."""
        both = ops.logical_and(weight_norm > 0, update_norm > 0)
        # The inner `where` keeps 0 / 0 out of the branch that is not taken.
        ratio = ops.where(both, weight_norm / ops.where(both, update_norm, 1.0), 1.0)
        if self.trust_ratio_limit is not None:
            ratio = ops.minimum(ratio, self.trust_ratio_limit)
        return ratio

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "trust_ratio_limit": self.trust_ratio_limit,
            "exclude": list(self.exclude),
            "unadapted_rate": self.unadapted_rate,
            "adapt_lora": self.adapt_lora,
        }


WatchedLamb = Lamb
# The name under which it stands in models that were saved when it was another class.
keras.saving.get_custom_objects()["keras_pe>WatchedLamb"] = Lamb


def norm(x: Any) -> Any:
    """Returns the Euclidean norm of a tensor of any shape."""
    return ops.sqrt(ops.sum(ops.square(x)))


def _check_numbers(
    beta_1: float,
    beta_2: float,
    weight_decay: float | None,
    epsilon: float,
    trust_ratio_limit: float | None,
) -> None:
    for name, beta in (("beta_1", beta_1), ("beta_2", beta_2)):
        if not 0 <= beta < 1:
            raise ValueError(f"{name}={beta}: expected a number in [0, 1).")
    if weight_decay is not None and not 0 <= weight_decay < math.inf:
        raise ValueError(f"weight_decay={weight_decay}: expected 0 or more, or None.")
    if not 0 < epsilon < math.inf:
        raise ValueError(f"epsilon={epsilon}: expected a number above 0.")
    if trust_ratio_limit is not None and not trust_ratio_limit > 0:
        raise ValueError(
            f"trust_ratio_limit={trust_ratio_limit}: expected a number above 0, or "
            f"None for no limit."
        )


def _check_expressions(exclude: Sequence[str]) -> tuple[str, ...]:
    if isinstance(exclude, str):
        raise ValueError(f"exclude={exclude!r}: expected a list, as in [{exclude!r}].")
    for expression in exclude:
        try:
            re.compile(expression)
        except (re.error, TypeError) as error:
            raise ValueError(
                f"exclude: {expression!r} is no regular expression ({error})."
            ) from error
    return tuple(exclude)


def _update_together(
    optimizer: Lamb, gradients: list[Any], variables: Sequence[Any], rate: Any
) -> bool:
    """Does the work of `Lamb.update_step` on PyTorch, all float32 tensors at a time.

    Ten times less overhead than one by one.

    Takes the memory of one more copy of the weights while it runs.

    Args:
        optimizer: the built optimizer.
        gradients: tensors, one a variable.
        variables: Keras variables.
        rate: learning rate.

    Returns:
        False, and nothing is changed, if a tensor is not float32.
    """
    import torch

    weights = [variable.value for variable in variables]
    if any(tensor.dtype != torch.float32 for tensor in (*weights, *gradients)):
        return False
    indices = [optimizer._get_variable_index(variable) for variable in variables]
    momentums = [optimizer._momentums[index].value for index in indices]
    velocities = [optimizer._velocities[index].value for index in indices]
    rate = ops.cast(rate, "float32")

    torch._foreach_lerp_(momentums, gradients, 1 - optimizer.beta_1)
    torch._foreach_mul_(velocities, optimizer.beta_2)
    torch._foreach_addcmul_(velocities, gradients, gradients, 1 - optimizer.beta_2)

    first, second = optimizer.bias_corrections("float32")
    updates = torch._foreach_div(velocities, second)
    torch._foreach_sqrt_(updates)
    torch._foreach_add_(updates, optimizer.epsilon)
    torch._foreach_mul_(updates, first)
    torch._foreach_reciprocal_(updates)
    torch._foreach_mul_(updates, momentums)

    places = range(len(indices))
    decayed = [i for i in places if optimizer._decayed[indices[i]]]
    if decayed:
        torch._foreach_add_(
            [updates[i] for i in decayed],
            [weights[i] for i in decayed],
            alpha=optimizer.weight_decay,
        )
    adapted = [i for i in places if optimizer._adapted[indices[i]]]
    if adapted:
        ratios = optimizer.trust_ratio(
            torch.stack(torch._foreach_norm([weights[i] for i in adapted])),
            torch.stack(torch._foreach_norm([updates[i] for i in adapted])),
        )
        torch._foreach_mul_(
            [updates[i] for i in adapted], list((ratios * rate).unbind())
        )
    plain = [updates[i] for i in places if not optimizer._adapted[indices[i]]]
    if plain:
        torch._foreach_mul_(plain, rate * optimizer.unadapted_rate)
    torch._foreach_sub_(weights, updates)
    return True
