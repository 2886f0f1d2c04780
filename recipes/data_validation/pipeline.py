"""Shards to statistics and counts, on Apache Beam."""

# Beam takes annotations that are no strings for type hints of its pipeline.
from __future__ import annotations

import dataclasses
import heapq
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import pyarrow as pa
import tensorflow_data_validation as tfdv
from apache_beam.internal import cloudpickle
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from recipes.data_validation import checks, image_header, rows
from recipes.data_validation.checks import FAULT, Thresholds
from recipes.data_validation.rows import Described, Row

ROWS_PER_BATCH = 1000
EXAMPLES_PER_CHECK = 20
MOST_REPEATED = 10
EXCERPT_CHARACTERS = 80
_SHARD_NAME = re.compile(r"[^.].*\.(tar|tgz|tar\.(gz|bz2|xz))")


@dataclass(frozen=True)
class Shard:
    """One tar file: its path, its name for people, its size in bytes."""

    path: str
    name: str
    size: int


def find_shards(patterns: Sequence[str]) -> list[Shard]:
    """Lists the shards behind paths, patterns and folders, on any file system of Beam.

    Raises:
        FileNotFoundError: a pattern that matches nothing.
    """
    found: dict[str, Shard] = {}
    for pattern in patterns:
        is_folder = ".tar" not in FileSystems.split(pattern)[1]
        if is_folder:
            pattern = FileSystems.join(pattern, "*.tar*")
        matched = FileSystems.match([pattern])[0].metadata_list
        shards = [
            Shard(file.path, FileSystems.split(file.path)[1], file.size_in_bytes)
            for file in matched
        ]
        # A folder may hold half-written files and indexes beside the shards.
        shards = [s for s in shards if not is_folder or _SHARD_NAME.fullmatch(s.name)]
        if not shards:
            raise FileNotFoundError(f"No tar shard matches {pattern!r}.")
        found.update({shard.path: shard for shard in shards})
    return [found[path] for path in sorted(found)]


class ReadShard(beam.DoFn):
    """One shard to record batches; beside them digests, faults and the count."""

    DIGESTS, FAULTS, SHARDS = "digests", "faults", "shards"

    def __init__(self, thresholds: Thresholds) -> None:
        self.thresholds = thresholds

    def process(self, element: tuple[str, str, int]) -> Iterator[Any]:
        shard = Shard(*element)
        batch: list[Row] = []
        count, damage = 0, ""
        # Beam would unpack by extension; tarfile finds the compression by itself.
        with FileSystems.open(shard.path, compression_type="uncompressed") as stream:
            try:
                for sample in rows.read_samples(stream):
                    described = rows.describe(sample, self.thresholds)
                    count += 1
                    batch.append(described.row)
                    yield from self._beside(shard, described)
                    if len(batch) == ROWS_PER_BATCH:
                        yield to_record_batch(batch)
                        batch = []
            except rows.ShardDamageError as error:
                damage = str(error)
                yield beam.pvalue.TaggedOutput(
                    self.FAULTS, ("shard_unreadable", f"{shard.name}: {damage}")
                )
        if batch:
            yield to_record_batch(batch)
        line = {
            "path": shard.path,
            "name": shard.name,
            "bytes": shard.size,
            "samples": count,
            "damage": damage,
        }
        yield beam.pvalue.TaggedOutput(self.SHARDS, line)

    def _beside(self, shard: Shard, described: Described) -> Iterator[Any]:
        name = f"{shard.name}/{described.key}"
        for check in checks.CHECKS:
            if described.row.get(check.name) == FAULT:
                yield beam.pvalue.TaggedOutput(self.FAULTS, (check.name, name))
        if described.image_digest is not None:
            key = ("image_repeated", described.image_digest)
            yield beam.pvalue.TaggedOutput(self.DIGESTS, (key, (1, name)))
        for caption in described.captions:
            key = ("caption_repeated", rows.digest_of_caption(caption))
            value = (1, caption[:EXCERPT_CHARACTERS])
            yield beam.pvalue.TaggedOutput(self.DIGESTS, (key, value))


def to_record_batch(batch: Sequence[Row]) -> pa.RecordBatch:
    """Turns rows into Arrow columns of lists; a value that is absent is null."""
    names = sorted({name for row in batch for name in row})
    columns = []
    for name in names:
        values: list[Any] = []
        for row in batch:
            value: Any = row.get(name)
            if isinstance(value, str):
                value = value.encode("utf-8", errors="replace")
            values.append([value] if isinstance(value, (int, float, bytes)) else value)
        columns.append(pa.array(values, type=pa.list_(_value_type(name))))
    return pa.RecordBatch.from_arrays(columns, names)


def _value_type(name: str) -> pa.DataType:
    if name in rows.INTEGER_FEATURES:
        return pa.int64()
    if name in rows.FLOAT_FEATURES or name.startswith(rows.JSON_NUMBER):
        return pa.float64()
    return pa.binary()


