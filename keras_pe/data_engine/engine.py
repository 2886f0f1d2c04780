"""The engine: which stages come after which, and what is written at the end."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keras_pe.data_engine.apply import failed
from keras_pe.data_engine.captions import TOO_LONG, clean
from keras_pe.data_engine.choice import Choose
from keras_pe.data_engine.clips import clips, with_content, without_duplicates
from keras_pe.data_engine.ledger import FolderLedger, Ledger
from keras_pe.data_engine.mappers import Mapper, in_this_process
from keras_pe.data_engine.pair_shards import write_pair_shards
from keras_pe.data_engine.receipts import Limits, check_receipt, receipt
from keras_pe.data_engine.stage import (
    FAILURE,
    KEY,
    Row,
    Stage,
    StageFailure,
    canonical,
    check_stage,
)
from keras_pe.files import FilePath, only_writer, write_atomically
from keras_pe.models.embedder import Embedder

ROWS, FAILED, RECEIPT, LEDGER = "rows.jsonl", "failures.jsonl", "receipt.json", "ledger"


@dataclass(frozen=True)
class Engine:
    """What is done with clips, in order.

    Attributes:
        stages: before clips are chosen.
        choose: which go on, or None for all.
        then: stages after that; one of them gives `caption`.

    Raises:
        TypeError: if one is no stage.
        ValueError: if a stage, or the choice, reads what none before it gives, two
            have one name, or none gives `caption`.

    Example:
        >>> from keras_pe.data_engine import JoinedCaption
        >>> Engine([JoinedCaption(["metadata"])]).choose is None
        True
    """

    stages: Sequence[Stage]
    choose: Choose | None = None
    then: Sequence[Stage] = field(default=())

    def __post_init__(self) -> None:
        there, names = {"metadata"}, Counter[str]()
        _pass(self.stages, there, names)
        missing = set() if self.choose is None else {"embedding", self.choose.by}
        if missing - there:
            raise ValueError(
                f"Clips are chosen by {', '.join(sorted(missing - there))}, which no "
                f"stage before that gives: Embed and Probe do."
            )
        _pass(self.then, there, names)
        twice = [name for name, count in names.items() if count > 1]
        if twice:
            raise ValueError(f"Two stages are called {twice[0]!r}.")
        if "caption" not in there:
            raise ValueError("No stage gives 'caption': Summary or JoinedCaption does.")


def _pass(stages: Sequence[Stage], there: set[str], names: Counter[str]) -> None:
    """Checks stages one after the other; adds what they give, and their names."""
    for stage in stages:
        check_stage(stage)
        missing = set(stage.reads) - there
        if missing:
            raise ValueError(
                f"The stage {stage.name} reads {', '.join(sorted(missing))}, which no "
                f"stage before it gives."
            )
        there |= set(stage.gives)
        names[stage.name] += 1


def run_engine(
    rows: Iterable[Row],
    engine: Engine,
    output: FilePath,
    limits: Limits | None = None,
    embedder: Embedder | None = None,
    mapper: Mapper = in_this_process,
    ledger: Ledger | None = None,
) -> dict[str, Any]:
    """Makes pairs of clips and captions, and says how that went.

    In the folder are then `pairs-00000.tar` and so on, a clip with its JSON each;
    `rows.jsonl`, all that is known of each; `failures.jsonl`, why others are not among
    them; `receipt.json`. All is sorted by key, and the same to the byte however often
    the run was stopped, and with whatever mapper. `ledger/` is what later runs need not
    compute again.

    Args:
        rows: clips, see `clips`.
        engine: what is done with them.
        output: folder; made if missing.
        limits: of the receipt; None for the usual ones.
        embedder: see `receipt`.
        mapper: takes rows through stages; `InProcesses` is another one, and
            `projects/video_engine` has Apache Beam's.
        ledger: another one than that in the folder.

    Returns:
        The receipt.

    Raises:
        ReceiptError: if the build is above the limits: the rows and the receipt are
            written, the pairs of an earlier build stay.
        TargetBusyError: if another process writes there.
        OSError: if it can't be written. What was computed is in the ledger.

    Source: Perception Encoder, section 2.2.

    Example:
        >>> from PIL import Image
        >>> Path("clips").mkdir()
        >>> Image.new("RGB", (8, 8), "red").save("clips/red.gif")
        >>> from keras_pe.data_engine import (FunctionCaptioner, JoinedCaption,
        ...     RefinedCaption, VideoCaption, clips_of_folder)
        >>> def brightness(frames): return f"brightness {frames.mean():.0f}"
        >>> captioner = FunctionCaptioner(brightness, version="1", image_size=8)
        >>> stages = [VideoCaption(captioner), RefinedCaption({})]
        >>> engine = Engine([*stages, JoinedCaption(["video"])])
        >>> run_engine(clips_of_folder("clips"), engine, "pairs")["most_frequent"]
        'brightness 85'
        >>> sorted(path.name for path in Path("pairs").glob("*.*"))
        ['failures.jsonl', 'pairs-00000.tar', 'receipt.json', 'rows.jsonl']
    """
    folder, waiting = Path(output), clips(rows)
    with only_writer(folder):
        folder.mkdir(exist_ok=True)
        if ledger is None:
            ledger = FolderLedger(folder / LEDGER)
            ledger.clear_unfinished()
        found = without_duplicates(map(with_content, waiting))
        found = _by_key(mapper(found, engine.stages, ledger), waiting)
        if engine.choose is not None:
            found = engine.choose(found)
        if engine.then:
            found = _by_key(mapper(found, engine.then, ledger), waiting)
        found = list(map(_with_caption, found))
        said = receipt(found, embedder)
        done = [row for row in found if FAILURE not in row]
        _write_lines(folder / ROWS, done)
        _write_lines(folder / FAILED, [row for row in found if FAILURE in row])
        write_atomically(
            folder / RECEIPT,
            json.dumps(said, indent=1, sort_keys=True, allow_nan=False) + "\n",
        )
        check_receipt(said, Limits() if limits is None else limits)
        write_pair_shards(folder, done)
    return said


def _by_key(found: Iterable[Row], waiting: Sequence[Row]) -> list[Row]:
    """Returns rows sorted, after a look whether all came back, and none twice."""
    rows = sorted(found, key=lambda row: row[KEY])
    if [row[KEY] for row in rows] != [row[KEY] for row in waiting]:
        raise RuntimeError(
            f"{len(waiting)} rows went into the stages, and others came back: "
            f"{len(rows)}."
        )
    return rows


def _with_caption(row: Row) -> Row:
    """Returns a row, or a failure: a stage of one's own may give a blank caption."""
    if FAILURE in row or not isinstance(row.get("caption"), str):
        return row  # which the receipt refuses, as a mistake of the program
    try:
        clean(row["caption"], "The caption")
    except StageFailure as failure:
        if failure.reason != TOO_LONG:  # how long one's own are is one's own affair
            return failed(row, "caption", failure.reason, failure.detail)
    return row


def _write_lines(path: Path, rows: Sequence[Row]) -> None:
    lines = [canonical(row, f"The values of {row[KEY]}") + "\n" for row in rows]
    write_atomically(path, "".join(lines))
