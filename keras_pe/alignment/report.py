"""What an alignment changed: the layers before and after."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from keras_pe.files import write_atomically
from keras_pe.probing.sweep_plot import plot_sweeps
from keras_pe.probing.sweep_result import SweepResult


@dataclasses.dataclass(frozen=True)
class AlignmentReport:
    """Layers before and after, and how training went.

    Scores and intervals are of each sweep alone: where those of before and after
    overlap, the difference may be chance.

    Attributes:
        layer: the layer that taught.
        layer_reason: why that one.
        num_layers: blocks of the encoder.
        before: a sweep of the encoder that was given, by the name of the task.
        after: a sweep of the aligned one.
        whole_images: the losses on one batch of whole images, by name: before and
            after.
        losses: each step's, by name, on masked images.
        settings: every setting of the alignment.
    """

    layer: int
    layer_reason: str
    num_layers: int
    before: dict[str, SweepResult]
    after: dict[str, SweepResult]
    whole_images: dict[str, tuple[float, float]]
    losses: dict[str, tuple[float, ...]]
    settings: dict[str, Any]

    def last_layer(self, task: str) -> tuple[float, float]:
        """Returns the score of the last layer, before and after."""
        sweeps = (self.before[task], self.after[task])
        before, after = (sweep.layers[-1].score for sweep in sweeps)
        return before, after

    def gain(self, task: str) -> float:
        """Returns by how much the last layer got better; below 0 it was lost."""
        before, after = self.last_layer(task)
        return after - before if self.before[task].higher_is_better else before - after

    # === What it says ===
    def __str__(self) -> str:
        lines = [f"Taught by layer {self.layer} of {self.num_layers}: "
                 f"{self.layer_reason}."]  # fmt: skip
        if self.layer == self.num_layers and "feature_loss" in self.losses:
            lines.append(
                "That is the last layer: its features were there already, and of them "
                "nothing is to be gained."
            )
        for name, (before, after) in self.whole_images.items():
            lines.append(f"{name} of whole images: {before:.4f} -> {after:.4f}")
        if not self.before:
            lines.append("No task was given: the layers were not compared.")
        for task in self.before:
            lines += self._table(task)
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)  # what a notebook shows at the end of a cell

    def _table(self, task: str) -> list[str]:
        sweeps = (self.before[task], self.after[task])
        lines = ["", f"{task} ({sweeps[0].probe}, {sweeps[0].metric})",
                 "layer  before   after"]  # fmt: skip
        for old, new in zip(sweeps[0].layers, sweeps[1].layers, strict=True):
            lines.append(f"{old.layer!s:>5}  {old.score:.4f}  {new.score:.4f}")
        lines.append(f"guess  {sweeps[0].baseline:.4f}  {sweeps[1].baseline:.4f}")
        old, new = (sweep.layers[-1] for sweep in sweeps)
        apart = old.high < new.low or new.high < old.low
        gain = self.gain(task)
        word = "the same" if gain == 0 else "better" if gain > 0 else "worse"
        lines.append(
            f"The last layer is {word}: {old.score:.4f} [{old.low:.4f}, {old.high:.4f}]"
            f" -> {new.score:.4f} [{new.low:.4f}, {new.high:.4f}]"
            + ("." if apart or gain == 0 else ", which may be chance.")
        )
        return lines

    def plot(self, path: str | Path | None = None) -> Any:
        """Draws a panel for each task, with the curves of before and after.

        Args:
            path: where the figure is saved; None saves none.

        Returns:
            The Matplotlib figure.

        Raises:
            ValueError: if no task was given.
        """
        if not self.before:
            raise ValueError(
                "There are no curves: no task was given. Give align_spatial tasks."
            )
        curves: dict[str, SweepResult] = {}
        panels = []
        for task in self.before:
            names = [f"{task}, before", f"{task}, after"]
            sweeps = (self.before[task], self.after[task])
            curves.update(zip(names, sweeps, strict=True))
            panels.append(names)
        return plot_sweeps(curves, path, panels)

    # === Files ===
    def to_dict(self) -> dict[str, Any]:
        """Returns everything but the encoders, ready for JSON."""
        fields = {field.name for field in dataclasses.fields(self)}
        plain = {name: getattr(self, name) for name in fields}
        for when in ("before", "after"):
            plain[when] = {k: sweep.to_dict() for k, sweep in plain[when].items()}
        return {
            **dict(sorted(plain.items())),
            "gains": {task: self.gain(task) for task in self.before},
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "AlignmentReport":
        """Returns a report read back from `to_json`, without encoders."""
        fields = {field.name for field in dataclasses.fields(cls)}
        values = {name: content[name] for name in fields}
        for when in ("before", "after"):
            values[when] = {
                task: SweepResult.from_dict(sweep)
                for task, sweep in values[when].items()
            }
        for name in ("whole_images", "losses"):
            values[name] = {key: tuple(x) for key, x in values[name].items()}
        return cls(**values)

    def to_json(self, path: str | Path) -> None:
        """Writes `to_dict` to a file, whole or not at all."""
        text = json.dumps(self.to_dict(), indent=2, allow_nan=False, default=_plain)
        write_atomically(path, text + "\n")


def _plain(value: Any) -> Any:
    """Returns NumPy's numbers, which settings of probes may be, as Python's."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{value!r} in a report has no form in JSON.")