class SummariseRepeats(beam.CombineFn):
    """(count, name) of every distinct thing to totals and the most repeated ones."""

    def create_accumulator(self) -> tuple[int, int, list[tuple[int, str]]]:
        return 0, 0, []

    def add_input(self, mutable_accumulator: Any, element: tuple[int, str]) -> Any:
        total, distinct, most = mutable_accumulator
        count = element[0]
        if count > 1:
            most = heapq.nlargest(MOST_REPEATED, [*most, element])
        return total + count, distinct + 1, most

    def merge_accumulators(self, accumulators: Iterable[Any]) -> Any:
        totals, distincts, mosts = zip(*accumulators, strict=True)
        everything = [group for most in mosts for group in most]
        return sum(totals), sum(distincts), heapq.nlargest(MOST_REPEATED, everything)

    def extract_output(self, accumulator: Any) -> dict[str, Any]:
        total, distinct, most = accumulator
        return {"total": total, "distinct": distinct, "most": most}


@dataclass(frozen=True)
class Counts:
    """What the pipeline counts beside the statistics.

    Args:
        shards: path, name, bytes, samples and damage of each shard.
        repeats: check name to total, distinct and the most repeated.
        examples: check name to the first samples with that fault.
    """

    shards: list[dict[str, Any]]
    repeats: dict[str, dict[str, Any]]
    examples: dict[str, list[str]]

    @property
    def num_samples(self) -> int:
        return sum(shard["samples"] for shard in self.shards)


def run(
    shards: Sequence[Shard],
    thresholds: Thresholds,
    output: str,
    options: PipelineOptions,
) -> tuple[Any, Counts]:
    """Runs the pipeline and reads back what it wrote.

    Workers write to `output`, so with a remote runner it has to be a place that they
    and this machine can reach.

    Args:
        shards: what to read.
        thresholds: what decides about one sample.
        output: folder, on any file system of Beam.
        options: runner and its options.

    Returns:
        A `DatasetFeatureStatisticsList` and the counts.
    """
    # Workers have no copy of this repository: send its functions, not their names.
    for module in (checks, image_header, rows, sys.modules[__name__]):
        cloudpickle.register_pickle_by_value(module)
    statistics_path = FileSystems.join(output, "stats.pb")
    counts_path = FileSystems.join(output, "counts.jsonl")
    with beam.Pipeline(options=options) as pipeline:
        read = (
            pipeline
            # Plain tuples: workers could not unpickle a class of this module.
            | "Shards" >> beam.Create([dataclasses.astuple(s) for s in shards])
            | "Spread" >> beam.Reshuffle()
            | "Read"
            >> beam.ParDo(ReadShard(thresholds)).with_outputs(
                ReadShard.DIGESTS, ReadShard.FAULTS, ReadShard.SHARDS, main="rows"
            )
        )
        _ = (
            read.rows
            | "Statistics" >> tfdv.GenerateStatistics(statistics_options())
            | "WriteStatistics" >> tfdv.WriteStatisticsToBinaryFile(statistics_path)
        )
        repeats = (
            read[ReadShard.DIGESTS]
            | "PerDigest" >> beam.CombinePerKey(beam.combiners.TupleCombineFn(sum, min))
            | "DropDigest" >> beam.Map(lambda pair: (pair[0][0], tuple(pair[1])))
            | "Repeats" >> beam.CombinePerKey(SummariseRepeats())
            | "RepeatsLine" >> beam.Map(lambda pair: ["repeats", *pair])
        )
        examples = (
            read[ReadShard.FAULTS]
            | "First" >> beam.combiners.Top.SmallestPerKey(EXAMPLES_PER_CHECK)
            | "ExamplesLine" >> beam.Map(lambda pair: ["examples", *pair])
        )
        counted = read[ReadShard.SHARDS] | "ShardsLine" >> beam.Map(
            lambda line: ["shards", line["path"], line]
        )
        _ = (
            (repeats, examples, counted)
            | "Lines" >> beam.Flatten()
            | "Json" >> beam.Map(json.dumps)
            | "WriteCounts" >> beam.io.WriteToText(counts_path, shard_name_template="")
        )
    return tfdv.load_stats_binary(statistics_path), _read_counts(counts_path)


def statistics_options() -> tfdv.StatsOptions:
    return tfdv.StatsOptions(
        num_top_values=20,
        # Exact counts of unique values hold every value in memory: think of addresses.
        experimental_use_sketch_based_topk_uniques=True,
    )


def _read_counts(path: str) -> Counts:
    tables: dict[str, dict[str, Any]] = {"shards": {}, "repeats": {}, "examples": {}}
    with FileSystems.open(path) as stream:
        for line in stream.read().decode("utf-8").splitlines():
            table, key, value = json.loads(line)
            tables[table][key] = value
    FileSystems.delete([path])
    shards = [tables["shards"][path] for path in sorted(tables["shards"])]
    return Counts(shards, tables["repeats"], tables["examples"])
