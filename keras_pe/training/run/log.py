"""What a run leaves to read: a CSV file, TensorBoard events, curves, a progress bar."""

import csv
import io
import math
import os
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from keras_pe.drawn_figure import new_figure
from keras_pe.files import write_atomically
from keras_pe.training.optimizers.gradient_watch import optimizer_number
from keras_pe.training.resolution import PlannedStage

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAIR_TERMS = ("contrastive_loss", "mask_loss", "logit_scale")


def step_columns(terms: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the columns of `steps.csv`, a trainer's own numbers among them."""
    before = ("step", "samples", "image_size", "seconds", "loss")
    return (*before, *terms, "learning_rate", "gradient_norm", "samples_per_second")


class RunLog(keras.callbacks.Callback):
    """Logs every step of a run.

    Files are appended to; after a resume, rows past the step that was restored are cut
    first, so that a file never holds a step twice.

    Args:
        directory: where `steps.csv` and `tensorboard/` go.
        batch_size: samples of a step, over all devices.
        total_steps: steps of the whole run, for the progress bar.
        first_step: step that the run starts or goes on from.
        seconds: training time before, in a run that goes on.
        progress: whether a progress bar is shown.
        tensorboard: whether TensorBoard events are written.
        terms: the trainer's own numbers of a step.
    """

    first_process_only = True

    def __init__(
        self,
        directory: Path,
        batch_size: int,
        total_steps: int,
        first_step: int = 0,
        seconds: float = 0.0,
        progress: bool = True,
        tensorboard: bool = True,
        terms: tuple[str, ...] = PAIR_TERMS,
    ) -> None:
        super().__init__()
        from tqdm import tqdm

        directory.mkdir(parents=True, exist_ok=True)
        self.directory, self.batch_size, self.terms = directory, batch_size, terms
        self.step = first_step
        self.stages: list[PlannedStage] = []
        self.seconds = seconds
        self.last = time.perf_counter()
        self.table = Table(directory / "steps.csv", step_columns(terms), first_step)
        self.scores: Table | None = None  # its columns come with the first scores
        events = directory / "tensorboard"
        self.events = EventFile(events, first_step) if tensorboard else None
        self.bar = tqdm(
            total=total_steps,
            initial=first_step,
            disable=not progress,
            unit="step",
            dynamic_ncols=True,
        )

    def on_train_begin(self, logs: Any = None) -> None:
        self.last = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        values = {name: float(value) for name, value in (logs or {}).items()}
        now = time.perf_counter()
        passed, self.last = now - self.last, now
        self.seconds += passed
        self.step += 1
        sizes = [s.image_size for s in self.stages if s.first_step < self.step]
        image_size = sizes[-1] if sizes else None
        optimizer = self.model.optimizer
        row = {
            "step": self.step,
            "samples": self.step * self.batch_size,
            "image_size": image_size,
            "seconds": round(self.seconds, 2),
            "loss": self._loss(values),
            **{name: values.get(name) for name in self.terms},
            "learning_rate": learning_rate(optimizer, self.step - 1),
            "gradient_norm": optimizer_number(self.model, "gradient_norm"),
            "samples_per_second": round(self.batch_size / max(passed, 1e-9), 2),
        }
        self.table.add(row)
        if self.events is not None:
            self.events.add(self.step, row)
        self.bar.set_postfix(
            size=image_size, loss=f"{row['loss'] or 0.0:.3f}", refresh=False
        )
        self.bar.update(1)

    def _loss(self, values: dict[str, float]) -> float | None:
        """Returns the step's loss; Keras' own is the mean of an epoch."""
        weights = getattr(self.model, "loss_weights", {})
        known = [weight * values[n] for n, weight in weights.items() if n in values]
        return sum(known) if known else values.get("loss")

    def add_scores(self, scores: dict[str, float], begun: float) -> None:
        """Notes what an evaluation gave.

        Args:
            scores: by name.
            begun: `time.perf_counter()` when it started.
        """
        row = {
            "step": self.step,
            "samples": self.step * self.batch_size,
            "seconds": round(self.seconds, 2),
            **{name: round(float(value), 5) for name, value in scores.items()},
        }
        if self.scores is None:
            path = self.directory / "scores.csv"
            self.scores = Table(path, tuple(row), self.step - 1)
        self.scores.add(row)
        if self.events is not None:
            self.events.add(self.step, scores)
        self.bar.write(
            f"step {self.step}: "
            + ", ".join(f"{name} {value:.4g}" for name, value in scores.items())
            + f" ({time.perf_counter() - begun:.1f} s)"
        )
        self.skip_time()

    def skip_time(self) -> None:
        """Leaves the time since the last step out: evaluation is not training."""
        self.last = time.perf_counter()

    def close(self) -> None:
        """Writes what is buffered and ends the progress bar."""
        self.table.close()
        if self.scores is not None:
            self.scores.close()
        self.bar.close()
        if self.events is not None:
            self.events.close()


class Table:
    """A CSV file that grows by rows and survives a kill between any two.

    A file that something else has damaged stops no run: it is set aside, and what can
    be read of it is kept.

    Args:
        path: the file.
        columns: names of the columns; the first is the step.
        first_step: rows after this step are cut: the run goes on from there.
    """

    def __init__(self, path: Path, columns: tuple[str, ...], first_step: int) -> None:
        self.columns = columns
        kept: list[dict[str, str]] = []
        if path.exists():
            rows, damage = read_rows(path, columns)
            kept = [row for row in rows if int(row[columns[0]]) <= first_step]
            if damage:
                warnings.warn(
                    f"{path} is damaged ({damage}). It is set aside as "
                    f"{set_aside(path).name}; {len(kept)} of its rows are kept, and "
                    f"the run goes on.",
                    stacklevel=2,
                )
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(kept)
        write_atomically(path, text.getvalue())
        self.stream = path.open("a", newline="")
        self.writer = csv.DictWriter(self.stream, columns, extrasaction="ignore")

    def add(self, row: dict[str, Any]) -> None:
        """Appends a row."""
        self.writer.writerow({k: "" if v is None else v for k, v in row.items()})
        self.stream.flush()

    def sync(self) -> None:
        """Waits until all rows are on the disk."""
        os.fsync(self.stream.fileno())

    def close(self) -> None:
        """Closes the file."""
        self.stream.close()


def read_rows(
    path: Path, columns: tuple[str, ...]
) -> tuple[list[dict[str, str]], str | None]:
    """Returns the rows of a table that are whole, and what is wrong with the others.

    Half a line at the end is nothing wrong: a kill leaves one.
    """
    text = path.read_bytes().decode("utf-8", errors="replace")
    lines = text.replace("\0", "\N{REPLACEMENT CHARACTER}").splitlines()
    rows, damage = [], None
    for number, line in enumerate(lines, start=1):
        cells = next(csv.reader([line]), [])
        if number == 1:
            heading = cells
            if columns[0] not in heading:
                return [], f"its first line has no column {columns[0]}"
            continue
        row = dict(zip(heading, cells, strict=False))
        if len(cells) == len(heading) and _is_numbers(row, columns[0]):
            rows.append(row)
        elif number < len(lines):
            damage = damage or f"line {number} is no row of numbers"
    if not lines:
        damage = "it is empty"
    return rows, damage


def _is_numbers(row: dict[str, str], step: str) -> bool:
    try:
        for cell in row.values():
            float(cell or 0)
        return int(row[step]) >= 0
    except ValueError:
        return False


def set_aside(path: Path) -> Path:
    """Renames a file to the first free name of `NAME.damaged`, `NAME.damaged_2`..."""
    number = 1
    while True:
        ending = ".damaged" if number == 1 else f".damaged_{number}"
        aside = path.with_name(path.name + ending)
        if not aside.exists():
            return path.rename(aside)
        number += 1


class EventFile:
    """Scalars for TensorBoard; needs the `train` extra, not TensorFlow.

    Args:
        directory: where the file goes; each part of a run has one of its own.
        first_step: TensorBoard leaves out what an earlier file holds after this step.
    """

    def __init__(self, directory: Path, first_step: int = 0) -> None:
        try:
            from tensorboard.compat.proto.event_pb2 import Event, SessionLog
            from tensorboard.compat.proto.summary_pb2 import Summary
            from tensorboard.summary.writer.record_writer import RecordWriter
        except ImportError as error:
            raise ImportError(
                'Training logs need tensorboard: pip install "keras-pe[train]".'
            ) from error
        self.event, self.summary = Event, Summary
        directory.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads files in the order of their names. Its own writer of such
        # files would import TensorFlow where there is one.
        name = f"events.out.tfevents.{time.time():.6f}.{os.getpid()}"
        self.writer = RecordWriter((directory / name).open("xb"))
        self._write(file_version="brain.Event:2")
        start = SessionLog(status=SessionLog.START)
        self._write(step=first_step + 1, session_log=start)

    def _write(self, **fields: Any) -> None:
        event = self.event(wall_time=time.time(), **fields)
        self.writer.write(event.SerializeToString())
        self.writer.flush()

    def add(self, step: int, values: dict[str, Any]) -> None:
        """Writes every number of a dictionary under its name."""
        scalars = [
            self.summary.Value(tag=name, simple_value=float(value))
            for name, value in values.items()
            if value is not None and name != "step"
        ]
        self._write(step=step, summary=self.summary(value=scalars))

    def close(self) -> None:
        """Closes the file."""
        self.writer.close()


def learning_rate(optimizer: Any, step: int) -> float:
    """Returns the rate that a step used."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # scales the loss
    schedule = optimizer._learning_rate
    if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        return float(schedule(step))
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


# === Curves ===
PANELS = (
    ("loss", "loss"),
    ("learning_rate", "learning rate"),
    ("gradient_norm", "gradient norm"),
    ("logit_scale", "logit scale"),
    ("feature_loss", "feature loss"),
    ("correspondence_loss", "correspondence loss"),
    ("samples_per_second", "samples a second"),
)


def draw_curves(directory: Path | str, path: Path | str | None = None) -> Path:
    """Draws loss, rate, gradient norm, scale, speed and scores of a run.

    Args:
        directory: a run's directory, with `steps.csv` and perhaps `scores.csv`.
        path: the image; None is `curves.png` in the directory.

    Returns:
        The path of the image.

    Raises:
        FileNotFoundError: if the directory holds no run.

    Example:
        >>> rows = ["step,samples,image_size,loss", "1,32,64,2.5", "2,64,64,2.1"]
        >>> _ = Path("steps.csv").write_text("\\n".join(rows))    # of a run
        >>> draw_curves(".").name
        'curves.png'
    """
    figure = curve_figure(Path(directory))
    path = Path(path) if path is not None else Path(directory) / "curves.png"
    figure.savefig(path, dpi=110)
    return path


def curve_figure(directory: Path) -> "Figure":
    """Returns the drawing itself."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    steps = read_columns(directory / "steps.csv")
    if not steps:
        raise FileNotFoundError(f"{directory / 'steps.csv'} holds no steps yet.")
    scores_path = directory / "scores.csv"
    scores = read_columns(scores_path) if scores_path.exists() else {}
    score_names = [n for n in scores if n not in ("step", "samples", "seconds")]
    panels = [p for p in PANELS if any(v is not None for v in steps.get(p[0], []))]
    rows = -(-(len(panels) + bool(score_names)) // 2)
    figure = new_figure(figsize=(11, 3.0 * rows), layout="constrained")
    axes = figure.subplots(rows, 2, squeeze=False).ravel()
    samples = filled(steps["samples"])
    for axis, (name, label) in zip(axes, panels, strict=False):
        axis.plot(samples, filled(steps[name]), linewidth=0.8)
        axis.set_ylabel(label)
    if score_names:
        axis = axes[len(panels)]
        for name in score_names:
            x, y = filled(scores["samples"]), filled(scores[name])
            axis.plot(x, y, marker="o", ms=3, label=name)
        axis.set_ylabel("validation")
        axis.legend(fontsize=8)
    for axis in axes[len(panels) + bool(score_names) :]:
        axis.remove()
    changes = [
        samples[i]
        for i in range(1, len(samples))
        if steps["image_size"][i] != steps["image_size"][i - 1]
    ]
    for axis in figure.axes:
        axis.set_xlabel("samples")
        axis.xaxis.set_major_locator(MaxNLocator(6))
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))  # 50k, 2M, 10G
        axis.grid(alpha=0.3)
        for change in changes:  # where the resolution grows
            axis.axvline(change, color="grey", linewidth=0.8, linestyle="--")
    return figure


def filled(column: list[float | None]) -> list[float]:
    """Returns a column with NaN, which is not drawn, for empty cells."""
    return [math.nan if value is None else value for value in column]


def read_columns(path: Path) -> dict[str, list[float | None]]:
    """Returns a CSV file's columns, none without rows; an empty cell is None."""
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return {
        name: [float(row[name]) if row[name] else None for row in rows]
        for name in (rows[0] if rows else ())
    }
