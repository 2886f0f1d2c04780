"""What a frontier says: its points, a table, a picture."""

import dataclasses
import json
import os
from collections.abc import Sequence
from typing import Any

from keras_pe.files import write_atomically


@dataclasses.dataclass(frozen=True)
class FrontierPoint:
    """One file: a cut, a precision, a size.

    Attributes:
        layer: last block that the file holds.
        quantize: "none", "fp16" or "int8".
        image_size: pixels a side.
        score: share of the test images that get their class, by this file's outputs.
        low: lower end of the 95 % interval over test images.
        high: upper end.
        milliseconds: median of an image alone.
        speed: the first point's time over this one's, median over turns.
        num_bytes: of the file.
        cosine: the lowest of an output with the model's.

    Example:
        >>> FrontierPoint(6, "none", 64, 0.9, 0.8, 1.0, 4.0, 1.0, 9, 1.0).name
        'layer 6, float32, 64 px'
    """

    layer: int
    quantize: str
    image_size: int
    score: float
    low: float
    high: float
    milliseconds: float
    speed: float
    num_bytes: int
    cosine: float

    @property
    def name(self) -> str:
        """How tables call it."""
        kind = "float32" if self.quantize == "none" else self.quantize
        return f"layer {self.layer}, {kind}, {self.image_size} px"


@dataclasses.dataclass(frozen=True)
class Refused:
    """A file that does not compute what the model does, and was not kept.

    Attributes:
        layer: as of `FrontierPoint`.
        quantize: likewise.
        image_size: likewise.
        reason: what the export said.

    Example:
        >>> Refused(6, "int8", 64, "cosine 0.998").reason
        'cosine 0.998'
    """

    layer: int
    quantize: str
    image_size: int
    reason: str


@dataclasses.dataclass(frozen=True)
class Frontier:
    """All points of a model on a machine.

    Attributes:
        model: preset or name.
        points: in the order they were written; the first is what speeds refer to.
        refused: files that were off.
        protocol: data, splits, probe, machine and versions.

    Example:
        >>> slow = FrontierPoint(6, "none", 64, 0.9, 0.8, 1.0, 4.0, 1.0, 9, 1.0)
        >>> fast = FrontierPoint(3, "none", 64, 0.9, 0.8, 1.0, 2.0, 2.0, 5, 1.0)
        >>> [point.name for point in Frontier("emoji", (slow, fast), (), {}).best]
        ['layer 3, float32, 64 px']
    """

    model: str
    points: tuple[FrontierPoint, ...]
    refused: tuple[Refused, ...]
    protocol: dict[str, Any]

    @property
    def best(self) -> tuple[FrontierPoint, ...]:
        """The points that no other one beats in both score and time, fastest first."""
        return pareto(self.points)

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        best = self.best
        return {
            "model": self.model,
            "points": [
                {**dataclasses.asdict(point), "best": point in best}
                for point in self.points
            ],
            "refused": [dataclasses.asdict(one) for one in self.refused],
            "protocol": self.protocol,
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes it as JSON."""
        write_atomically(path, json.dumps(self.to_json(), indent=1) + "\n")

    def __str__(self) -> str:
        best = self.best
        lines = [
            f"{self.model}: {self.protocol['test_images']} test images, "
            f"{self.protocol['format']}, {self.protocol['machine']}, threads: "
            f"{self.protocol['threads']}",
            f"  {'':2}{'layer':>5} {'precision':>9} {'px':>4} {'score':>6} "
            f"{'95 %':>13} {'ms':>8} {'times':>6} {'MB':>7}",
        ]
        for point in sorted(self.points, key=lambda each: each.milliseconds):
            kind = "float32" if point.quantize == "none" else point.quantize
            span = f"{100 * point.low:.1f} to {100 * point.high:.1f}"
            lines.append(
                f"  {'*' if point in best else '':2}{point.layer:>5} {kind:>9} "
                f"{point.image_size:>4} {100 * point.score:>6.1f} {span:>13} "
                f"{point.milliseconds:>8.2f} {point.speed:>6.2f} "
                f"{point.num_bytes / 2**20:>7.1f}"
            )
        lines.extend(
            f"  refused: layer {one.layer}, {one.quantize}, {one.image_size} px: "
            f"{one.reason}"
            for one in self.refused
        )
        guess = 100 * self.protocol["guess"]
        lines.append(
            f"  *: no other one is both faster and better; a guess has {guess:.1f}"
        )
        return "\n".join(lines)

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draws score against time; a disc's area is the size of its file.

        Args:
            path: where the figure is saved; None saves none.

        Returns:
            The Matplotlib figure.
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.2, 4.6), dpi=150, layout="constrained")
        axis = figure.subplots()
        largest = max(point.num_bytes for point in self.points)
        colours = {"none": "#3b6fb6", "fp16": "#d98a1f", "int8": "#3a9a5b"}
        for kind, colour in colours.items():
            ours = [point for point in self.points if point.quantize == kind]
            if not ours:
                continue
            axis.scatter(
                [point.milliseconds for point in ours],
                [100 * point.score for point in ours],
                s=[30 + 170 * point.num_bytes / largest for point in ours],
                color=colour,
                alpha=0.75,
                edgecolors="white",
                label="float32" if kind == "none" else kind,
                zorder=3,
            )
            for point in ours:
                axis.plot(
                    [point.milliseconds] * 2,
                    [100 * point.low, 100 * point.high],
                    color=colour,
                    linewidth=0.8,
                    alpha=0.5,
                )
        best = self.best
        axis.step(
            [point.milliseconds for point in best],
            [100 * point.score for point in best],
            where="post",
            color="0.35",
            linewidth=1,
            linestyle="--",
        )
        sizes = len({point.image_size for point in self.points}) > 1
        for point in best:
            size = f", {point.image_size} px" if sizes else ""
            axis.annotate(
                f"layer {point.layer}{size}",
                (point.milliseconds, 100 * point.score),
                xytext=(6, -12),
                textcoords="offset points",
                fontsize=8,
            )
        axis.set_xlabel("milliseconds an image, batch of one")
        axis.set_ylabel("test images that get their class, %")
        axis.set_title(self.model, fontsize=10)
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=8, loc="best")
        if path is not None:
            figure.savefig(os.fspath(path))
        return figure


def pareto(points: Sequence[FrontierPoint]) -> tuple[FrontierPoint, ...]:
    """Returns the points that none beats in score and time, fastest first.

    Args:
        points: any.

    Example:
        >>> slow = FrontierPoint(6, "none", 64, 0.9, 0.8, 1.0, 4.0, 1.0, 9, 1.0)
        >>> fast = FrontierPoint(3, "none", 64, 0.7, 0.6, 0.8, 2.0, 2.0, 5, 1.0)
        >>> poor = FrontierPoint(4, "none", 64, 0.6, 0.5, 0.7, 3.0, 1.3, 6, 1.0)
        >>> [point.layer for point in pareto([slow, fast, poor])]
        [3, 6]
    """
    found: list[FrontierPoint] = []
    for point in sorted(points, key=lambda each: (each.milliseconds, -each.score)):
        if not found or point.score > found[-1].score:
            found.append(point)
    return tuple(found)
