"""What an alignment changed: the layers before and after."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from keras_pe.files import write_atomically
from keras_pe.probing.sweep_comparison import PairedGain, paired_gain
from keras_pe.probing.sweep_plot import plot_sweeps
from keras_pe.probing.sweep_result import SweepResult


@dataclasses.dataclass(frozen=True)
class AlignmentReport:
    """Layers before and after, and how training went.

    Attributes:
        layer: the layer that taught.
        layer_reason: why that one.
        num_layers: blocks of the encoder.
        before: a sweep of the encoder that was given, by the name of the task.
        after: a sweep of the aligned one.
        failed: why a task has no sweep after training, by its name.
        gains: by how much the last layer is better than it was; below 0 it was lost.
        gains_over_best: by how much the last layer is better than the layer was that
            validation had chosen.
        whole_images: the losses on one batch of whole images, by name: before and
            after.
        losses: each step's, by name, on masked images.
        settings: every setting of the alignment.

    Example:
        >>> from keras_pe import PEVisionEncoder
        >>> from keras_pe.alignment import align_spatial
        >>> encoder = PEVisionEncoder(image_size=16, patch_size=8, hidden_dim=16,
        ...     num_layers=3, num_heads=2, intermediate_dim=32)
        >>> images = np.random.default_rng(0).uniform(-1, 1, (4, 16, 16, 3))
        >>> _, report = align_spatial(encoder, images.astype("float32"), layer=2,
        ...     steps=1, batch_size=4, mask_ratio=0.5, progress=False)
        >>> isinstance(report, AlignmentReport), report.layer, report.layer_reason
        (True, 2, 'as asked')
        >>> sorted(report.losses)    # without masks
        ['feature_loss']
    """

    layer: int
    layer_reason: str
    num_layers: int
    before: dict[str, SweepResult]
    after: dict[str, SweepResult]
    failed: dict[str, str]
    gains: dict[str, PairedGain]
    gains_over_best: dict[str, PairedGain]
    whole_images: dict[str, tuple[float, float]]
    losses: dict[str, tuple[float, ...]]
    settings: dict[str, Any]

    # === What it says ===
    def __str__(self) -> str:
        lines = [
            f"Taught by layer {self.layer} of {self.num_layers}: {self.layer_reason}."
        ]
        if self.layer == self.num_layers and "feature_loss" in self.losses:
            lines.append(
                "That is the last layer: its features were there already, and of them "
                "nothing is to be gained."
            )
        for name, (before, after) in self.whole_images.items():
            lines.append(f"{name} of whole images: {before:.4f} -> {after:.4f}")
        if not self.before:
            lines.append("No task was given: the layers were not compared.")
        for task in self.after:
            lines += self._table(task)
        for task, why in self.failed.items():
            lines += ["", f"{task}: NOT compared after the alignment. {why}"]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)  # what a notebook shows at the end of a cell

    def _table(self, task: str) -> list[str]:
        before, after = self.before[task], self.after[task]
        lines = ["", f"{task} ({before.probe}, {before.metric})"]
        lines.append("layer  before   after")
        for old, new in zip(before.layers, after.layers, strict=True):
            lines.append(f"{old.layer!s:>5}  {old.score:.4f}  {new.score:.4f}")
        lines.append(f"guess  {before.baseline:.4f}  {after.baseline:.4f}")
        over_best = self.gains_over_best[task]
        return [
            *lines,
            f"gain of the last layer: {_verdict(self.gains[task])}",
            f"over layer {over_best.other_layers[0]}, the best in validation before: "
            f"{_verdict(over_best)}",
        ]

    def plot(self, path: str | Path | None = None) -> Any:
        """Draws a panel for each task, with the curves of before and after.

        Args:
            path: where the figure is saved; None saves none.

        Returns:
            The Matplotlib figure.

        Raises:
            ValueError: if no task was compared.
        """
        if not self.after:
            raise ValueError(
                f"There are no curves: no task was compared. Give align_spatial tasks. "
                f"{' '.join(self.failed.values())}".rstrip()
            )
        curves: dict[str, SweepResult] = {}
        panels = []
        for task in self.after:
            names = [f"{task}, before", f"{task}, after"]
            sweeps = (self.before[task], self.after[task])
            curves.update(zip(names, sweeps, strict=True))
            panels.append(names)
        return plot_sweeps(curves, path, panels)

    # === Files ===
    def to_dict(self) -> dict[str, Any]:
        """Returns everything but the encoders, ready for JSON."""
        content = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        for name in ("before", "after"):
            content[name] = {k: sweep.to_dict() for k, sweep in content[name].items()}
        for name in ("gains", "gains_over_best"):
            content[name] = {k: vars(gain) for k, gain in content[name].items()}
        return content

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "AlignmentReport":
        """Returns a report read back from `to_json`, without encoders."""
        content = {"failed": {}, **content}  # reports of before have none
        values = {f.name: content[f.name] for f in dataclasses.fields(cls)}
        for name in ("before", "after"):
            sweeps = values[name].items()
            values[name] = {k: SweepResult.from_dict(sweep) for k, sweep in sweeps}
        for name in ("gains", "gains_over_best"):
            values[name] = {k: _gain(gain) for k, gain in values[name].items()}
        for name in ("whole_images", "losses"):
            values[name] = {k: tuple(numbers) for k, numbers in values[name].items()}
        return cls(**values)

    def to_json(self, path: str | Path) -> None:
        """Writes `to_dict` to a file, whole or not at all."""
        text = json.dumps(self.to_dict(), indent=2, allow_nan=False, default=_plain)
        write_atomically(path, text + "\n")


def gains(
    before: dict[str, SweepResult], after: dict[str, SweepResult]
) -> tuple[dict[str, PairedGain], dict[str, PairedGain]]:
    """Returns each task's gain of the last layer, over itself and the best before."""
    over_last, over_best = (
        {task: paired_gain(after[task], before[task], "last", other) for task in after}
        for other in ("last", "best")
    )
    return over_last, over_best


def _verdict(gain: PairedGain) -> str:
    sure = gain.low > 0 or gain.high < 0
    word = "better" if gain.gain > 0 else "worse" if gain.gain < 0 else "the same"
    return f"{gain} (95 %): {word}{'' if sure else ', which may be chance'}"


def _gain(content: dict[str, Any]) -> PairedGain:
    tuples = ("of_each", "layers", "other_layers")
    return PairedGain(**content | {name: tuple(content[name]) for name in tuples})


def _plain(value: Any) -> Any:
    """Returns NumPy's numbers, which settings of probes may be, as Python's."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{value!r} in a report has no form in JSON.")
