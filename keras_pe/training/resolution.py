"""Stages of resolution: how many samples at which image size, and so which steps."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import NamedTuple


@dataclasses.dataclass(frozen=True)
class ResolutionStage:
    """Samples that are seen at one image size.

    Args:
        image_size: height and width in pixels.
        samples: images seen at this size, counting repeats.

    Raises:
        ValueError: unless both are whole numbers above 0.

    Example:
        >>> stages = (ResolutionStage(160, 600_000), ResolutionStage(224, 400_000))
        >>> sum(stage.samples for stage in stages)
        1000000
    """

    image_size: int
    samples: int

    def __post_init__(self) -> None:
        for name in ("image_size", "samples"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(
                    f"{name}={value!r}: expected a whole number above 0 (write "
                    f"10 * 10**9 for 10 billion samples)."
                )


class PlannedStage(NamedTuple):
    """Steps that are made at one image size.

    Example:
        >>> stages = (ResolutionStage(32, 640), ResolutionStage(64, 320))
        >>> first, then = plan_stages(stages, batch_size=64, patch_size=8)
        >>> then == PlannedStage(image_size=64, first_step=10, num_steps=5)
        True
    """

    image_size: int
    first_step: int
    num_steps: int


#: Perception Encoder, section 2.1 and figure 2, step 5: L/14, 24 billion samples. How
#: the final models split theirs is not published.
ABLATION_STAGES = (
    ResolutionStage(98, 10 * 10**9),
    ResolutionStage(154, 8 * 10**9),
    ResolutionStage(224, 4 * 10**9),
    ResolutionStage(336, 2 * 10**9),
)


def plan_stages(
    stages: Sequence[ResolutionStage], batch_size: int, patch_size: int | None = None
) -> list[PlannedStage]:
    """Turns samples into steps.

    The boundaries between stages are rounded, not the stages: the steps add up to all
    samples divided by the batch, rounded once.

    Args:
        stages: the stages in their order.
        batch_size: samples of a step, over all devices.
        patch_size: side of a patch in pixels; image sizes must be multiples of it.
            None leaves that unchecked.

    Returns:
        `(image_size, first_step, num_steps)` of each stage.

    Raises:
        ValueError: if a size is no multiple of the patch, or a stage is too short for
            one step.

    Source: Perception Encoder, section 2.1 (progressive resolution).

    Example:
        >>> plan = plan_stages(ABLATION_STAGES, batch_size=65_536, patch_size=14)
        >>> plan[1]
        PlannedStage(image_size=154, first_step=152588, num_steps=122070)
        >>> sum(stage.num_steps for stage in plan)
        366211
    """
    _check_stages(stages)
    if isinstance(batch_size, bool) or int(batch_size) != batch_size or batch_size < 1:
        raise ValueError(f"batch_size={batch_size!r}: expected a whole number above 0.")
    if patch_size is not None:
        _check_sizes(stages, patch_size)
    seen = itertools.accumulate((stage.samples for stage in stages), initial=0)
    bounds = [_rounded(samples, batch_size) for samples in seen]
    plan = [
        PlannedStage(stage.image_size, first, after - first)
        for stage, (first, after) in zip(
            stages, itertools.pairwise(bounds), strict=True
        )
    ]
    for stage, planned in zip(stages, plan, strict=True):
        if planned.num_steps == 0:
            raise ValueError(
                f"{stage.samples} samples at {stage.image_size} pixels are less than "
                f"a step of {batch_size}. Leave the stage out, give it more samples "
                f"or take a smaller batch."
            )
    return plan


def rescaled(
    stages: Sequence[ResolutionStage], total_samples: int
) -> list[ResolutionStage]:
    """Shortens or lengthens a schedule, with the same share for each stage.

    Args:
        stages: the stages in their order.
        total_samples: samples of the new schedule, exactly.

    Returns:
        The new stages.

    Raises:
        ValueError: if a stage would have no sample.

    Source: Perception Encoder, figure 4: shorter runs rescale the resolution schedule.

    Example:
        >>> [stage.samples for stage in rescaled(ABLATION_STAGES, 12_000)]
        [5000, 4000, 2000, 1000]
    """
    _check_stages(stages)
    if isinstance(total_samples, bool) or int(total_samples) != total_samples:
        raise ValueError(f"total_samples={total_samples!r}: expected a whole number.")
    if total_samples < len(stages):
        raise ValueError(
            f"total_samples={total_samples}: expected one or more for each of "
            f"{len(stages)} stages."
        )
    seen = list(itertools.accumulate((stage.samples for stage in stages), initial=0))
    bounds = [_rounded(samples * int(total_samples), seen[-1]) for samples in seen]
    counts = [after - before for before, after in itertools.pairwise(bounds)]
    if 0 in counts:
        size = stages[counts.index(0)].image_size
        raise ValueError(
            f"total_samples={total_samples} leaves none at {size} pixels. Take more "
            f"samples, or leave that stage out."
        )
    return [
        dataclasses.replace(stage, samples=count)
        for stage, count in zip(stages, counts, strict=True)
    ]


def extended(
    stages: Sequence[ResolutionStage], total_samples: int
) -> list[ResolutionStage]:
    """Lengthens the last stage of a schedule; what comes before stays as it is.

    Args:
        stages: the stages in their order.
        total_samples: samples of the longer schedule.

    Returns:
        The new stages.

    Raises:
        ValueError: if that is no more than the schedule has.

    Example:
        >>> stages = [ResolutionStage(98, 600), ResolutionStage(224, 400)]
        >>> [stage.samples for stage in extended(stages, 1500)]
        [600, 900]
    """
    _check_stages(stages)
    before = sum(stage.samples for stage in stages)
    if total_samples <= before:
        raise ValueError(
            f"total_samples={total_samples}: the run has {before} already. An extended "
            f"run has more."
        )
    last = stages[-1].samples + total_samples - before
    return [*stages[:-1], dataclasses.replace(stages[-1], samples=last)]


def _rounded(numerator: int, denominator: int) -> int:
    """Divides whole numbers and rounds, exactly at any size; halves go up."""
    return (2 * numerator + denominator) // (2 * denominator)


def _check_stages(stages: Sequence[ResolutionStage]) -> None:
    if not stages:
        raise ValueError("There is no stage: give at least one ResolutionStage.")


def _check_sizes(stages: Sequence[ResolutionStage], patch_size: int) -> None:
    for stage in stages:
        size = stage.image_size
        if size % patch_size:
            below = size // patch_size * patch_size
            near = [str(s) for s in (below, below + patch_size) if s]
            raise ValueError(
                f"image_size={size} is no multiple of the patch, {patch_size}: take "
                f"{' or '.join(near)}."
            )
