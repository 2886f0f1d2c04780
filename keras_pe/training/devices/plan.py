"""What a contrastive run needs, as tables: parameters, operations, memory, layout."""

import dataclasses
from collections.abc import Sequence

from keras_pe.training.devices.memory import DeviceMemory
from keras_pe.training.devices.sharding import ParameterGroup


@dataclasses.dataclass(frozen=True)
class StagePlan:
    """One stage of resolution.

    Attributes:
        image_size: side of the pictures, pixels.
        samples: pairs seen in it.
        steps: optimizer steps.
        tokens: tokens of a picture.
        image_forward_flops: operations of one picture's forward pass.
        text_forward_flops: operations of one text's forward pass.
        training_flops: operations of one pair in training, three forward passes; of
            a frozen tower one.
        executed_flops: with those that are made again to save memory.
        memory: an estimate for one device.
    """

    image_size: int
    samples: int
    steps: int
    tokens: int
    image_forward_flops: int
    text_forward_flops: int
    training_flops: int
    executed_flops: int
    memory: DeviceMemory


@dataclasses.dataclass(frozen=True)
class TrainingPlan:
    """A whole run. `print(plan)` shows it as tables.

    Attributes:
        vision_parameters: of the vision tower.
        text_parameters: of the text tower.
        parameters: of the whole model, the logit scale included.
        trained_parameters: those of them that are not frozen.
        batch_size: pairs of a step, over all devices.
        num_devices: devices of the run.
        precision: Keras dtype policy.
        pieces: how many each large weight is cut into; 1 for none.
        groups: how the weights lie on the devices.
        stages: the stages of resolution.
    """

    vision_parameters: int
    text_parameters: int
    parameters: int
    trained_parameters: int
    batch_size: int
    num_devices: int
    precision: str
    pieces: int
    groups: tuple[ParameterGroup, ...]
    stages: tuple[StagePlan, ...]

    @property
    def samples(self) -> int:
        """Pairs seen in the whole run."""
        return sum(stage.samples for stage in self.stages)

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return sum(stage.steps for stage in self.stages)

    @property
    def training_flops(self) -> int:
        """Operations of the whole run, three forward passes a pair.

        A frozen tower makes one of them. A multiply-add is two. See
        `forward_multiply_adds` for the paper's count.
        """
        return sum(stage.samples * stage.training_flops for stage in self.stages)

    @property
    def forward_multiply_adds(self) -> int:
        """Multiply-adds of both towers' forward passes: the FLOPs of the paper.

        Its figure 2 counts neither the backward pass nor a multiply-add as two
        operations: a sixth of `training_flops`, but for masks and loss.
        """
        return (
            sum(
                stage.samples * (stage.image_forward_flops + stage.text_forward_flops)
                for stage in self.stages
            )
            // 2
        )

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

    def __str__(self) -> str:
        parts = [self._summary(), _table(self._stage_rows()), self._memory()]
        return "\n\n".join([*parts, self._weights()])

    def _summary(self) -> str:
        how = "copied to each device"
        if self.pieces > 1:
            how = f"cut into {self.pieces:,} pieces"
        frozen = ""
        if self.trained_parameters < self.parameters:
            frozen = f"; {self.trained_parameters / 1e6:,.2f} M of all are trained"
        return (
            f"{self.parameters / 1e6:,.2f} M parameters: vision tower "
            f"{self.vision_parameters / 1e6:,.2f} M, text tower "
            f"{self.text_parameters / 1e6:,.2f} M{frozen}\n"
            f"{self.samples / 1e9:,.1f} B samples in {self.steps:,} steps of "
            f"{self.batch_size:,}, on {self.num_devices:,} devices "
            f"({self.batch_size // self.num_devices:,} rows each)\n"
            f"{self.training_flops / 1e21:,.4g} ZFLOP of training: three passes, a "
            f"multiply-add as two ({self.executed_flops / 1e21:,.4g} with what is "
            f"computed again)\n"
            f"{self.forward_multiply_adds / 1e21:,.4g} ZFLOP as the paper counts: "
            f"multiply-adds of the forward pass\n"
            f"{self.precision}, weights {how}"
        )

    def _stage_rows(self) -> list[Sequence[str]]:
        heading = "stage|samples|steps|tokens|GFLOP a picture|a text|a trained pair"
        heading += "|executed|ZFLOP|GB a device"
        rows: list[Sequence[str]] = [heading.split("|")]
        for stage in self.stages:
            per_pair = (
                stage.image_forward_flops,
                stage.text_forward_flops,
                stage.training_flops,
                stage.executed_flops,
            )
            row = [
                f"{stage.image_size} px",
                f"{stage.samples / 1e9:,.4g} B",
                f"{stage.steps:,}",
                f"{stage.tokens:,}",
                *(f"{flops / 1e9:,.1f}" for flops in per_pair),
                f"{stage.samples * stage.training_flops / 1e21:,.3g}",
                f"{stage.memory.total / 1e9:,.1f}",
            ]
            rows.append(row)
        return rows

    def _memory(self) -> str:
        most = max(self.stages, key=lambda stage: stage.memory.total)
        parts = dataclasses.asdict(most.memory)
        listed = ", ".join(f"{name} {n / 1e9:,.2f}" for name, n in parts.items())
        return (
            f"GB on a device at {most.image_size} px (estimate): {listed}; "
            f"total {most.memory.total / 1e9:,.2f}"
        )

    def _weights(self) -> str:
        rows: list[Sequence[str]] = [("weights", "shape", "how often", "cut", "note")]
        small = [group for group in self.groups if group.note == "small"]
        for group in self.groups:
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
        table = _table(rows, left=(0, 1, 3, 4))
        if not small:
            return table
        tensors, size = (
            sum(group.count for group in small),
            sum(group.size for group in small),
        )
        return f"{table}\nand {tensors:,} small ones ({size / 1e6:,.2f} M), copied"


def _table(rows: list[Sequence[str]], left: tuple[int, ...] = (0,)) -> str:
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
