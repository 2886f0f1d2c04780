"""What was left out of a run, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from keras_pe.preprocessing.image_file import PictureError


@dataclass(frozen=True)
class SkippedPicture:
    """One picture that was left out.

    Args:
        index: its position in the sequence of pictures.
        name: its path, or a name made from its position.
        reason: one of a few fixed strings, for counting.
        detail: what exactly was wrong with this one.
    """

    index: int
    name: str
    reason: str
    detail: str


@dataclass
class SkipReport:
    """Every picture a run saw, and every one it skipped.

    Args:
        num_pictures: pictures looked at so far.
        skipped: the ones left out, in order.

    Example:
        >>> report = SkipReport(num_pictures=3)
        >>> report.add(1, PictureError("b.jpg", "empty file", "It has no bytes."))
        >>> print(report)
        1 of 3 pictures skipped: 1 empty file (b.jpg)
    """

    num_pictures: int = 0
    skipped: list[SkippedPicture] = field(default_factory=list)

    def add(self, index: int, error: PictureError) -> None:
        """Record that the picture at `index` was skipped because of `error`."""
        self.skipped.append(
            SkippedPicture(index, error.name, error.reason, error.detail)
        )

    @property
    def num_skipped(self) -> int:
        """How many pictures were skipped."""
        return len(self.skipped)

    @property
    def by_reason(self) -> dict[str, int]:
        """How many pictures were skipped for each reason, most frequent first."""
        return dict(Counter(item.reason for item in self.skipped).most_common())

    @property
    def names(self) -> list[str]:
        """The names of the skipped pictures, in order."""
        return [item.name for item in self.skipped]

    def __str__(self) -> str:
        head = f"{self.num_skipped} of {self.num_pictures} pictures skipped"
        parts = []
        for reason, count in self.by_reason.items():
            names = [item.name for item in self.skipped if item.reason == reason]
            more = ", ..." if count > 3 else ""
            parts.append(f"{count} {reason} ({', '.join(names[:3])}{more})")
        return head + (": " + "; ".join(parts) if parts else "")
