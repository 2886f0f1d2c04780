# /// script
# requires-python = ">=3.11,<3.12"
# dependencies = [
#   "tensorflow-data-validation==1.16.1",
#   "tensorflow==2.16.2",
#   "apache-beam==2.72.0",
#   "dill==0.4.1",
#   "pyarrow==10.0.1",
#   "numpy==1.26.4",
#   "protobuf==4.25.9",
#   "pillow==12.3.0",
# ]
# ///
"""Validate image-text shards with TensorFlow Data Validation on Apache Beam.

    uv venv --python 3.11 .venv-tfdv
    uv pip install --python .venv-tfdv -r recipes/tfdv-py311-constraints.txt
    .venv-tfdv/bin/python recipes/validate_data.py data/emoji/train-*.tar \\
        --caption-field label --allow caption_repeated=0.9 --output runs/validation

or, without an environment of your own, `uv run recipes/validate_data.py ...`. TFDV and
a current Keras can't share an environment: this script imports nothing of keras_pe.

Reads WebDataset shards (`key.jpg`, `key.txt`, `key.json`), headers only, and writes to
`--output`: stats.pb, schema.pbtxt, anomalies.pbtxt, data.json (which shards the results
belong to), report.md with histograms.svg. `keras_pe.data.validation.check_data` reads
them before training. Exit code 0: no anomaly; 1: anomalies; 2: wrong arguments; 3: the
run itself failed.

Any other argument goes to Beam. On all cores of one machine:

    --direct_num_workers 0 --direct_running_mode multi_processing

On Dataflow, where workers need TFDV and Pillow, and both sides reach `--output`:

    --runner DataflowRunner --project P --region R --temp_location gs://b/tmp \\
        --requirements_file recipes/tfdv-py311-constraints.txt --output gs://b/results
"""

import argparse
import dataclasses
import json
import logging
import os
import sys
import time
import traceback
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __package__ in (None, ""):  # run as a script: find the other files of the recipe
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from recipes.data_validation.checks import (
    DEFAULT_ALLOWED,
    Thresholds,
    describe_defaults,
    parse_allowance,
)

if TYPE_CHECKING:
    from recipes.data_validation.pipeline import Counts

