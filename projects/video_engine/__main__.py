"""Clips of a folder to pairs of clip and caption.

Run:      python -m projects.video_engine --clips clips --output pairs \\
              --captioner pe_captioner_emoji_patch8_64
Go on:    the same again, after any stop, with any number of workers.
Expect:   pairs-00000.tar and so on, rows.jsonl, failures.jsonl, receipt.json; the
          receipt is printed. Status 1 if the build is refused: it says why.

--decoder or --endpoint says who makes one caption of all that is said of a clip; with
neither, what is said is put one behind the other. --endpoint without --captioner
describes the clips too. --edits takes what people wrote, see
`python -m projects.video_engine.refine`. Options behind -- go to Apache Beam.
"""

import argparse
import json
import sys
from pathlib import Path

from keras_pe.data_engine import (
    InProcesses,
    ReceiptError,
    clips_of_folder,
    in_this_process,
    run_engine,
)
from keras_pe.data_engine.mappers import Mapper
from keras_pe.files import check_directory_target
from keras_pe.models.embedder import Embedder
from keras_pe.printable_text import printable
from projects.video_engine.build import (
    add_engine_arguments,
    check_metadata,
    engine_of,
    limits_of,
)
from projects.video_engine.progress import Reporting

RUNNERS = (
    *("none", "DirectRunner", "PrismRunner"),
    *("FlinkRunner", "SparkRunner", "DataflowRunner"),
)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    given = sys.argv[1:] if arguments is None else arguments
    ours = given[: given.index("--")] if "--" in given else given
    parser = argparse.ArgumentParser(
        "python -m projects.video_engine",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--clips", required=True, help="folder of video files")
    parser.add_argument("--output", required=True, help="folder; made if missing")
    add_engine_arguments(parser)
    parser.add_argument(
        "--runner", choices=RUNNERS, default="none", help="none: without Apache Beam"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--gather", help="where workers of other machines leave rows")
    found = parser.parse_args(ours)
    found.beam = given[len(ours) + 1 :]
    if found.beam and found.runner == "none":
        parser.error(f"{' '.join(found.beam)}: only a --runner of Beam's takes these.")
    if found.workers < 1:
        parser.error(f"--workers {found.workers}: expected at least 1.")
    return found


def mapper_of(settings: argparse.Namespace) -> Mapper:
    """Returns who takes rows through stages.

    Raises:
        SystemExit: if Beam is wanted and not installed.
    """
    if settings.runner == "none":
        if settings.workers == 1:
            return in_this_process
        return InProcesses(settings.workers)
    try:
        from projects.video_engine.beam_mapper import BeamMapper
    except ImportError as error:
        raise SystemExit(
            f"--runner {settings.runner} needs Apache Beam ({error}): pip install -r "
            f"projects/video_engine/requirements.txt, in an environment of its own. "
            f"--runner none needs nothing."
        ) from error
    options, gather = settings.beam, settings.gather
    return BeamMapper(settings.runner, settings.workers, options, gather)


def main(arguments: list[str] | None = None) -> int:
    """Runs the engine; returns the status of the process."""
    settings = parse(arguments)
    try:
        check_directory_target(settings.output)
        found, engine = clips_of_folder(settings.clips), engine_of(settings)
        check_metadata(settings.metadata, found)
        embedder = Embedder.from_preset(settings.embed) if settings.embed else None
        mapper, limits = Reporting(mapper_of(settings)), limits_of(settings)
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(printable(error)) from error
    output, refused = Path(settings.output), ""
    try:
        run_engine(found, engine, output, limits, embedder, mapper)
    except ReceiptError as error:
        refused = printable(error)
    print(json.dumps(json.loads((output / "receipt.json").read_text()), indent=1))
    if refused:
        print(f"Refused: {refused} No pairs were written.", file=sys.stderr)
        return 1
    shards = len(list(output.glob("pairs-*.tar")))
    print(f"{shards} shards in {printable(output)}.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
