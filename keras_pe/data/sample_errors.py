"""Samples that cannot be used: the error, and the count of those that were skipped."""

import logging
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, Self

# The values of `SampleError.reason`; an image's are in `preprocessing.image_errors`.
NO_IMAGE = "no image"
NO_CAPTION = "no caption"
DAMAGED_CAPTION = "damaged caption"
NO_ROOM = "no room in the rows"

# How many skipped samples are logged, and how many are kept by name: memory must not
# grow with the length of a run.
NUM_LOGGED = 5
NUM_NAMED = 1000

_log = logging.getLogger(__name__)


class SampleError(ValueError):
    """A sample that cannot be used; raise it from your own functions, too.

    Args:
        reason: a short, fixed string, for counting.
        detail: what was found, what was expected and what to do.

    Example:
        >>> print(SampleError(NO_CAPTION, "Its text is empty."))
        no caption. Its text is empty.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}. {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        return type(self), (self.reason, self.detail)


class TooManySkipped(RuntimeError):
    """More samples are bad than a run allows: a broken data set, not bad luck.

    Example:
        >>> error = TooManySkipped("12 of 100 samples were skipped")
        >>> isinstance(error, RuntimeError)
        True
    """


class SkippedSample(NamedTuple):
    """One sample that another one took the place of.

    Args:
        number: its position in the source.
        key: its key.
        shard: the file it is in.
        reason: one of a few fixed strings, for counting.
        detail: what exactly was wrong.

    Example:
        >>> left_out = SkippedSample(7, "000007", "a.tar", "no caption", "It has none.")
        >>> left_out.key, left_out.reason
        ('000007', 'no caption')
    """

    number: int
    key: str
    shard: str
    reason: str
    detail: str


class SkippedSamples:
    """Every sample a run looked at, and every one it skipped.

    Args:
        max_bad_share: the largest allowed share of skipped samples.
        min_samples: samples to look at before the share is judged.

    Example:
        >>> skipped = SkippedSamples(max_bad_share=0.5)
        >>> skipped.add_batch(3, [SkippedSample(7, "007", "a.tar", NO_CAPTION, "")])
        >>> print(skipped)
        1 of 4 samples skipped: 1 no caption (007 in a.tar)
    """

    def __init__(self, max_bad_share: float = 0.01, min_samples: int = 100) -> None:
        if not 0 <= max_bad_share <= 1:
            raise ValueError(
                f"max_bad_share={max_bad_share!r}: expected a share from 0 (none) to 1."
            )
        self.max_bad_share = float(max_bad_share)
        self.min_samples = int(min_samples)
        self.num_samples = 0
        self.num_skipped = 0
        self.by_reason: Counter[str] = Counter()
        self._named: dict[int, SkippedSample] = {}

    @property
    def named(self) -> list[SkippedSample]:
        """The first thousand different samples that were skipped, in order."""
        return list(self._named.values())

    def add_batch(self, num_rows: int, skipped: Sequence[SkippedSample]) -> None:
        """Adds what a batch says about itself.

        Args:
            num_rows: samples in the batch, all of them good.
            skipped: those left out on the way.

        Raises:
            TooManySkipped: if the share of skipped samples passes the limit.
        """
        self.num_samples += num_rows + len(skipped)
        for sample in skipped:
            if self.num_skipped < NUM_LOGGED:
                _log.warning(
                    "skipped %s in %s: %s. %s",
                    sample.key,
                    sample.shard,
                    sample.reason,
                    sample.detail,
                )
            self.num_skipped += 1
            self.by_reason[sample.reason] += 1
            if len(self._named) < NUM_NAMED:
                self._named.setdefault(sample.number, sample)
        if (
            self.num_samples >= self.min_samples
            and self.num_skipped > self.max_bad_share * self.num_samples
        ):
            raise TooManySkipped(
                f"{self}. max_bad_share={self.max_bad_share:g} allows "
                f"{int(self.max_bad_share * self.num_samples)}. Repair or remove them, "
                "or raise max_bad_share."
            )

    def __str__(self) -> str:
        parts = []
        for reason, count in self.by_reason.most_common():
            names = [
                f"{sample.key} in {sample.shard}"
                for sample in self._named.values()
                if sample.reason == reason
            ]
            more = ", ..." if count > 3 else ""
            parts.append(f"{count} {reason} ({', '.join(names[:3])}{more})")
        head = f"{self.num_skipped} of {self.num_samples} samples skipped"
        return head + (": " + "; ".join(parts) if parts else "")
