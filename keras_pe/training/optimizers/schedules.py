"""Learning-rate curves: a linear warm-up, then a decay to the end of the run."""

import math
from typing import Any

import keras
from keras import ops


class _Warmup(keras.optimizers.schedules.LearningRateSchedule):
    """A linear warm-up; subclasses say how the rest falls."""

    def __init__(
        self, peak: float, warmup_steps: int, total_steps: int, final: float = 0.0
    ) -> None:
        super().__init__()
        for name, steps in (
            ("warmup_steps", warmup_steps),
            ("total_steps", total_steps),
        ):
            if isinstance(steps, bool) or int(steps) != steps:
                raise ValueError(f"{name}={steps!r}: expected a whole number.")
        if not 0 <= warmup_steps < total_steps:
            raise ValueError(
                f"warmup_steps={warmup_steps} and total_steps={total_steps}: expected "
                f"0 <= warmup_steps < total_steps, so that there is a decay."
            )
        if not 0 <= final <= peak < math.inf or peak == 0:
            raise ValueError(
                f"peak={peak} and final={final}: expected 0 <= final <= peak, and a "
                f"peak above 0."
            )
        self.peak, self.final = float(peak), float(final)
        self.warmup_steps, self.total_steps = int(warmup_steps), int(total_steps)

    def __call__(self, step: Any) -> Any:
        # float32 holds every whole number up to 16.7 million.
        step = ops.cast(step, "float32")
        # From the far end: the last, small rates keep all their digits.
        left = (self.total_steps - step) / (self.total_steps - self.warmup_steps)
        share = self._share(ops.clip(left, 0.0, 1.0))
        rate = self.final + (self.peak - self.final) * share
        if self.warmup_steps == 0:
            return rate
        rise = self.peak * ((step + 1.0) / self.warmup_steps)
        return ops.where(step < self.warmup_steps, rise, rate)

    def _share(self, left: Any) -> Any:
        """Returns the share of the fall that is left, from that of the steps."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        return {
            "peak": self.peak,
            "warmup_steps": self.warmup_steps,
            "total_steps": self.total_steps,
            "final": self.final,
        }


@keras.saving.register_keras_serializable("keras_pe")
class WarmupCosine(_Warmup):
    """Rises linearly to a peak, then falls along half a cosine.

    Step s of the warm-up has `peak * (s + 1) / warmup_steps`, so the first step is no
    zero. The peak is held at steps `warmup_steps - 1` and `warmup_steps`; `final` is
    reached at `total_steps`, one after the last step, and held from there on.

    One curve goes through all resolutions of a run. The paper gives peak and warm-up
    but not the shape of the decay; the cosine is OpenCLIP's, whose code it builds on.

    Args:
        peak: highest learning rate.
        warmup_steps: steps of the warm-up; 0 starts at the peak.
        total_steps: steps of the whole run, warm-up included. An optimizer that
            accumulates gradients counts every batch as a step here.
        final: learning rate at the end.

    Raises:
        ValueError: unless 0 <= warmup_steps < total_steps and 0 <= final <= peak.

    Source: Perception Encoder, table 18; Loshchilov and Hutter 2017.

    Example:
        >>> schedule = WarmupCosine(2e-3, warmup_steps=2_000, total_steps=443_000)
        >>> [round(float(schedule(step)), 9) for step in (0, 2_000, 222_500, 443_000)]
        [1e-06, 0.002, 0.001, 0.0]
    """

    def _share(self, left: Any) -> Any:
        # sin² is (1 - cos) / 2 without its cancellation where the rate is small.
        return ops.square(ops.sin(0.5 * math.pi * left))


@keras.saving.register_keras_serializable("keras_pe")
class WarmupLinear(_Warmup):
    """Rises linearly to a peak, then falls along a straight line.

    As `WarmupCosine`, but for the shape of the decay. A cosine is nearly zero when the
    last, largest resolution of a short run starts; a line leaves that stage a learning
    rate at which it can still learn.

    Args:
        peak: highest learning rate.
        warmup_steps: steps of the warm-up; 0 starts at the peak.
        total_steps: steps of the whole run, warm-up included.
        final: learning rate at the end.

    Raises:
        ValueError: unless 0 <= warmup_steps < total_steps and 0 <= final <= peak.

    Example:
        >>> schedule = WarmupLinear(1.0, warmup_steps=2, total_steps=6)
        >>> [float(schedule(step)) for step in range(7)]
        [0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]
    """

    def _share(self, left: Any) -> Any:
        return left
