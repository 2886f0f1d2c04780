"""What makes a run the one that was saved: compared when it is resumed."""

import copy
import json
import logging
from collections.abc import Sequence
from typing import Any

import keras

from keras_pe.training.resolution import PlannedStage
from keras_pe.training.teachers.digest import weights_digest

_log = logging.getLogger(__name__)


def plan_of(
    trainer: keras.Model,
    batch_size: int,
    stages: Sequence[PlannedStage],
    mask_teachers: Sequence[keras.Model] = (),
) -> dict[str, Any]:
    """Returns what decides a run beside its configuration, as JSON gives it back.

    Args:
        trainer: a compiled model; its learning rate is read, so not one in `fit`.
        batch_size: samples of a step.
        stages: of the run.
        mask_teachers: frozen models that the batches ask, before a step.

    Returns:
        `batch_size`, `stages`, the settings of the `optimizer` and, of a stage with
        teachers, a hash of each one's weights, which a checkpoint does not hold.
    """
    plan = {
        "batch_size": batch_size,
        "stages": [list(stage) for stage in stages],
        "optimizer": _settings(trainer.optimizer),
    }
    teachers = getattr(trainer, "teachers", ())
    if teachers:
        plan["teachers"] = [weights_digest(model) for model in teachers]
    if mask_teachers:
        plan["mask_teachers"] = [weights_digest(model) for model in mask_teachers]
    # What JSON does not know is left out of the comparison.
    text = json.dumps(plan, default=lambda _: None)
    return dict(json.loads(text, parse_constant=str))


def _settings(optimizer: Any) -> dict[str, Any]:
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # scales the loss
    try:
        settings = dict(optimizer.get_config())
    except (NotImplementedError, TypeError, ValueError):  # of a user, without one
        return {}
    settings.pop("name", None)
    return settings


def other_plan(
    state: dict[str, Any], plan: dict[str, Any], extended: bool = False
) -> list[str]:
    """Returns what differs from the run that was saved, as `differences` does.

    A checkpoint that says nothing of something, made by an earlier version, agrees.

    Args:
        state: of the checkpoint.
        plan: of this run, from `plan_of`.
        extended: whether stages and learning rate may be other ones.
    """
    other = differences(_known(state, plan), _known(plan, state))
    if extended:
        other = [key for key in other if key != "stages"]
    if extended or "stages" in other:  # schedules follow them
        other = [key for key in other if not key.startswith("optimizer.learning_rate")]
    return other


def _known(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Returns what of one plan another one speaks of too."""
    kept: dict[str, Any] = {
        key: ours[key]
        for key in ("batch_size", "stages", "teachers", "mask_teachers")
        if key in ours and key in theirs
    }
    other = theirs.get("optimizer", {})
    settings = ours.get("optimizer", {})
    kept["optimizer"] = {key: settings[key] for key in settings if key in other}
    return kept


def differences(
    theirs: dict[str, Any], ours: dict[str, Any], prefix: str = ""
) -> list[str]:
    """Returns the keys whose values differ, those of dictionaries inside with dots."""
    differing = []
    for key in sorted({*theirs, *ours}):
        a, b = (values.get(key, "absent") for values in (theirs, ours))
        if isinstance(a, dict) and isinstance(b, dict):
            differing += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            differing.append(prefix + key)
    return differing


# === Configurations that runs wrote before a setting existed ===
# Settings that came later, and what runs did before.
FORMER = {
    "caption_key": None,
    "max_bad_share": 0.01,
    "freeze": "none",
    "num_frames": None,
    "most_shapes": 64,
    "sam_points": 32,
    "sam_keep": "0",
}

# Settings that went since, of runs on shards, where these two decided nothing. Which
# kind of data it was is said by the data now; a run on others keeps saying so.
GONE = ("augmentation", "leave_out")
SHARDS = "shards"


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
        >>> completed({"batch_size": 8}, {"batch_size": 8, "freeze": "none"})["freeze"]
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
            for name in FORMER.keys() & now.keys():
                settings.setdefault(name, FORMER[name])
    data = ours.get("data")
    noted = theirs.get("data", {})
    if data is not None and "digest" not in noted:
        _log.warning(
            "This run began before runs noted what their data hold, so that nobody can "
            "tell whether these are the same data. It goes on with them; from its next "
            "checkpoint on, other data are refused."
        )
        # Runs on drawings noted nothing at all.
        theirs["data"] = {**noted, "digest": data["digest"]} if noted else data
    return theirs
