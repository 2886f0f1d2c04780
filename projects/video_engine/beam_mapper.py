"""Rows through stages on Apache Beam: any of its runners, the same rows back.

Each stage is one `RunInference`: what a stage loads is loaded once a process. Workers
write the ledger themselves, so what they have done is done when they are killed.
"""

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.ml.inference.base import ModelHandler, RunInference
from apache_beam.options.pipeline_options import PipelineOptions

from keras_pe.arrays import check_sizes
from keras_pe.data_engine import Ledger, Row, Stage, apply_stage
from keras_pe.data_engine.apply import Loaded

RUNNERS = (
    "DirectRunner",
    "PrismRunner",
    "FlinkRunner",
    "SparkRunner",
    "DataflowRunner",
)
COUNTS = "keras_pe.data_engine"  # the namespace of Beam's counters


class StageHandler(ModelHandler[Row, Row, Loaded]):
    """A stage as Beam's RunInference takes models.

    Rows come one by one: a row goes through all stages before the next begins, as long
    as its frames are at hand.

    Args:
        stage: what is done.
        ledger: that every worker reaches.
    """

    def __init__(self, stage: Stage, ledger: Ledger) -> None:
        super().__init__(min_batch_size=1, max_batch_size=1)
        self._stage, self._ledger = stage, ledger

    def load_model(self) -> Loaded:
        """Returns what loads the model when a row needs it: most may be known."""
        return Loaded(self._stage)

    def run_inference(
        self, batch: Sequence[Row], model: Loaded, inference_args: Any = None
    ) -> Iterable[Row]:
        """Returns the rows after the stage, failures among them."""
        return [
            apply_stage(self._stage, row, model, self._ledger, _count) for row in batch
        ]


class BeamMapper:
    """A mapper for `run_engine` that runs stages on a Beam runner.

    Args:
        runner: one of `RUNNERS`.
        workers: processes of DirectRunner; the parallelism of Flink and of Spark's
            local master; of Dataflow the most machines.
        options: further ones of the runner, such as "--temp_location=gs://...".
        gather: where workers leave the rows: a place that they and this process reach.
            None is a folder of this machine.

    Raises:
        ValueError: if the runner is none of these.

    Example:
        >>> mapper = BeamMapper("DirectRunner", workers=2)          # doctest: +SKIP
        >>> run_engine(clips, engine, "pairs", mapper=mapper)       # doctest: +SKIP
    """

    def __init__(
        self,
        runner: str = "DirectRunner",
        workers: int = 1,
        options: Sequence[str] = (),
        gather: str | None = None,
    ) -> None:
        check_sizes(workers=workers)
        if runner not in RUNNERS:
            raise ValueError(
                f"runner={runner!r}: expected one of {', '.join(RUNNERS)}."
            )
        self.gather = gather
        self.options = [f"--runner={runner}", *_parallel(runner, workers), *options]

    def __call__(
        self, rows: Sequence[Row], stages: Sequence[Stage], ledger: Ledger
    ) -> Iterator[Row]:
        """Returns the rows, in whatever order."""
        with tempfile.TemporaryDirectory() as local:
            place = FileSystems.join(self.gather or local, "rows")
            with beam.Pipeline(options=PipelineOptions(self.options)) as pipeline:
                found = (
                    pipeline
                    | "clips" >> beam.Create(list(rows), reshuffle=False)
                    | "to all workers" >> beam.Reshuffle()
                )
                for stage in stages:
                    handler = StageHandler(stage, ledger)
                    found |= stage.name >> RunInference(handler)
                written = found | "to lines" >> beam.Map(json.dumps)
                _ = written | "gather" >> beam.io.WriteToText(place)
            yield from _read(f"{place}-*")


def _parallel(runner: str, workers: int) -> list[str]:
    """Returns the options that say how many workers there are."""
    if runner == "DirectRunner":
        mode = "in_memory" if workers == 1 else "multi_processing"
        return [f"--direct_num_workers={workers}", f"--direct_running_mode={mode}"]
    if runner == "DataflowRunner":
        return [f"--max_num_workers={workers}"]
    # Workers of this machine's Python, in processes: others want containers.
    local = ["--environment_type=LOOPBACK"]
    if runner == "PrismRunner":
        return local
    if runner == "SparkRunner":
        return [*local, f"--spark_master_url=local[{workers}]"]
    return [*local, f"--parallelism={workers}"]


def _count(what: str) -> None:
    beam.metrics.Metrics.counter(COUNTS, what).inc()


def _read(pattern: str) -> Iterator[Row]:
    """Yields the rows of all files of a pattern."""
    (matched,) = FileSystems.match([pattern])
    for metadata in matched.metadata_list:
        with FileSystems.open(metadata.path) as file:
            for line in file.read().decode().splitlines():
                yield json.loads(line)