# Beam's own DirectRunner first tries to download the Prism program and to run it; what
# it falls back to is what this recipe was tested with (Beam 2.72).
RUNNERS = {
    "DirectRunner": "apache_beam.runners.portability.fn_api_runner.FnApiRunner",
    "DataflowRunner": "DataflowRunner",
    "FlinkRunner": "FlinkRunner",
    "SparkRunner": "SparkRunner",
    "PrismRunner": "PrismRunner",
    "PortableRunner": "PortableRunner",
}
FORMAT_VERSION = 1
DEFAULT_MOST_DRIFT = 0.1
PACKAGES = ("tensorflow-data-validation", "apache-beam", "pillow")


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of our own arguments; Beam's are left over."""
    limits = Thresholds()
    parser = argparse.ArgumentParser(
        prog="validate_data",
        description=(__doc__ or "").partition("\n")[0],
        epilog="checks, their shares and what they count:\n" + describe_defaults(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # Beam's arguments must not be taken for ours
    )
    add = parser.add_argument
    add("shards", nargs="+", help="tar files, patterns or folders, local or remote")
    add("--output", required=True, help="folder of the results, local or remote")
    add("--runner", choices=RUNNERS, default="DirectRunner", help="of Beam")
    add("--schema", help="schema.pbtxt of an earlier run, instead of inferring one")
    add("--baseline", help="folder or stats.pb to measure drift against")
    add(
        "--allow",
        metavar="CHECK=SHARE",
        type=parse_allowance,
        action="append",
        default=[],
        help="share of faults that is no anomaly; may be repeated; see below",
    )
    add(
        "--most-drift",
        type=float,
        metavar="DIVERGENCE",
        help=f"Jensen-Shannon divergence from the baseline ({DEFAULT_MOST_DRIFT})",
    )
    add("--least-side", type=int, default=limits.least_side, metavar="PIXELS")
    add("--most-pixels", type=int, default=limits.most_pixels, metavar="PIXELS")
    add("--most-aspect-ratio", type=float, default=limits.most_aspect_ratio)
    add("--least-caption-words", type=int, default=limits.least_caption_words)
    add("--most-caption-characters", type=int, default=limits.most_caption_characters)
    add(
        "--caption-field",
        action="append",
        dest="caption_fields",
        help="member extension or JSON field with captions; may be repeated "
        f"({', '.join(limits.caption_fields)})",
    )
    add(
        "--json-field",
        action="append",
        dest="json_fields",
        help="JSON field to describe; may be repeated (all with plain values)",
    )
    add(
        "--decode-pixels",
        action="store_true",
        help="decode every image: surer than its header, and many times slower",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = build_parser()
    ours, beams = parser.parse_known_args(arguments)
    # Beam ignores what it does not know; none of its arguments has a hyphen.
    strange = [
        word
        for word in beams
        if word.startswith("--") and "-" in word[2:].partition("=")[0]
    ]
    if strange:
        parser.error(f"unknown arguments: {' '.join(strange)}")
    # The environment's own chatter: no GPU, Python to be retired some day.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.simplefilter("ignore", FutureWarning)
    try:
        return validate(ours, beams)
    except FileNotFoundError as error:
        parser.error(str(error))
    except Exception:
        traceback.print_exc()
        return 3


def validate(ours: argparse.Namespace, beams: Sequence[str]) -> int:
    """Validates the shards; returns 0 without anomalies, 1 with."""
    import tensorflow_data_validation as tfdv
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions

    from recipes.data_validation import constraints, histograms, pipeline, report

    baseline_path = statistics_path(ours.baseline) if ours.baseline else None
    for path in (ours.schema, baseline_path):
        if path and not FileSystems.exists(path):
            raise FileNotFoundError(f"No such file: {path!r}.")
    thresholds = read_thresholds(ours)
    shards = pipeline.find_shards(ours.shards)
    schema = tfdv.load_schema_text(ours.schema) if ours.schema else None
    baseline = tfdv.load_stats_binary(baseline_path) if baseline_path else None
    if not FileSystems.exists(ours.output):
        FileSystems.mkdirs(ours.output)
    # A run that is killed must not leave the verdict of an earlier one behind.
    for name in ("anomalies.pbtxt", "stats.pb"):
        path = FileSystems.join(ours.output, name)
        if FileSystems.exists(path):
            FileSystems.delete([path])
    start = time.monotonic()
    options = PipelineOptions(["--runner", RUNNERS[ours.runner], *beams])
    statistics, counts = pipeline.run(shards, thresholds, ours.output, options)
    seconds = time.monotonic() - start

    dataset = (
        statistics.datasets[0] if statistics.datasets else statistics.datasets.add()
    )
    constraints.add_verdicts(dataset, counts.repeats, counts.shards)
    allowed = dict(ours.allow)
    if schema is None:
        inferred = tfdv.infer_schema(statistics, infer_feature_shape=False)
        schema = constraints.make_schema(
            statistics,
            inferred,
            DEFAULT_ALLOWED | allowed,
            DEFAULT_MOST_DRIFT,
        )
    else:
        constraints.allow(schema, allowed)
    constraints.note_thresholds(schema, thresholds)
    if ours.most_drift is not None:
        constraints.set_most_drift(schema, ours.most_drift)
    anomalies = tfdv.validate_statistics(
        statistics, schema, previous_statistics=baseline
    )
    constraints.explain(anomalies, dataset, schema, counts.examples)

    data = describe_run(counts, thresholds, seconds)
    before = baseline.datasets[0] if baseline else None
    files = {
        "stats.pb": statistics.SerializeToString(),
        "schema.pbtxt": _as_text(schema),
        "data.json": json.dumps(data, indent=1).encode(),
        "histograms.svg": histograms.draw_histograms(dataset, before).encode(),
        "report.md": report.write_report(
            dataset,
            schema,
            anomalies,
            data,
            counts.examples,
            counts.repeats,
            ours.baseline,
        ).encode(),
        # Last: its presence says that the results are complete.
        "anomalies.pbtxt": _as_text(anomalies),
    }
    for name, content in files.items():
        with FileSystems.create(
            FileSystems.join(ours.output, name), compression_type="uncompressed"
        ) as stream:
            stream.write(content)
    return summarise(anomalies, data, ours.output)


def read_thresholds(ours: argparse.Namespace) -> Thresholds:
    """Returns the thresholds of a command line."""
    given = {
        field.name: getattr(ours, field.name)
        for field in dataclasses.fields(Thresholds)
        if getattr(ours, field.name) is not None
    }
    for name in ("caption_fields", "json_fields"):
        if name in given:
            given[name] = tuple(given[name])
    return Thresholds(**given)


def statistics_path(path: str) -> str:
    """Returns where a baseline's statistics are: a folder of results, or stats.pb."""
    return path if path.endswith(".pb") else path.rstrip("/") + "/stats.pb"


def describe_run(
    counts: "Counts", thresholds: Thresholds, seconds: float
) -> dict[str, Any]:
    """Returns what data.json holds: which data, how judged, by what."""
    keep = ("name", "bytes", "samples", "damage")
    return {
        "format_version": FORMAT_VERSION,
        "samples": counts.num_samples,
        "shards": [{name: shard[name] for name in keep} for shard in counts.shards],
        "thresholds": dataclasses.asdict(thresholds),
        "versions": {name: version(name) for name in PACKAGES},
        "seconds": round(seconds, 1),
    }


def summarise(anomalies: Any, data: Mapping[str, Any], output: str) -> int:
    """Prints the anomalies; returns the exit code."""
    from recipes.data_validation.report import number_of_anomalies

    for name, info in sorted(anomalies.anomaly_info.items()):
        print(f"{name}: {info.description}")
    number = number_of_anomalies(anomalies)
    rate = data["samples"] / max(data["seconds"], 1e-9)
    print(
        f"{data['samples']:,} samples in {len(data['shards']):,} shards, "
        f"{data['seconds']:,.1f} s, {rate:,.0f} samples/s, {number} anomalies: "
        f"{output}/report.md"
    )
    return 1 if number else 0


def _as_text(message: Any) -> bytes:
    from google.protobuf import text_format

    return text_format.MessageToString(message).encode()


if __name__ == "__main__":
    logging.getLogger().setLevel(logging.WARNING)
    sys.exit(main())
