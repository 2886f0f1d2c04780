"""LAMB on PyTorch, all tensors at a time: ten times less overhead than one by one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from keras import ops

if TYPE_CHECKING:
    from keras_pe.training.lamb import Lamb


@torch.no_grad()
def update_together(
    optimizer: "Lamb", gradients: list[Any], variables: Sequence[Any], rate: Any
) -> bool:
    """Does the work of `Lamb.update_step` for all variables, which must be float32.

    Takes the memory of one more copy of the weights while it runs.

    Args:
        optimizer: the built optimizer.
        gradients: tensors, one a variable.
        variables: Keras variables.
        rate: learning rate.

    Returns:
        False, and nothing is changed, if a tensor is not float32.
    """
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
