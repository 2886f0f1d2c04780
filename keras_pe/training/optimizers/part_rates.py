"""Other learning rates for parts of what is trained, by the paths of their weights."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras

from keras_pe.training.optimizers.gradient_watch import WatchedAdamW
from keras_pe.training.optimizers.lamb import Lamb

if TYPE_CHECKING:
    from keras.optimizers import Optimizer as Mixin
else:
    Mixin = object


class PartRates(Mixin):
    """Makes an optimizer multiply its learning rate by a part's factor; a mixin.

    Args:
        *arguments: of the optimizer.
        part_rates: factor by regular expression, which is matched at the start of a
            variable's path; the first that fits counts, 1 where none does. It scales
            the weight decay of a step too, which is proportional to the rate.
        **options: of the optimizer.

    Raises:
        ValueError: if a factor is not above 0 or an expression is not regular; when
            the optimizer is built, if an expression fits no variable.

    Example:
        >>> optimizer = PartAdamW(1e-3, part_rates={"pe_lang/": 0.1})
        >>> optimizer.get_config()["part_rates"]
        {'pe_lang/': 0.1}
    """

    weight_decay: Any

    def __init__(
        self,
        *arguments: Any,
        part_rates: Mapping[str, float] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        self.part_rates = dict(part_rates or {})
        for expression, factor in self.part_rates.items():
            try:
                re.compile(expression)
            except re.error as error:
                raise ValueError(
                    f"part_rates: {expression!r} is no regular expression ({error})."
                ) from error
            if not 0 < factor < math.inf:
                raise ValueError(f"part_rates[{expression!r}]={factor}: not above 0.")

    def build(self, variables: Sequence[Any]) -> None:
        if self.built:
            return
        super().build(variables)
        found = [self._part_of(variable.path) for variable in variables]
        for expression in self.part_rates:
            if expression not in found:
                raise ValueError(
                    f"part_rates[{expression!r}] fits none of the {len(found)} "
                    f"variables that are trained, such as {variables[0].path}."
                )
        # By index: on TensorFlow bare variables are handed on, which have no path.
        self._factors = [self.part_rates.get(part, 1.0) for part in found]

    def _part_of(self, path: str) -> str:
        return next((e for e in self.part_rates if re.match(e, path)), "")

    def _backend_update_step(
        self, grads: Sequence[Any], trainable_variables: Sequence[Any], rate: Any
    ) -> None:
        gradients = list(grads)
        for factor, places in self._groups(trainable_variables).items():
            super()._backend_update_step(
                [gradients[i] for i in places],
                [trainable_variables[i] for i in places],
                rate * factor,
            )

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        decay: float | None = self.weight_decay
        if decay is None:
            return
        try:
            for factor, places in self._groups(variables).items():
                # PyTorch refuses to multiply no tensors at all.
                decayed = [variables[i] for i in places]
                if any(self._use_weight_decay(variable) for variable in decayed):
                    self.weight_decay = decay * factor
                    super()._apply_weight_decay(decayed)
        finally:
            self.weight_decay = decay

    def _groups(self, variables: Sequence[Any]) -> dict[float, list[int]]:
        """Returns the places of variables by their factor."""
        groups: dict[float, list[int]] = {}
        for place, variable in enumerate(variables):
            factor = self._factors[self._get_variable_index(variable)]
            groups.setdefault(factor, []).append(place)
        return groups

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "part_rates": self.part_rates}


@keras.saving.register_keras_serializable("keras_pe")
class PartAdamW(PartRates, WatchedAdamW):
    """`WatchedAdamW` with `part_rates`."""


@keras.saving.register_keras_serializable("keras_pe")
class PartLamb(PartRates, Lamb):
    """`Lamb` with `part_rates`, which scale its relative steps."""
