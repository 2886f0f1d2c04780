"""Tiny clips, stages that count their calls, and engines of them."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from keras_pe.data_engine import (
    Engine,
    FolderLedger,
    FrameCaptions,
    FunctionCaptioner,
    JoinedCaption,
    Limits,
    Probe,
    RefinedCaption,
    Row,
    StageFailure,
    VideoCaption,
)
from keras_pe.data_engine.apply import Loaded, apply_stage

LOOSE = Limits(None, None, None, None)
COLORS = ("red", "green", "blue", "yellow", "white", "black", "purple", "orange")


def clip(path: Path, seed: int = 0, frames: int = 2, side: int = 8) -> Path:
    """Writes an animated GIF of a few pixels, of noise."""
    rng = np.random.default_rng(seed)
    drawn = [
        Image.fromarray(rng.integers(0, 256, (side, side, 3), "uint8"))
        for _ in range(frames)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn[0].save(path, save_all=True, append_images=drawn[1:], duration=50, loop=0)
    return path


def folder_of(path: Path, count: int) -> Path:
    """Writes clips `00.gif` and so on."""
    for number in range(count):
        clip(path / f"{number:02}.gif", number)
    return path


def brightness(frames: np.ndarray) -> str:
    """Describes a clip by its mean values, which differ from clip to clip."""
    return f"{' '.join(f'{value:.2f}' for value in frames.mean((0, 1, 2)))} of 255"


def small_captioner() -> FunctionCaptioner:
    """Returns a captioner that needs no model."""
    return FunctionCaptioner(brightness, "1", image_size=8, num_frames=2)


def stages(edits: Mapping[str, str | None] | None = None) -> list[Any]:
    """Returns stages from a clip to its caption."""
    captioner = small_captioner()
    return [
        VideoCaption(captioner),
        RefinedCaption(edits or {}),
        FrameCaptions(captioner),
        JoinedCaption(["video"]),
    ]


def engine(edits: Mapping[str, str | None] | None = None) -> Engine:
    """Returns an engine that needs no model."""
    return Engine([Probe(2)], None, stages(edits))


class Letters:
    """A stage that needs no clip: what `change` makes of a field of the row."""

    def __init__(
        self,
        name: str = "letters",
        reads: Sequence[str] = ("metadata",),
        gives: Sequence[str] = ("letters",),
        setting: Any = 1,
        change: Any = None,
    ) -> None:
        self.name, self.reads, self.gives = name, tuple(reads), tuple(gives)
        self.setting, self.change = setting, change
        self.calls: list[str] = []

    def settings(self) -> dict[str, Any]:
        return {"setting": self.setting}

    def load(self) -> Any:
        return None

    def run(self, loaded: Any, row: Row) -> Any:
        self.calls.append(row["key"])
        if self.change is not None:
            return self.change(row)
        return {self.gives[0]: f"{row['content'][:4]} {self.setting}"}


class Counted:
    """A mapper that counts what was computed, reused and failed."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def count(self, what: str) -> None:
        self.counts[what] += 1

    def __call__(self, rows: Any, stages: Any, ledger: Any) -> list[Row]:
        loaded = [Loaded(stage) for stage in stages]
        found = []
        for row in rows:
            for stage, model in zip(stages, loaded, strict=True):
                row = apply_stage(stage, row, model, ledger, self.count)
            found.append(row)
        return found


def applied(stage: Any, ledger: FolderLedger, **row: Any) -> Row:
    """Takes one row through a stage."""
    row = {"key": "a", "content": "0" * 64, "metadata": {}, **row}
    return apply_stage(stage, row, Loaded(stage), ledger)


def lines(path: Path) -> list[Any]:
    """Returns the values of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def files_of(output: Path) -> dict[str, bytes]:
    """Returns all that an engine wrote but for its ledger."""
    return {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()}


def refuse(reason: str, lasting: bool = True) -> Any:
    """Returns a change that fails."""

    def change(row: Row) -> Any:
        raise StageFailure(reason, "for a test", lasting)

    return change
