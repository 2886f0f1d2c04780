"""Configurations that runs wrote before a setting existed.

A resume compares the configuration of its checkpoint with its own. What a checkpoint
says nothing of, because its program knew nothing of it, must not lose the run.
"""

import copy
import logging
from typing import Any

# Settings that came later, and what runs did before.
FORMER = {"caption_key": None, "max_bad_share": 0.01, "freeze": "none"}

# Settings that went since, of runs on shards, where these two decided nothing. Which
# kind of data it was is said by the data now; a run on others keeps saying so.
GONE = ("augmentation", "leave_out")
SHARDS = "shards"

_log = logging.getLogger(__name__)


def completed(theirs: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """Returns the configuration of a checkpoint with what it could not say yet.

    Settings count as what runs did before there was a choice. What the shards hold was
    not noted by older runs: names and counts are compared as ever, the rest is taken
    on trust, with a warning, and noted from the next checkpoint on.

    Args:
        theirs: the checkpoint's configuration.
        ours: of the run that goes on.

    Returns:
        What is to be compared with `ours`.

    Example:
        >>> completed({"batch_size": 8}, {"batch_size": 8})["freeze"]
        'none'
    """
    theirs = copy.deepcopy(theirs)
    for part in (None, "student"):  # of a distillation
        settings = theirs if part is None else theirs.get(part)
        if not isinstance(settings, dict):
            continue
        now = ours if part is None else ours.get(part, {})
        gone = (*GONE, "dataset") if settings.get("dataset") == SHARDS else GONE
        for name in gone:
            if name not in now:
                settings.pop(name, None)
        if "batch_size" in settings:
            for name, value in FORMER.items():
                settings.setdefault(name, value)
    data = ours.get("data")
    noted = theirs.get("data", {})
    if data is not None and "digest" not in noted:
        _log.warning(
            "This run began before runs noted what their data hold, so that nobody can "
            "tell whether these are the same data. It goes on with them; from its next "
            "checkpoint on, other data are refused."
        )
        # Runs on emoji noted nothing at all.
        theirs["data"] = {**noted, "digest": data["digest"]} if noted else data
    return theirs
