"""What the plans of all runs have in common: sums over stages, layout, tables."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Protocol

from keras_pe.training.devices.memory import (
    DeviceMemory,
    gathered_bytes,
    parameter_bytes,
)
from keras_pe.training.devices.sharding import ParameterGroup
from keras_pe.training.run.training_config import TrainingConfig

MOMENTS = 2  # that the optimizer keeps of a weight: LAMB and AdamW alike


class PlannedCost(Protocol):
    """What a stage of any run takes; see `StageCost`."""

    @property
    def image_size(self) -> int: ...
    @property
    def samples(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def tokens(self) -> int: ...
    @property
    def training_flops(self) -> int: ...
    @property
    def executed_flops(self) -> int: ...
    @property
    def memory(self) -> DeviceMemory: ...


class RunPlan:
    """What follows of the stages, the weights and their layout, in any run."""

    stages: Sequence[PlannedCost]
    batch_size: int
    num_devices: int
    precision: str
    pieces: int
    groups: Sequence[ParameterGroup]

    @property
    def samples(self) -> int:
        """Samples seen in the whole run."""
        return sum(stage.samples for stage in self.stages)

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return sum(stage.steps for stage in self.stages)

    @property
    def training_flops(self) -> int:
        """Operations of the whole run, three forward passes of what is trained.

        What is frozen makes one of them. A multiply-add is two.
        """
        return sum(stage.samples * stage.training_flops for stage in self.stages)

    @property
    def executed_flops(self) -> int:
        """Operations of the whole run with those that are made again."""
        return sum(stage.samples * stage.executed_flops for stage in self.stages)

    def device_days(self, peak_flops: float, utilization: float = 0.4) -> float:
        """Returns the days that the run takes on one device.

        Args:
            peak_flops: operations a second of a device at its best.
            utilization: share of them that goes into `training_flops` (MFU).
        """
        return self.training_flops / (peak_flops * utilization * 86400)

    def _stage_table(self, heading: str, billion: bool, flops: Sequence[str]) -> str:
        """Returns a line a stage.

        Args:
            heading: of the columns, between bars; those of `flops` after the tokens.
            billion: whether samples are counted so, or by the million.
            flops: names of operations of a sample.
        """
        unit, letter = (1e9, "B") if billion else (1e6, "M")
        rows: list[Sequence[str]] = [heading.split("|")]
        for stage in self.stages:
            row = [
                f"{stage.image_size} px",
                f"{stage.samples / unit:,.4g} {letter}",
                f"{stage.steps:,}",
                f"{stage.tokens:,}",
                *(f"{getattr(stage, name) / 1e9:,.1f}" for name in flops),
                f"{stage.samples * stage.training_flops / 1e21:,.3g}",
                f"{stage.memory.total / 1e9:,.1f}",
            ]
            rows.append(row)
        return table(rows)

    def _steps_line(self) -> str:
        return (
            f"samples in {self.steps:,} steps of {self.batch_size:,}, on "
            f"{self.num_devices:,} devices ({self.batch_size // self.num_devices:,} "
            f"rows each)"
        )

    def _flops_line(self) -> str:
        return (
            f"{self.training_flops / 1e21:,.4g} ZFLOP of training: three passes, a "
            f"multiply-add as two ({self.executed_flops / 1e21:,.4g} with what is "
            f"computed again)"
        )

    def _layout_line(self) -> str:
        how = "copied to each device"
        if self.pieces > 1:
            how = f"cut into {self.pieces:,} pieces"
        return f"{self.precision}, weights {how}"

    def _memory_line(self) -> str:
        most = max(self.stages, key=lambda stage: stage.memory.total)
        parts = dataclasses.asdict(most.memory)
        listed = ", ".join(f"{name} {n / 1e9:,.2f}" for name, n in parts.items())
        return (
            f"GB on a device at {most.image_size} px (estimate): {listed}; "
            f"total {most.memory.total / 1e9:,.2f}"
        )


def planned_pieces(config: TrainingConfig, num_devices: int, pieces: int | None) -> int:
    """Returns how many pieces each large weight is cut into; 1 for none.

    Args:
        config: the run.
        num_devices: devices of the run.
        pieces: what is asked for; None for one a device.

    Raises:
        ValueError: if batch or pieces do not divide over the devices.
    """
    if num_devices < 1 or config.batch_size % num_devices:
        raise ValueError(
            f"The batch must divide over the devices, got a batch of "
            f"{config.batch_size} and {num_devices} devices."
        )
    pieces = 1 if config.sharding == "data" else pieces or num_devices
    if num_devices % pieces:
        raise ValueError(
            f"pieces must divide the number of devices, got {pieces} pieces for "
            f"{num_devices} devices."
        )
    return pieces


def weight_bytes(
    groups: Sequence[ParameterGroup],
    trained: Sequence[ParameterGroup],
    pieces: int,
    compute_bytes: int,
) -> dict[str, int]:
    """Returns the fields of `DeviceMemory` that weights alone decide.

    Args:
        groups: all weights.
        trained: those that are trained.
        pieces: how many each large weight is cut into.
        compute_bytes: of a number as it is computed with.
    """
    gradients = parameter_bytes(trained, pieces)
    return {
        "parameters": parameter_bytes(groups, pieces),
        "gradients": gradients,
        "optimizer": MOMENTS * gradients,
        "gathered": gathered_bytes(groups, compute_bytes),
    }


# === Tables ===
def weights_table(groups: Iterable[ParameterGroup]) -> str:
    """Returns the large weights, a line each, and how many small ones there are."""
    rows: list[Sequence[str]] = [("weights", "shape", "how often", "cut", "note")]
    small = [group for group in groups if group.note == "small"]
    for group in groups:
        if group in small:
            continue
        cut = [
            str(side)
            for side, axis in zip(group.shape, group.axes, strict=True)
            if axis is not None
        ]
        shape = " x ".join(str(side) for side in group.shape) or "scalar"
        name = group.pattern.replace(r"\d+", "*")
        along = f"along {cut[0]}" if cut else "copied"
        rows.append((name, shape, str(group.count), along, group.note))
    listed = table(rows, left=(0, 1, 3, 4))
    if not small:
        return listed
    tensors, size = (
        sum(group.count for group in small),
        sum(group.size for group in small),
    )
    return f"{listed}\nand {tensors:,} small ones ({size / 1e6:,.2f} M), copied"


def table(rows: list[Sequence[str]], left: tuple[int, ...] = (0,)) -> str:
    """Returns rows as aligned columns, the first row being the heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
