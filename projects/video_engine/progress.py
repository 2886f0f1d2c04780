"""Says how far rows are, and what failed: a line now and then, never a bar."""

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TextIO

from keras_pe.data_engine import Ledger, Row, Stage
from keras_pe.data_engine.mappers import Mapper
from keras_pe.printable_text import printable

EVERY = 5.0  # seconds between two lines


class Reporting:
    """A mapper that says how far another one is.

    Args:
        mapper: the other one.
        every: seconds between two lines.
        file: where lines go; the error stream by default.
    """

    def __init__(
        self, mapper: Mapper, every: float = EVERY, file: TextIO | None = None
    ) -> None:
        self.mapper, self.every, self.file = mapper, every, file

    def __call__(
        self, rows: Sequence[Row], stages: Sequence[Stage], ledger: Ledger
    ) -> Iterator[Row]:
        """Yields the rows of the other one as they come."""
        names = ", ".join(stage.name for stage in stages) or "no stage"
        self._say(f"{names}: {len(rows):,} clips")
        began = said = time.monotonic()
        reasons, done = Counter[str](), 0
        for row in self.mapper(rows, stages, ledger):
            done += 1
            if "failure" in row:
                reasons[f"{row['failure']['stage']}: {row['failure']['reason']}"] += 1
            if time.monotonic() - said >= self.every:
                said = time.monotonic()
                self._say(_line(done, len(rows), reasons, said - began))
            yield row
        self._say(_line(done, len(rows), reasons, time.monotonic() - began))

    def _say(self, text: str) -> None:
        stream = sys.stderr if self.file is None else self.file
        print(text, file=stream, flush=True)


def _line(done: int, total: int, reasons: Counter[str], seconds: float) -> str:
    most = ", ".join(f"{reason} {n:,}" for reason, n in reasons.most_common(3))
    text = f"{done:,} of {total:,} clips in {seconds:,.0f} s"
    return printable(f"{text}; failed: {most}" if most else text)
