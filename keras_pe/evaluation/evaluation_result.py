"""What an evaluation returns: the scores, and all that it takes to get them again."""

import dataclasses
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from typing import Any

import keras

from keras_pe.evaluation.intervals import Score
from keras_pe.files import write_atomically
from keras_pe.preprocessing.image_errors import SkippedImage

FORMAT = 1
PACKAGES = ("keras-pe", "keras", "numpy", "pillow", "tokenizers", "ftfy", "av")
BACKEND_PACKAGES = {
    "jax": ("jax", "jaxlib"),
    "torch": ("torch",),
    "tensorflow": ("tensorflow", "tensorflow-cpu"),
}


@dataclasses.dataclass(frozen=True)
class EvaluationResult:
    """Scores of a model on a data set.

    Attributes:
        task: what was evaluated.
        protocol: every setting, as JSON values.
        scores: for each resize mode, the scores by name.
        chosen_by: the score by which the better resize mode is chosen.
        weights_hash: SHA-256 of the model's weights, see `weights_hash`.
        data_hash: SHA-256 of images and targets, see `data_hash`.
        seed: of the bootstrap.
        num_samples: images or videos that were scored.
        skipped: those that could not be read, which do not count.
        versions: versions of the packages involved, by name.

    Example:
        >>> scores = {"squash": {"top1": Score(0.75, low=0.7, high=0.8, count=400)},
        ...     "shortest": {"top1": Score(0.72, low=0.67, high=0.77, count=400)}}
        >>> result = EvaluationResult("zero-shot", {}, scores, "top1", "ab", "cd",
        ...     seed=0, num_samples=400, skipped=(), versions={})
        >>> result.best_mode, str(result.best["top1"])
        ('squash', '75.0 [70.0, 80.0]')
    """

    task: str
    protocol: Mapping[str, Any]
    scores: Mapping[str, Mapping[str, Score]]
    chosen_by: str
    weights_hash: str
    data_hash: str
    seed: int
    num_samples: int
    skipped: tuple[SkippedImage, ...]
    versions: Mapping[str, str]

    @property
    def best_mode(self) -> str:
        """The resize mode with the higher score; of equal ones the first."""
        return max(self.scores, key=lambda m: self.scores[m][self.chosen_by].value)

    @property
    def best(self) -> Mapping[str, Score]:
        """The scores of the better resize mode.

        This is what the paper reports. Choosing on the data that is scored flatters a
        model a little, so compare it only with numbers that were chosen alike.
        """
        return self.scores[self.best_mode]

    def table(self) -> str:
        """Returns the scores in per cent with their 95 % intervals, as text."""
        columns = list(self.best)
        rows = [["", *columns]]
        rows += [
            [mode, *(str(scores[column]) for column in columns)]
            for mode, scores in self.scores.items()
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(
                cell.ljust(width) for cell, width in zip(row, widths, strict=True)
            ).rstrip()
            for row in rows
        )

    def __str__(self) -> str:
        lines = [
            f"{self.task}: {self.num_samples} scored, {len(self.skipped)} skipped",
            self.table(),
        ]
        if len(self.scores) > 1:
            lines.append(
                f"better of the {len(self.scores)}, by {self.chosen_by} on these same "
                f"images, as in the paper: {self.best_mode}"
            )
        lines += _said_of_videos(self.protocol)
        versions = ", ".join(f"{k} {v}" for k, v in self.versions.items())
        lines += [
            "in per cent; 95 % intervals over images: bootstrap, seed "
            f"{self.seed}, or exact where all score alike",
            f"weights {self.weights_hash[:16]}, data {self.data_hash[:16]}",
            versions,
        ]
        return "\n".join(lines)

    def __repr__(self) -> str:
        # The last line of a notebook's cell: all samples' names would follow else.
        return str(self)

    def to_dict(self) -> dict[str, Any]:
        """Returns all of it as JSON values."""
        content = {"format": FORMAT, **dataclasses.asdict(self)}
        content["best_mode"] = self.best_mode
        return content

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Writes all of it to a JSON file, whole or not at all.

        Args:
            path: the file; replaced if it is there.

        Raises:
            OSError: if it can't be written.
        """
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        write_atomically(path, text + "\n")


def _said_of_videos(protocol: Mapping[str, Any]) -> list[str]:
    """Returns what numbers can't be compared without: how frames became one vector."""
    lines = []
    video = protocol.get("video")
    if video:
        length = "of unit length" if video["unit_length"] else "as it is"
        lines.append(
            f'{video["num_frames"]} frames by the rule "{video["frame_rule"]}", their '
            f"{video['frame_average']} average, {length}"
        )
    if protocol.get("dsl_scale") is not None:
        lines.append(
            f"re-weighted by a softmax over all queries (DSL, scale "
            f"{protocol['dsl_scale']:g}), which a single query does not have"
        )
    return lines


def package_versions() -> dict[str, str]:
    """Returns the versions of Python, keras_pe and what it computes with.

    Example:
        >>> "keras" in package_versions()
        True
    """
    versions = {"python": platform.python_version(), "backend": keras.backend.backend()}
    for name in (*PACKAGES, *BACKEND_PACKAGES.get(versions["backend"], ())):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
