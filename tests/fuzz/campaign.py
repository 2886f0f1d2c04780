"""What a campaign is: valid inputs, ways to spoil them, and what must hold then."""

from pathlib import Path
from typing import Any

from hypothesis import strategies as st

LEAST_TEXT = 12  # characters of an error that says something


class Campaign:
    """One kind of input.

    Attributes:
        name: as on the command line.
        short: cases in the test suite.
        memory_mb: by which a case may raise the process's memory.
        cpu_seconds: processor time that a case may take.
    """

    name = ""
    short = 40
    memory_mb = 400
    cpu_seconds = 8.0

    def prepare(self, folder: Path) -> None:
        """Makes the valid inputs and the right answers; once, before any case."""
        raise NotImplementedError

    def cases(self) -> st.SearchStrategy[Any]:
        """Returns a strategy of cases: Python literals, so that a file can hold one."""
        raise NotImplementedError

    def run(self, case: Any) -> str:
        """Runs a case; returns what happened in a few words.

        Raises:
            AssertionError: if the contract is broken. Any other exception is one that
                a user would have seen raw.
        """
        raise NotImplementedError

    def material(self, case: Any) -> bytes | None:
        """Returns the spoiled file of a case, to be kept beside it; None for none."""
        return None


def require(holds: bool, otherwise: str) -> None:
    """Raises where a contract does not hold: `assert` for inside of `except`."""
    if not holds:
        raise AssertionError(otherwise)


def refused(error: BaseException) -> str:
    """Returns how a documented error is counted; it must say something."""
    text = str(error).strip()
    assert len(text) >= LEAST_TEXT, f"{type(error).__name__} says only {text!r}"
    return f"refused, {type(error).__name__}"
