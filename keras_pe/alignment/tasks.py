"""Tasks by which layers are compared before and after an alignment."""

import dataclasses
import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_pe.alignment.batches import Prepare, host_array_of
from keras_pe.arrays import check_sizes, is_whole
from keras_pe.models.compiled import padded_batch
from keras_pe.models.tower import resolve_layers
from keras_pe.probing.layer_outputs import LayerOutputs, Reading
from keras_pe.probing.probe import Probe, TrainingFreeProbe
from keras_pe.probing.sweep import default_converter, find_probe, sweep
from keras_pe.probing.sweep_checks import check_seeds, checked_reading
from keras_pe.probing.sweep_comparison import paired_gain
from keras_pe.probing.sweep_data import SweepData, sweep_batches
from keras_pe.probing.sweep_result import SweepResult
from keras_pe.training.trainers.spatial_trainer import aligned_layer

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Task:
    """What layers are probed on; all are arguments of `keras_pe.probing.sweep`.

    Attributes:
        probe: name of a probe, or one with settings of its own.
        data: what it is fitted to and chosen by. It is read twice. Images in an array
            go through `prepare` of `align_spatial`, if there is one; all others are as
            the encoder reads them.
        test: what it is scored on; None keeps back a share of `data`.
        reading: what of a layer it reads; None for its own default.
        seeds: over which scores are averaged.
        batch_size: images a forward pass.

    Raises:
        TypeError: if the data are none.
        ValueError: if there is no such probe, or it can't read that of a layer; if the
            data can be read only once, or a number makes no sense.

    Example:
        >>> import numpy as np
        >>> images, labels = np.zeros((9, 8, 8, 3)), np.arange(9) % 3
        >>> Task("knn", (images, labels)).probe
        'knn'
    """

    probe: str | Probe | TrainingFreeProbe
    data: SweepData
    test: SweepData | None = None
    reading: Reading | None = None
    seeds: Sequence[int] = (0,)
    batch_size: int = 32

    def __post_init__(self) -> None:
        probe = find_probe(self.probe)
        if not isinstance(probe, TrainingFreeProbe):
            checked_reading(probe, self.reading)
        check_sizes(batch_size=self.batch_size)
        check_seeds(self.seeds)
        for name in ("data", "test"):
            value = getattr(self, name)
            if value is None and name == "test":
                continue
            if isinstance(value, str) or not (
                callable(value) or hasattr(value, "__iter__")
            ):
                raise TypeError(
                    f"{name} is (images, targets), batches of them, or a function that "
                    f"returns batches, got {value!r:.80}."
                )
            if hasattr(value, "__next__"):
                raise ValueError(
                    f"{name} is read before and after the alignment, got a "
                    f"{type(value).__name__}, which can be read once. Give arrays, or "
                    f"a function that returns batches."
                )

    def sweep(
        self,
        encoder: keras.Model,
        prefix_tokens: int,
        prepare: Prepare | None,
        progress: bool,
    ) -> SweepResult:
        """Returns the scores of all layers of an encoder."""
        return sweep(
            encoder,
            self._prepared(self.data, prepare),
            None if self.test is None else self._prepared(self.test, prepare),
            self.probe,
            reading=self.reading,
            seeds=self.seeds,
            batch_size=self.batch_size,
            prefix_tokens=prefix_tokens,
            progress=progress,
        )

    def _prepared(self, data: SweepData, prepare: Prepare | None) -> SweepData:
        if prepare is None or not isinstance(data, tuple) or len(data) != 2:
            return data
        images, targets = data
        if not hasattr(images, "shape"):
            return data
        size = self.batch_size

        def batches() -> Iterator[tuple[np.ndarray, Any]]:
            for start in range(0, max(len(images), len(targets)), size):
                rows = slice(start, start + size)
                # A copy: Keras' own functions for this work in place.
                given = np.array(host_array_of(images[rows]))
                read = ops.convert_to_numpy(prepare(given))
                yield np.asarray(read, "float32"), targets[rows]

        return batches


