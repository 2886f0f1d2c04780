"""One stage on one row: from the ledger, or computed and kept."""

import errno
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

from keras_pe.data_engine.ledger import Ledger, ledger_key
from keras_pe.data_engine.stage import (
    CONTENT,
    FAILURE,
    Row,
    Stage,
    StageFailure,
    canonical,
)

UNEXPECTED = "unexpected error"
# What ends a run: no other row would fare better.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE)


class Loaded:
    """What a stage loads, once a process, when it is first needed by a thread.

    Args:
        stage: whose.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage, self._value, self._there = stage, None, False
        self._lock = threading.Lock()

    def __call__(self) -> Any:
        """Returns it."""
        with self._lock:
            if not self._there:
                self._value, self._there = self._stage.load(), True
        return self._value


def apply_stage(
    stage: Stage,
    row: Row,
    loaded: Callable[[], Any],
    ledger: Ledger,
    count: Callable[[str], None] = lambda what: None,
) -> Row:
    """Returns the row with what the stage gives, or with a failure.

    Args:
        stage: what is done.
        row: with `content`; one with a failure is returned as it is.
        loaded: returns what `stage.load` does; called only if something is computed.
        ledger: read first, written then.
        count: called with "reused", "computed" or "failed", and the stage's name behind
            a space.

    Raises:
        ValueError: if the row has not what the stage reads, or the stage does not give
            what it says: mistakes of the program, not of a clip.
        OSError: if the ledger can't be written, or the disk is full.

    Example:
        >>> from keras_pe.data_engine import FolderLedger, RefinedCaption
        >>> stage, ledger = RefinedCaption({}), FolderLedger("ledger")
        >>> row = {"key": "a", "content": "0a", "video_caption": "an owl"}
        >>> apply_stage(stage, row, Loaded(stage), ledger)["refined_caption"]
        'an owl'
    """
    if FAILURE in row:
        return row
    key = ledger_key(stage, row)
    entry = ledger.read(stage.name, key)
    if entry is None:
        entry, keep = _computed(stage, row, loaded)
        if keep:
            ledger.write(stage.name, key, entry)
        count(f"{'computed' if 'fields' in entry else 'failed'} {stage.name}")
    else:
        count(f"reused {stage.name}")
    if "fields" in entry:
        return {**row, **entry["fields"]}
    return {**row, FAILURE: {"stage": stage.name, **entry["failure"]}}


def _computed(
    stage: Stage, row: Row, loaded: Callable[[], Any]
) -> tuple[dict[str, Any], bool]:
    """Returns the entry, and whether it would be the same again."""
    model = loaded()
    try:
        given = stage.run(model, row)
    except StageFailure as failure:
        said = {"reason": failure.reason, "detail": failure.detail}
        return {"failure": said}, failure.lasting
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            raise
        detail = f"{type(error).__name__}: {str(error)[:300]}"
        return {"failure": {"reason": UNEXPECTED, "detail": detail}}, False
    if not isinstance(given, Mapping) or set(given) != set(stage.gives):
        names = sorted(given) if isinstance(given, Mapping) else type(given).__name__
        raise ValueError(
            f"The stage {stage.name} returned {names} of {row.get('key')!r}, expected "
            f"a dictionary of {sorted(stage.gives)}."
        )
    fields = {name: given[name] for name in stage.gives}
    text = canonical(fields, f"What {stage.name} gives of {row.get('key')!r},")
    return {"fields": json.loads(text)}, True  # as it will come from the ledger


def failed(row: Row, stage: str, reason: str, detail: str) -> Row:
    """Returns a row that goes no further, for a cause outside of a stage."""
    said = {"stage": stage, "reason": reason, "detail": detail}
    return {**row, CONTENT: row.get(CONTENT), FAILURE: said}
