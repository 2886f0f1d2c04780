"""What a stage of a data engine is: from a row to more of the row, or to a failure."""

import json
import math
from collections.abc import Mapping
from typing import Any, Protocol

# One clip: JSON values by name. `key` is what it is called, `path` where it lies,
# `content` the SHA-256 of its bytes, `failure` why it went no further.
Row = dict[str, Any]
KEY, PATH, CONTENT, FAILURE = "key", "path", "content", "failure"
_OWN = frozenset((KEY, PATH, CONTENT, FAILURE))


class StageFailure(Exception):
    """A row that a stage can't take further; the others go on.

    Args:
        reason: a few words, equal for equal causes: failures are counted by it.
        detail: what was found, expected, and what to do.
        lasting: whether it would be so again: of an endpoint that did not answer it is
            not known, and the row is tried again in the next run.

    Example:
        >>> raise StageFailure("stands still", "Motion 0.0.")
        Traceback (most recent call last):
        keras_pe.data_engine.stage.StageFailure: stands still. Motion 0.0.
    """

    def __init__(self, reason: str, detail: str = "", lasting: bool = True) -> None:
        super().__init__(f"{reason}. {detail}".strip())
        self.reason, self.detail, self.lasting = reason, detail, lasting

    def __reduce__(self) -> Any:  # it travels between processes
        return type(self), (self.reason, self.detail, self.lasting)


class Stage(Protocol):
    """A pure function of a row.

    What it gives depends on its settings, and on what it reads of the row, alone: not
    on other rows, the time or the machine. So its result is kept under these, and never
    computed twice.

    Attributes:
        name: of the stage, of letters, digits and `_`.
        reads: names of what it reads of a row, but for the clip itself.
        gives: names of what it adds.

    Example:
        >>> class Length:
        ...     name, reads, gives = "length", ("caption",), ("words",)
        ...     def settings(self): return {}
        ...     def load(self): return None
        ...     def run(self, loaded, row):
        ...         return {"words": len(row["caption"].split())}
        >>> stage: Stage = Length()
        >>> stage.run(stage.load(), {"caption": "an owl"})
        {'words': 2}
    """

    @property
    def name(self) -> str: ...

    @property
    def reads(self) -> tuple[str, ...]: ...

    @property
    def gives(self) -> tuple[str, ...]: ...

    def settings(self) -> Mapping[str, Any]:
        """Returns what its result depends on, but for the row: JSON values.

        Of a model that is its name and a hash of its weights.
        """

    def load(self) -> Any:
        """Returns what `run` needs, such as a model: called once a process."""

    def run(self, loaded: Any, row: Row) -> Mapping[str, Any]:
        """Returns the values of `gives`, which are JSON.

        Args:
            loaded: what `load` returned.
            row: with `path`, and what it reads.

        Raises:
            StageFailure: if this row goes no further.
        """


def check_stage(stage: Stage) -> None:
    """Refuses a stage that is none, before it has cost anything.

    Raises:
        TypeError: if something of `Stage` is missing.
        ValueError: if its names are not sound, or its settings are no JSON.
    """
    missing = [
        name
        for name in ("name", "reads", "gives", "settings", "load", "run")
        if not hasattr(stage, name)
    ]
    if missing:
        raise TypeError(
            f"{stage!r:.80} is no stage: it has no {', '.join(missing)}. "
            f"See keras_pe.data_engine.Stage."
        )
    if not isinstance(stage.name, str) or not stage.name.isidentifier():
        raise ValueError(
            f"The stage {stage.name!r}: expected a name of letters, digits and '_'."
        )
    for said in ("reads", "gives"):
        names = getattr(stage, said)
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{stage.name}: {said}={names!r}, expected names.")
    if _OWN & set(stage.gives) or not stage.gives:
        raise ValueError(
            f"{stage.name} gives {stage.gives!r}: expected at least one name, none of "
            f"{', '.join(sorted(_OWN))}."
        )
    canonical(stage.settings(), f"The settings of {stage.name}")


def canonical(value: Any, what: str) -> str:
    """Returns JSON that is the same for equal values, to be hashed or compared.

    Raises:
        ValueError: if it is no JSON, or a number is not finite.
    """
    try:
        return json.dumps(
            value, sort_keys=True, ensure_ascii=True, allow_nan=False, default=_plain
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{what} are no JSON values: {error}.") from None


def _plain(value: Any) -> Any:
    """Returns NumPy's numbers as Python's."""
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return value.item()
    raise TypeError(f"a {type(value).__name__}")


def check_number(name: str, value: Any, least: float = 0.0) -> float:
    """Returns a finite number of at least `least`, or says what is wrong."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < least:
        raise ValueError(f"{name}={value!r}: expected a number of at least {least}.")
    return float(value)