def check_task(
    name: str,
    task: Task,
    encoder: keras.Model,
    prefix_tokens: int,
    prepare: Prepare | None,
) -> None:
    """Runs an encoder on the first batch of a task, to see whether it can be swept.

    Raises:
        ValueError: naming the task, if it can't.
    """
    probe = find_probe(task.probe)
    if isinstance(probe, TrainingFreeProbe):
        return  # the probe looks at its items before it runs the encoder
    outputs = LayerOutputs(encoder, "all", False, prefix_tokens)
    reading = checked_reading(probe, task.reading)
    converter = default_converter(outputs)
    for data in (task.data, task.test):
        if data is None:
            continue
        try:
            read = functools.partial(
                sweep_batches,
                task._prepared(data, prepare),
                task.batch_size,
                converter,
            )
            batches = read()
            first = next(batches, None)
            if first is None:
                raise ValueError("There are no images in the data.")
            outputs(padded_batch(first[0], task.batch_size), reading)
            if not isinstance(data, tuple):
                _check_repeats(first, next(read(), None))
        except (TypeError, ValueError) as error:
            raise type(error)(f"Task {name!r}: {error}") from error


def _check_repeats(batch: Any, again: Any) -> None:
    """Says if what should be the same batch is another one, or none."""
    if again is None:
        raise ValueError(
            "its data can be read once alone, and are read before and after. Give "
            "arrays, or a function that makes its batches anew."
        )
    pairs = zip(map(np.asarray, batch), map(np.asarray, again), strict=True)
    if not all(_same(one, other) for one, other in pairs):
        raise ValueError(
            "its data give other batches each time they are read, so that nothing can "
            "be compared before and after. Leave out shuffling and augmentation, or "
            "draw them by a seed that starts anew with each pass."
        )


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    # What is not a number is no other number: the sweep says what is wrong with it.
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


def sweep_again(
    tasks: Mapping[str, Task],
    before: Mapping[str, SweepResult],
    encoder: keras.Model,
    *reading: Any,
) -> tuple[dict[str, SweepResult], dict[str, str]]:
    """Returns the sweeps after training, and why there is none of some tasks.

    What goes wrong now must not take the trained encoder with it.

    Args:
        tasks: by name.
        before: their sweeps before training.
        encoder: the trained one.
        *reading: as of `sweep_tasks`.
    """
    after, failed = {}, {}
    for name, task in tasks.items():
        try:
            result = task.sweep(encoder, *reading)
            paired_gain(result, before[name])
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {error}"
            _log.warning(
                "Task %r was not compared after the alignment: %s", name, failed[name]
            )
        else:
            after[name] = result
    return after, failed


def sweep_tasks(
    tasks: Mapping[str, Task],
    encoder: keras.Model,
    prefix_tokens: int,
    prepare: Prepare | None,
    progress: bool,
) -> dict[str, SweepResult]:
    """Returns the sweep of each task, by its name."""
    return {
        name: task.sweep(encoder, prefix_tokens, prepare, progress)
        for name, task in tasks.items()
    }


def teacher_layer(
    layer: int | Literal["auto"],
    num_layers: int,
    sweeps: Mapping[str, SweepResult],
) -> tuple[int, str]:
    """Returns the layer that teaches, from 1, and why it does.

    Raises:
        ValueError: if there is no such layer, or it is 0.
    """
    if layer != "auto":
        if not is_whole(layer):
            raise ValueError(f'layer must be a number or "auto", got {layer!r}.')
        (number,) = resolve_layers(layer, num_layers)
        if number == 0:
            raise ValueError(
                "Layer 0 is what goes into the first block: it has nothing to teach. "
                f"Give 1 to {num_layers}."
            )
        return number, "as asked"
    share = aligned_layer(num_layers)
    if not sweeps:
        return share, "the paper's share, 41 of 50"
    task, result = next(iter(sweeps.items()))
    if result.best_layer is None:
        return share, f"the paper's share, as no layer of {task} beats a guess"
    sign = 1.0 if result.higher_is_better else -1.0
    best: Any = max(
        (row for row in result.layers if row.layer != 0),
        key=lambda row: sign * row.validation_score,
    )
    return int(best.layer), f"the best of {task} on validation samples"
